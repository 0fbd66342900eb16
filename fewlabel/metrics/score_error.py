"""The error of estimated scores where the exact ones are known.

By Bayes' rule the score of a class is prior plus likelihood score,
s*(x,t|y) = s*(x,t) + g*(x,t,y). An estimate of each has an error, a mean of Euclidean norms:

    D_S = E‖s − s*‖             the prior score ∇_x log p_t(x)
    D_L = E‖g − g*‖             the likelihood score ∇_x log p_t(y|x)
    D_P = E‖(s + g) − s*(·|y)‖  the posterior score ∇_x log p_t(x|y)

Chao et al. 2022, "Denoising Likelihood Score Matching for Conditional Score-based Data
Generation", arXiv 2203.14206, take the mean over a grid. A mean over points of p_t weighs a place
by how often a sampler is there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabel.batch import labels_of
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import Process

__all__ = ["Fields", "exact_fields", "noisy_points", "plane_grid", "score_errors"]

_NAMES = {"posterior": "D_P", "likelihood": "D_L", "prior": "D_S"}


@dataclass(frozen=True)
class Fields:
    """Score vectors at B points, each (B, D), or None where a model has no such score.

    Attributes:
        posterior: of p_t(x|y).
        likelihood: of p_t(y|x).
        prior: of p_t(x).
    """

    posterior: Tensor
    likelihood: Tensor | None = None
    prior: Tensor | None = None


def exact_fields(
    mixture: GaussianMixture, process: Process, sigma: float, x: Tensor, y: int | Tensor
) -> Fields:
    """The exact scores of a mixture at one noise ratio.

    Args:
        mixture: the data.
        process: the noise process.
        sigma: the noise ratio σ/α, greater than 0.
        x: points, (B, D).
        y: the class whose scores are meant, () or (B,).

    Raises:
        UserError: for a class that the mixture has not.
    """
    t = process.time_at(torch.tensor(sigma, dtype=x.dtype))
    labels = labels_of(y, x)
    prior = mixture.score(process)(x, t)
    posterior = mixture.class_score(process)(x, t, labels)
    return Fields(posterior, posterior - prior, prior)


def score_errors(estimate: Fields, exact: Fields) -> dict[str, float]:
    """D_P, D_L and D_S: means over the points of the norms of the differences.

    Args:
        estimate: the scores of a model.
        exact: the exact scores at the same points.

    Returns:
        The figures by name, without those of the scores that the model does not have.

    Raises:
        UserError: if the two are not of the same points.
    """
    figures = {}
    for name, metric in _NAMES.items():
        found, true = getattr(estimate, name), getattr(exact, name)
        if found is None or true is None:
            continue
        if found.shape != true.shape:
            raise UserError(
                f"{name} scores have shapes {tuple(found.shape)} and {tuple(true.shape)}: "
                "give both at the same points"
            )
        figures[metric] = float((found - true).double().norm(dim=1).mean())
    return figures


def plane_grid(low: tuple[float, float], high: tuple[float, float], n: int) -> Tensor:
    """The n × n points of a regular grid in the plane, corners included, (n², 2)."""
    axes = [torch.linspace(a, b, n) for a, b in zip(low, high, strict=True)]
    return torch.cartesian_prod(*axes)


def noisy_points(
    mixture: GaussianMixture,
    process: Process,
    sigma: float,
    n: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw n pairs (x_t, y) of p_t(x, y) at the noise ratio σ/α = sigma: (n, D) and (n,)."""
    x0, y = mixture.sample(n, generator)
    t = process.time_at(torch.tensor(sigma, dtype=x0.dtype)).expand(n)
    return process.perturb(x0, t, torch.randn(x0.shape, generator=generator, dtype=x0.dtype)), y
