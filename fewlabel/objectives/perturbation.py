"""The noisy example that every loss begins with, and the score-matching error that many end in."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fewlabel.objectives.times import Times
from fewlabel.process import Process, broadcast
from fewlabel.randomness import StepRandom
from fewlabel.score import score_weight

__all__ = ["Perturbed", "Weight", "perturb", "score_matching"]

Weight = Callable[[Process, Tensor, float], Tensor]
"""λ(t): (process, t: (B,), σ_data) → (B,)."""


@dataclass(frozen=True)
class Perturbed:
    """x_t = α(t) x0 + σ(t) z, (B, ...), at the times t, (B,), with its score −z/σ(t)."""

    x: Tensor
    t: Tensor
    score: Tensor


def perturb(process: Process, times: Times, x0: Tensor, random: StepRandom) -> Perturbed:
    """Perturb clean examples x0 (B, ...) at random times of a distribution."""
    t = times.quantile(random.quantiles_like(x0), process)
    noise = random.normal_like(x0)
    score = -noise / broadcast(process.sigma(t), noise)
    return Perturbed(process.perturb(x0, t, noise), t, score)


def score_matching(
    score: Tensor,
    perturbed: Perturbed,
    process: Process,
    sigma_data: float,
    weight: Weight = score_weight,
) -> Tensor:
    """λ(t)/D · ½‖s + z/σ‖² of each example, (B,): a mean over the D dimensions.

    Its expectation is least where s = ∇ log p_t (Vincent 2011, "A Connection Between Score
    Matching and Denoising Autoencoders"). With λ = `score_weight` and the mean, the loss is of
    order one whatever the noise level and the size of the images.

    Args:
        score: (B, ...).
        perturbed: where it is the score.
        process: the noise process.
        sigma_data: σ_d, the standard deviation of the data.
        weight: λ as a function of the process, the times (B,) and σ_d.
    """
    square = (score - perturbed.score).square().flatten(1).mean(1)
    return weight(process, perturbed.t, sigma_data) * square / 2
