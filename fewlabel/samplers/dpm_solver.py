"""DPM-Solver++(2M): a second-order multistep method for the probability-flow ODE."""

from itertools import pairwise

import torch
from torch import Tensor

from fewlabel.process import Process
from fewlabel.score import ScoreFunction, denoised

__all__ = ["dpm_solver_2m"]


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
    previous: tuple[Tensor, Tensor] | None = None  # the last denoised sample and its step h
    for t, s in pairwise(times):
        h = torch.log(process.noise_ratio(t) / process.noise_ratio(s))
        current = denoised(score(x, t), x, t, process)
        middle = current
        if previous is not None:
            middle = current + (current - previous[0]) * h / (2 * previous[1])
        x = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * torch.expm1(-h) * middle
        previous = current, h
    return x
