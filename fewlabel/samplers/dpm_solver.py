"""DPM-Solver++(2M): second-order multistep methods for the probability-flow ODE and the SDE."""

from itertools import pairwise

import torch
from torch import Tensor

from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.score import ScoreFunction, denoised

__all__ = ["dpm_solver_2m", "sde_dpm_solver_2m"]

Estimate = tuple[Tensor, Tensor]
"""A denoised sample and the step h = λ_s − λ_t, λ = log(α/σ), that starts at its time."""


def dpm_solver_2m(score: ScoreFunction, process: Process, x: Tensor, times: Tensor) -> Tensor:
    """One evaluation a step; the previous one is used again for the second order.

    With λ = log(α/σ), h = λ_s − λ_t, and D the denoised sample extrapolated to the step's middle,
    x_s = (σ_s/σ_t) x_t + α_s (1 − e^{−h}) D. Lu et al. 2022, arXiv 2211.01095, algorithm 2.
    Order 2.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).

    Returns:
        The samples at times[-1], shaped like x.
    """
    previous = None
    for t, s in pairwise(times):
        current = _estimate(score, process, x, t, s)
        middle, h = _in_the_middle(current, previous), current[1]
        x = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * torch.expm1(-h) * middle
        previous = current
    return x


def sde_dpm_solver_2m(
    score: ScoreFunction, process: Process, x: Tensor, times: Tensor, random: SampleRandom
) -> Tensor:
    """The same for the reverse SDE, whose noise is integrated exactly.

    x_s = (σ_s/σ_t) e^{−h} x_t + α_s (1 − e^{−2h}) D + σ_s √(1 − e^{−2h}) z, in the notation of
    `dpm_solver_2m`. Lu et al. 2022, arXiv 2211.01095. Weak order 2; one evaluation a step.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).
        random: the noise of each sample.

    Returns:
        The samples at times[-1], shaped like x.
    """
    previous = None
    for t, s in pairwise(times):
        current = _estimate(score, process, x, t, s)
        middle, h = _in_the_middle(current, previous), current[1]
        fresh = -torch.expm1(-2 * h)
        x = process.sigma(s) / process.sigma(t) * torch.exp(-h) * x
        x = x + process.alpha(s) * fresh * middle
        x = x + process.sigma(s) * fresh.sqrt() * random.normal_like(x)
        previous = current
    return x


def _estimate(score: ScoreFunction, process: Process, x: Tensor, t: Tensor, s: Tensor) -> Estimate:
    h = torch.log(process.noise_ratio(t) / process.noise_ratio(s))
    return denoised(score(x, t), x, t, process), h


def _in_the_middle(current: Estimate, previous: Estimate | None) -> Tensor:
    """The denoised sample in the middle of the step, by the line through two estimates."""
    if previous is None:
        return current[0]
    return current[0] + (current[0] - previous[0]) * current[1] / (2 * previous[1])
