"""Heun's second-order method for the probability-flow ODE, in the coordinates (x/α, r)."""

from itertools import pairwise

from torch import Tensor

from fewlabel.process import Process
from fewlabel.score import ScoreFunction

__all__ = ["heun"]


def heun(score: ScoreFunction, process: Process, x: Tensor, times: Tensor) -> Tensor:
    """Integrate du/dr = −σ s(αu, t), u = x/α, with the explicit trapezoidal rule.

    Karras et al. 2022, arXiv 2206.00364, algorithm 1. Order 2; two evaluations a step.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).

    Returns:
        The samples at times[-1], shaped like x.
    """

    def slope(u: Tensor, t: Tensor) -> Tensor:
        return -process.sigma(t) * score(process.alpha(t) * u, t)

    u = x / process.alpha(times[0])
    for t, s in pairwise(times):
        h = process.noise_ratio(s) - process.noise_ratio(t)
        first = slope(u, t)
        u = u + h * (first + slope(u + h * first, s)) / 2
    return process.alpha(times[-1]) * u
