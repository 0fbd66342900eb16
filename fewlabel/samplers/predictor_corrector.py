"""Predictor–corrector sampling and its simpler sibling, Euler–Maruyama: the reverse SDE."""

from itertools import pairwise

import torch
from torch import Tensor

from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.score import ScoreFunction

__all__ = ["euler_maruyama", "predictor_corrector"]


def euler_maruyama(
    score: ScoreFunction, process: Process, x: Tensor, times: Tensor, random: SampleRandom
) -> Tensor:
    """The reverse SDE dx = [f x − g² s] dt + g dw̄, with f, g and s kept at a step's first time.

    Song et al. 2021, arXiv 2011.13456, section 4.1. Weak order 1; one evaluation a step.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).
        random: the noise of each sample.

    Returns:
        The samples at times[-1], shaped like x.
    """
    for t, s in pairwise(times):
        g = process.diffusion(t)
        slope = process.drift(t) * x - g**2 * score(x, t)
        x = x + (s - t) * slope + g * torch.sqrt(t - s) * random.normal_like(x)
    return x


def predictor_corrector(
    score: ScoreFunction,
    process: Process,
    x: Tensor,
    times: Tensor,
    random: SampleRandom,
    signal_to_noise: float = 0.16,
) -> Tensor:
    """A reverse-diffusion step to each time, then a step of Langevin dynamics that stays there.

    The forward process goes from s to t > s by x_t = a x_s + G z with a = α_t/α_s and
    G² = σ_t² − a² σ_s². Predictor and corrector are

        x ← (2 − a) x + G² s(x, t) + G z
        x ← x + ε s(x, s) + √(2ε) z,        ε = 2 a² (r σ_s)²

    Song et al. 2021, arXiv 2011.13456, algorithms 2 to 5. Their step is ε = 2 a² (r‖z‖/‖s‖)² with
    norms averaged over the batch, which would make a sample depend on the others. The norms of
    the sample itself are no way out: a step that depends on x draws from p_t ‖s‖², not from p_t.
    So both norms stand at their size under noise alone, √D and √D/σ, as in the annealed dynamics
    of Song & Ermon 2019, arXiv 1907.05600; what is left is a bias of order r².

    Weak order 1 of the predictor; two evaluations a step.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: not increasing, (N,); between equal times there is the corrector alone.
        random: the noise of each sample.
        signal_to_noise: r of the corrector.

    Returns:
        The samples at times[-1], shaped like x.
    """
    for t, s in pairwise(times):
        a = process.alpha(t) / process.alpha(s)
        variance = process.sigma(t) ** 2 - (a * process.sigma(s)) ** 2
        x = (2 - a) * x + variance * score(x, t) + variance.sqrt() * random.normal_like(x)
        epsilon = 2 * (a * signal_to_noise * process.sigma(s)) ** 2
        x = x + epsilon * score(x, s) + torch.sqrt(2 * epsilon) * random.normal_like(x)
    return x
