"""What the tests of samplers share: every process, and noise that is known beforehand."""

import pytest
import torch
from torch import Tensor

from fewlabel import samplers
from fewlabel.process import EDM, VE, VP, Process, SubVP
from fewlabel.randomness import SampleRandom
from fewlabel.score import ScoreFunction

PROCESSES = [VE(0.02, 20.0), VP(), SubVP(), EDM(0.01, 20.0)]
every_process = pytest.mark.parametrize(
    "process", PROCESSES, ids=[process.name for process in PROCESSES]
)


class Given:
    """Noise that is known beforehand, one array a step; takes the place of `SampleRandom`."""

    def __init__(self, noise: Tensor) -> None:
        self._noise = iter(noise)

    def normal_like(self, x: Tensor) -> Tensor:
        return next(self._noise).to(x)


NO_NOISE = SampleRandom(0, [])
"""It has no generator: DDIM at η = 0 fails if it draws."""


def carry(sampler: str, score: ScoreFunction, process: Process, x: Tensor, steps: int) -> Tensor:
    """The samples at t_min of those that are x at t_max, by a sampler that draws nothing."""
    row = samplers.SAMPLERS[sampler]
    return samplers.solve(row.function, score, process, x, row.grid(process, steps), NO_NOISE).x


def start(process: Process, n: int = 12) -> Tensor:
    """Samples at t_max, float64."""
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return process.prior(noise)
