"""Heun's second-order method for the probability-flow ODE, in the coordinates (x/α, r)."""

from torch import Tensor

from fewlabel.samplers.loop import Step

__all__ = ["heun"]


def heun(step: Step, s: Tensor) -> Tensor:
    """Integrate du/dr = −σ s(αu, t), u = x/α, with the explicit trapezoidal rule.

    Karras et al. 2022, arXiv 2206.00364, algorithm 1. Order 2; two evaluations a step.
    """
    process, t, u = step.process, step.t, step.memory.get("u")

    def slope(u: Tensor, t: Tensor) -> Tensor:
        return -process.sigma(t) * step.score_function(process.alpha(t) * u, t)

    h = process.noise_ratio(s) - process.noise_ratio(t)
    if u is None:  # dividing by α rounds: from here on x = αu to the last digit
        u = step.x / process.alpha(t)
        first = slope(u, t)
    else:
        first = -process.sigma(t) * step.score
    step.memory["u"] = u = u + h * (first + slope(u + h * first, s)) / 2
    return process.alpha(s) * u
