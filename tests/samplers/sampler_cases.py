"""What the tests of samplers share: every process, and noise that is known beforehand."""

import pytest
import torch
from torch import Tensor

from fewlabel.process import EDM, VE, VP, Process, SubVP

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


def start(process: Process, n: int = 12) -> Tensor:
    """Samples at t_max, float64."""
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return process.prior(noise)
