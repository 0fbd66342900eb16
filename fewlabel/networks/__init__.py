"""Networks: any module with forward(u, c_noise) serves; these are the ones that come along."""
