"""DPM-Solver++(2M): second-order multistep methods for the probability-flow ODE and the SDE."""

import torch
from torch import Tensor

from fewlabel.samplers.loop import Step

__all__ = ["dpm_solver_2m", "sde_dpm_solver_2m"]


def dpm_solver_2m(step: Step, s: Tensor) -> Tensor:
    """One evaluation a step; the previous one is used again for the second order.

    With λ = log(α/σ), h = λ_s − λ_t, and D the denoised sample extrapolated to the step's middle,
    x_s = (σ_s/σ_t) x_t + α_s (1 − e^{−h}) D. Lu et al. 2022, arXiv 2211.01095, algorithm 2.
    Order 2.
    """
    process, (middle, h) = step.process, _in_the_middle(step, s)
    x = process.sigma(s) / process.sigma(step.t) * step.x
    return x - process.alpha(s) * torch.expm1(-h) * middle


def sde_dpm_solver_2m(step: Step, s: Tensor) -> Tensor:
    """The same for the reverse SDE, whose noise is integrated exactly.

    x_s = (σ_s/σ_t) e^{−h} x_t + α_s (1 − e^{−2h}) D + σ_s √(1 − e^{−2h}) z, in the notation of
    `dpm_solver_2m`. Lu et al. 2022, arXiv 2211.01095. Weak order 2; one evaluation a step.
    """
    process, (middle, h) = step.process, _in_the_middle(step, s)
    fresh = -torch.expm1(-2 * h)
    x = process.sigma(s) / process.sigma(step.t) * torch.exp(-h) * step.x
    x = x + process.alpha(s) * fresh * middle
    return x + process.sigma(s) * fresh.sqrt() * step.noise()


def _in_the_middle(step: Step, s: Tensor) -> tuple[Tensor, Tensor]:
    """The denoised sample in the middle of the step, by the line through two estimates; and h."""
    h = torch.log(step.process.noise_ratio(step.t) / step.process.noise_ratio(s))
    previous = step.memory.get("estimate")
    step.memory["estimate"] = step.denoised, h
    if previous is None:
        return step.denoised, h
    clean, previous_h = previous
    return step.denoised + (step.denoised - clean) * h / (2 * previous_h), h
