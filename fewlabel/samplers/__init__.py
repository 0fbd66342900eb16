"""Samplers: score function in, samples out. They know nothing of classifiers, labels or papers.

A sampler is a plain function (score, process, x, times) → x that carries samples from the first
time to the last; one that draws noise on the way takes the `SampleRandom` of the batch as fifth
argument. `sample` puts prior, time grid, sampler and the final denoising step together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.samplers import grids
from fewlabel.samplers.ddim import ddim
from fewlabel.samplers.dpm_solver import dpm_solver_2m, sde_dpm_solver_2m
from fewlabel.samplers.heun import heun
from fewlabel.samplers.ode import probability_flow
from fewlabel.samplers.predictor_corrector import euler_maruyama, predictor_corrector
from fewlabel.score import ScoreFunction, denoised

__all__ = [
    "DEFAULT",
    "SAMPLERS",
    "Sampler",
    "ddim",
    "dpm_solver_2m",
    "euler_maruyama",
    "find_sampler",
    "grids",
    "heun",
    "predictor_corrector",
    "probability_flow",
    "sample",
    "sde_dpm_solver_2m",
]


@dataclass(frozen=True)
class Sampler:
    """A row of the table of samplers.

    Attributes:
        function: (score, process, x, times) → x, and the `SampleRandom` last if it takes one.
        grid: (process, steps) → times.
        steps: grid points unless asked otherwise.
        summary: one line for the reader.
        takes_random: whether the function takes the random numbers of the batch.
    """

    function: Callable[..., Tensor]
    grid: Callable[[Process, int], Tensor]
    steps: int
    summary: str = ""
    takes_random: bool = False


SAMPLERS = {
    "dpm++": Sampler(
        dpm_solver_2m, grids.karras, 24, "DPM-Solver++(2M), order 2, one evaluation a step"
    ),
    "heun": Sampler(heun, grids.karras, 32, "Heun on the Karras grid, order 2, two a step"),
    "ddim": Sampler(ddim, grids.log_snr, 100, "DDIM, deterministic, order 1, one a step", True),
    "ancestral": Sampler(
        partial(ddim, eta=1.0), grids.log_snr, 250, "ancestral (DDPM), random, one a step", True
    ),
    "sde-dpm++": Sampler(
        sde_dpm_solver_2m,
        grids.log_snr,
        48,
        "DPM-Solver++(2M), random, one a step",
        True,
    ),
    "pc": Sampler(
        predictor_corrector, grids.log_snr, 500, "predictor–corrector, random, two a step", True
    ),
    "em": Sampler(euler_maruyama, grids.log_snr, 500, "Euler–Maruyama, random, one a step", True),
    "ode": Sampler(
        probability_flow, grids.uniform, 2, "probability-flow ODE, adaptive: steps of its own"
    ),
}
DEFAULT = "dpm++"


def find_sampler(sampler: str | Sampler, steps: int | None = None) -> Sampler:
    """The row called `sampler`, with this number of grid points unless it is None.

    Raises:
        UserError: if there is none, or for fewer than 2 steps.
    """
    row = SAMPLERS.get(sampler) if isinstance(sampler, str) else sampler
    if not isinstance(row, Sampler):
        raise UserError(
            f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}, or in Python "
            "give a Sampler"
        )
    if steps is not None and steps < 2:
        raise UserError(f"steps={steps} is too few for a time grid; give at least 2")
    return row if steps is None else replace(row, steps=steps)


@torch.no_grad()
def sample(
    score: ScoreFunction,
    process: Process,
    shape: Sequence[int],
    sampler: str | Sampler = DEFAULT,
    steps: int | None = None,
    seed: int = 0,
    first: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw samples of x0 by following a score function from the prior.

    Sample i depends on (seed, first + i) alone, not on how many are drawn together (but for
    "ode", within its tolerance).

    Args:
        score: the score function.
        process: its noise process.
        shape: (n, *shape of one sample).
        sampler: a name in `SAMPLERS`, or a row of one's own, such as
            `Sampler(partial(ddim, eta=0.5), grids.karras, 50, takes_random=True)`.
        steps: number of grid points, at least 2, or the sampler's default; the last step after
            them denoises: x0 = E[x0 | x_{t_min}]. "ode" looks at the two ends alone.
        seed: fixes the noise.
        first: index of the first sample of this batch in the whole request.
        device: where the score function computes.

    Returns:
        Samples, `shape`, float32.

    Raises:
        UserError: for an unknown sampler or fewer than 2 steps.
    """
    row = find_sampler(sampler, steps)
    times = row.grid(process, row.steps).to(device, torch.float32)
    random = SampleRandom(seed, range(first, first + shape[0]))
    x = process.prior(random.normal(shape[1:]).to(device))
    x = row.function(score, process, x, times, *([random] if row.takes_random else []))
    return denoised(score(x, times[-1]), x, times[-1], process)
