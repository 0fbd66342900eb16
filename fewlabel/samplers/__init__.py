"""Samplers: score function in, samples out. They know nothing of classifiers, labels or papers.

A sampler is a step function (step, s) → x: it carries samples from the time of a `Step` to the
next time s. One loop, `solve`, drives them all. `sample` puts prior, time grid, loop and the
final denoising step together.
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
from fewlabel.samplers.loop import Callback, Step, StepFunction, refuse_not_finite, solve
from fewlabel.samplers.ode import probability_flow
from fewlabel.samplers.predictor_corrector import euler_maruyama, predictor_corrector
from fewlabel.score import ScoreFunction

__all__ = [
    "DEFAULT",
    "SAMPLERS",
    "Callback",
    "Sampler",
    "Step",
    "StepFunction",
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
    "solve",
]


@dataclass(frozen=True)
class Sampler:
    """A row of the table of samplers.

    Attributes:
        function: the step function, (step, s) → the samples at time s.
        grid: (process, steps) → times.
        steps: grid points unless asked otherwise.
        summary: one line for the reader.
    """

    function: StepFunction
    grid: Callable[[Process, int], Tensor]
    steps: int
    summary: str = ""


SAMPLERS = {
    "dpm++": Sampler(
        dpm_solver_2m, grids.karras, 24, "DPM-Solver++(2M), order 2, one evaluation a step"
    ),
    "heun": Sampler(heun, grids.karras, 32, "Heun on the Karras grid, order 2, two a step"),
    "ddim": Sampler(ddim, grids.log_snr, 100, "DDIM, deterministic, order 1, one a step"),
    "ancestral": Sampler(
        partial(ddim, eta=1.0), grids.log_snr, 250, "ancestral (DDPM), random, one a step"
    ),
    "sde-dpm++": Sampler(
        sde_dpm_solver_2m, grids.log_snr, 48, "DPM-Solver++(2M), random, one a step"
    ),
    "pc": Sampler(
        predictor_corrector, grids.log_snr, 500, "predictor–corrector, random, two a step"
    ),
    "em": Sampler(euler_maruyama, grids.log_snr, 500, "Euler–Maruyama, random, one a step"),
    "ode": Sampler(
        probability_flow, grids.ends, 2, "probability-flow ODE, adaptive: steps of its own"
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
    callback: Callback | None = None,
) -> Tensor:
    """Draw samples of x0 by following a score function from the prior.

    Sample i depends on (seed, first + i) alone, not on how many are drawn together (but for
    "ode", within its tolerance). `callback` watches and stops: with `steps = []`,
    `callback=steps.append` keeps the trajectory, `[step.x for step in steps]`.

    Args:
        score: the score function.
        process: its noise process.
        shape: (n, *shape of one sample).
        sampler: a name in `SAMPLERS`, or a row of one's own, such as
            `Sampler(partial(ddim, eta=0.5), grids.karras, 50)`.
        steps: number of grid points, at least 2, or the sampler's default; the last step after
            them denoises: x0 = E[x0 | x_{t_min}]. "ode" looks at the two ends alone.
        seed: fixes the noise.
        first: index of the first sample of this batch in the whole request.
        device: where the score function computes.
        callback: called with each `Step` before it is taken, and at t_min: `step.t`, `step.x`,
            `step.denoised`. If it returns False, sampling stops there.

    Returns:
        Samples, `shape`, float32; where the callback stopped, `step.denoised` of that step.

    Raises:
        UserError: for an unknown sampler or fewer than 2 steps.
        TrainingError: if a sample is not finite.
    """
    row = find_sampler(sampler, steps)
    times = row.grid(process, row.steps).to(device, torch.float32)
    random = SampleRandom(seed, range(first, first + shape[0]))
    x = process.prior(random.normal(shape[1:]).to(device))
    x = solve(row.function, score, process, x, times, random, callback).denoised
    refuse_not_finite(x, times[-1], process)
    return x
