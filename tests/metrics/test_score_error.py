import math

import pytest
import torch
from mixtures import three_classes

from fewlabel.errors import UserError
from fewlabel.metrics.score_error import (
    Fields,
    exact_fields,
    noisy_points,
    plane_grid,
    score_errors,
)
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM


def two_normals() -> GaussianMixture:
    """Classes at ∓2 on the line, of variance 0.5."""
    means = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    stds = torch.full((2,), math.sqrt(0.5), dtype=torch.float64)
    return GaussianMixture(torch.ones(2, dtype=torch.float64), means, stds)


def test_exact_fields_are_the_closed_forms() -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    sigma, variance = 1.5, 0.5 + 1.5**2
    fields = exact_fields(two_normals(), EDM(0.01, 20.0), sigma, x, 1)
    other = torch.sigmoid(-4 * x / variance)  # p(class 0 | x)
    assert fields.likelihood is not None
    assert fields.prior is not None
    torch.testing.assert_close(fields.posterior, (2 - x) / variance)
    torch.testing.assert_close(fields.likelihood, other * 4 / variance)
    torch.testing.assert_close(fields.prior, fields.posterior - fields.likelihood)


def test_errors_are_mean_norms_of_the_differences() -> None:
    exact = Fields(torch.zeros(2, 2), torch.ones(2, 2), torch.zeros(2, 2))
    shifted = Fields(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.ones(2, 2))
    assert score_errors(shifted, exact) == {"D_P": 3.0, "D_L": 0.0}
    nothing = Fields(exact.posterior, torch.zeros(2, 2), exact.prior)
    assert score_errors(nothing, exact)["D_L"] == pytest.approx(math.sqrt(2))
    assert score_errors(exact, exact) == {"D_P": 0.0, "D_L": 0.0, "D_S": 0.0}


def test_refuses_scores_at_other_points() -> None:
    with pytest.raises(UserError, match="same points"):
        score_errors(Fields(torch.zeros(3, 2)), Fields(torch.zeros(4, 2)))


def test_the_grid_has_its_corners_and_an_even_step() -> None:
    grid = plane_grid((-4.0, -2.0), (4.0, 2.0), 5)
    assert grid.shape == (25, 2)
    assert grid[0].tolist() == [-4.0, -2.0]
    assert grid[-1].tolist() == [4.0, 2.0]
    assert grid[:, 0].unique().tolist() == [-4.0, -2.0, 0.0, 2.0, 4.0]


def test_noisy_points_have_the_moments_of_the_perturbed_mixture() -> None:
    mixture, sigma, n = three_classes(), 0.8, 20_000
    generator = torch.Generator().manual_seed(0)
    x, y = noisy_points(mixture, EDM(0.01, 20.0), sigma, n, generator)
    for k in range(3):
        of_class = x[y == k]
        std = math.hypot(float(mixture.stds[k]), sigma)
        assert (of_class.mean(0) - mixture.means[k]).abs().max() < 4 * std / len(of_class) ** 0.5
        assert (of_class.std(0) / std - 1).abs().max() < 4 / (2 * len(of_class)) ** 0.5
