"""DDIM and ancestral sampling: one family, from no fresh noise to all of the posterior's."""

from itertools import pairwise

import torch
from torch import Tensor

from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.score import ScoreFunction, denoised

__all__ = ["ddim"]


def ddim(
    score: ScoreFunction,
    process: Process,
    x: Tensor,
    times: Tensor,
    random: SampleRandom,
    eta: float = 0.0,
) -> Tensor:
    """Go to the denoised sample and back to noise, of which a part is fresh.

    With D = E[x0 | x_t], r = σ/α and c = η σ_s √(1 − r_s²/r_t²),

        x_s = α_s D + √(σ_s² − c²) (x_t − α_t D)/σ_t + c z

    At η = 0 nothing is random and the step is the exponential Euler step of the
    probability-flow ODE; at η = 1 it draws from the posterior p(x_s | x_t, x0 = D), which is
    ancestral sampling. Song, Meng & Ermon 2021, arXiv 2010.02502, eq. 12 and 16; η = 1 is Ho et
    al. 2020, arXiv 2006.11239. Order 1 (η > 0: weak order 1); one evaluation a step.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).
        random: the noise of each sample; none is drawn at η = 0.
        eta: η in [0, 1], the share of the posterior's standard deviation that is fresh.

    Returns:
        The samples at times[-1], shaped like x.
    """
    for t, s in pairwise(times):
        clean = denoised(score(x, t), x, t, process)
        noise = (x - process.alpha(t) * clean) / process.sigma(t)
        shrink = process.noise_ratio(s) / process.noise_ratio(t)
        fresh = eta * torch.sqrt(1 - shrink**2)
        x = process.alpha(s) * clean + process.sigma(s) * torch.sqrt(1 - fresh**2) * noise
        if eta:
            x = x + process.sigma(s) * fresh * random.normal_like(x)
    return x
