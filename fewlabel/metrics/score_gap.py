"""The gap between a classifier's internal score and that of a score model."""

from typing import Protocol

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import finite
from fewlabel.metrics.intervals import Estimate, over_seeds
from fewlabel.process import Process
from fewlabel.randomness import generator_for
from fewlabel.score import ScoreFunction

__all__ = ["HasInternalScore", "internal_score_gap"]

_BATCH = 256


class HasInternalScore(Protocol):
    """What is measured, such as `fewlabel.classifier.NoisyClassifier`."""

    process: Process

    def internal_score(self, x: Tensor, t: Tensor) -> Tensor:
        """s_φ(x,t) = ∇_x logsumexp_y f(x,t)_y; shaped like x."""


def internal_score_gap(
    classifier: HasInternalScore,
    score_model: ScoreFunction,
    x0: Tensor,
    sigma: float,
    *,
    seed: int = 0,
) -> Estimate:
    """How far a classifier's internal score is from a score model, at one noise level.

    E σ(t)² ‖s_φ(x_t,t) − s_θ(x_t,t)‖² / D over x0 and noise: 0 if they agree, and at high noise
    about 1 if the internal score is 0. It is what self-calibration promises (Huang, Chen & Lin
    2023, arXiv 2307.04081) and needs no exact score; as s_θ is an estimate, so is the gap.

    Args:
        classifier: its `internal_score` and its noise process.
        score_model: s_θ, of the same process.
        x0: (N, ...) data on the device of the models, N ≥ 2; D is the number of values in a row.
        sigma: the noise ratio σ/α, greater than 0.
        seed: the seed of the noise, one draw for each x0.

    Returns:
        The mean in [0, ∞) and Student's interval over the N samples.

    Raises:
        UserError: too few samples, a noise ratio that is none, or values that are not finite.
    """
    finite(x0, "x0")
    if not 0 < sigma < float("inf"):
        raise UserError(f"sigma {sigma:g}: give a noise ratio greater than 0")
    process, generator = classifier.process, generator_for("internal score gap", seed)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    t = process.time_at(torch.tensor(sigma, dtype=x0.dtype, device=x0.device))
    gaps = []
    for data, z in zip(x0.split(_BATCH), noise.split(_BATCH), strict=True):
        x = process.perturb(data, t.expand(len(data)), z)
        with torch.no_grad():
            difference = classifier.internal_score(x, t) - score_model(x, t)
        gaps.append(difference.flatten(1).double().square().mean(1))
    return over_seeds((process.sigma(t).double() ** 2 * torch.cat(gaps)).tolist())
