"""DDIM and ancestral sampling: one family, from no fresh noise to all of the posterior's."""

import torch
from torch import Tensor

from fewlabel.samplers.loop import Step

__all__ = ["ddim"]


def ddim(step: Step, s: Tensor, eta: float = 0.0) -> Tensor:
    """Go to the denoised sample and back to noise, of which a part is fresh.

    With D = E[x0 | x_t], r = σ/α and c = η σ_s √(1 − r_s²/r_t²),

        x_s = α_s D + √(σ_s² − c²) (x_t − α_t D)/σ_t + c z

    At η = 0 nothing is random and the step is the exponential Euler step of the
    probability-flow ODE; at η = 1 it draws from the posterior p(x_s | x_t, x0 = D), which is
    ancestral sampling. Song, Meng & Ermon 2021, arXiv 2010.02502, eq. 12 and 16; η = 1 is Ho et
    al. 2020, arXiv 2006.11239. Order 1 (η > 0: weak order 1); one evaluation a step.

    Args:
        step: the samples at time t.
        s: the time to go to, ().
        eta: η in [0, 1], the share of the posterior's standard deviation that is fresh.
    """
    process, t, clean = step.process, step.t, step.denoised
    noise = (step.x - process.alpha(t) * clean) / process.sigma(t)
    shrink = process.noise_ratio(s) / process.noise_ratio(t)
    fresh = eta * torch.sqrt(1 - shrink**2)
    x = process.alpha(s) * clean + process.sigma(s) * torch.sqrt(1 - fresh**2) * noise
    return x + process.sigma(s) * fresh * step.noise() if eta else x
