"""The noisy example that every loss begins with, and the score-matching error that many end in."""

from dataclasses import dataclass

from torch import Tensor

from fewlabel.process import Process, broadcast
from fewlabel.randomness import StepRandom
from fewlabel.score import score_weight

__all__ = ["Perturbed", "perturb", "score_matching"]


@dataclass(frozen=True)
class Perturbed:
    """x_t = α(t) x0 + σ(t) z, (B, ...), at the times t, (B,), with its score −z/σ(t)."""

    x: Tensor
    t: Tensor
    score: Tensor


def perturb(process: Process, x0: Tensor, random: StepRandom) -> Perturbed:
    """Perturb clean examples x0 (B, ...) at times of the process's training distribution."""
    t = process.training_time(random.quantiles_like(x0))
    noise = random.normal_like(x0)
    score = -noise / broadcast(process.sigma(t), noise)
    return Perturbed(process.perturb(x0, t, noise), t, score)


def score_matching(
    score: Tensor, perturbed: Perturbed, process: Process, sigma_data: float
) -> Tensor:
    """λ(t)/D · ½‖s + z/σ‖² of each example, (B,): a mean over the D dimensions.

    Its expectation is least where s = ∇ log p_t (Vincent 2011, "A Connection Between Score
    Matching and Denoising Autoencoders"). λ is `score_weight`; with the mean, the loss is of
    order one whatever the noise level and the size of the images.
    """
    square = (score - perturbed.score).square().flatten(1).mean(1)
    return score_weight(process, perturbed.t, sigma_data) * square / 2
