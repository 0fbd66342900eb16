"""Predictor–corrector sampling and its simpler sibling, Euler–Maruyama: the reverse SDE."""

import torch
from torch import Tensor

from fewlabel.samplers.loop import Step

__all__ = ["euler_maruyama", "predictor_corrector"]


def euler_maruyama(step: Step, s: Tensor) -> Tensor:
    """The reverse SDE dx = [f x − g² s] dt + g dw̄, with f, g and s kept at a step's first time.

    Song et al. 2021, arXiv 2011.13456, section 4.1. Weak order 1; one evaluation a step.
    """
    t, g = step.t, step.process.diffusion(step.t)
    slope = step.process.drift(t) * step.x - g**2 * step.score
    return step.x + (s - t) * slope + g * torch.sqrt(t - s) * step.noise()


def predictor_corrector(step: Step, s: Tensor, signal_to_noise: float = 0.16) -> Tensor:
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
        step: the samples at time t.
        s: the time to go to, (); from t to t there is the corrector alone.
        signal_to_noise: r of the corrector.
    """
    process, x, t = step.process, step.x, step.t
    a = process.alpha(t) / process.alpha(s)
    variance = process.sigma(t) ** 2 - (a * process.sigma(s)) ** 2
    x = (2 - a) * x + variance * step.score + variance.sqrt() * step.noise()
    epsilon = 2 * (a * signal_to_noise * process.sigma(s)) ** 2
    return x + epsilon * step.score_function(x, s) + torch.sqrt(2 * epsilon) * step.noise()
