import math

import pytest
import torch
from objective_cases import PROCESS, SIGMA_DATA, Record, mlp_classifier, points
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives import SelfCalibration
from fewlabel.process import EDM, VE
from fewlabel.randomness import StepRandom


@pytest.mark.parametrize("process", [PROCESS, VE(0.02, 20.0)], ids=["edm", "ve"])
def test_self_calibration_against_its_formula(process: EDM | VE) -> None:
    """λ/D · ½‖∇ logsumexp f + z/σ‖² with λ = σ² (1 + σ²/σ_d²), sample by sample."""
    model, batch = mlp_classifier(), points(20)
    model.process = process
    record = Record(model)
    values = SelfCalibration(model)(batch, StepRandom(0, 0))
    times, noisy = record.t, record.x
    for i, value in enumerate(values.tolist()):
        x = noisy[i : i + 1].clone().requires_grad_()
        (score,) = torch.autograd.grad(model(x, times[i]).exp().sum().log(), x)
        sigma = process.sigma(times[i])
        noise = (noisy[i] - batch.x[i]) / sigma
        weight = sigma**2 * (1 + (sigma / SIGMA_DATA) ** 2)
        expected = weight * (score[0] + noise / sigma).square().mean() / 2
        assert value == pytest.approx(expected.item(), rel=1e-9)


class Gaussian(nn.Module):
    """Logits that add nothing to the quadratic energy."""

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        return 0 * u[:, :1]


def test_the_quadratic_energy_alone_has_a_loss_of_one_half() -> None:
    """Its internal score is exact for N(0, σ_d² I): per dimension E λ½(s + z/σ)² = ½."""
    n, dimensions = 8000, 4
    generator = torch.Generator().manual_seed(0)
    x = SIGMA_DATA * torch.randn(n, dimensions, generator=generator, dtype=torch.float64)
    term = SelfCalibration(NoisyClassifier(Gaussian(), PROCESS, SIGMA_DATA))
    values = term(Batch(x, torch.zeros(n, dtype=torch.long)), StepRandom(0, 0))
    standard_error = math.sqrt(1 / 2 / dimensions / n)
    assert abs(values.mean().item() - 1 / 2) < 4 * standard_error
