"""The distribution of training times: at which noise levels a loss is computed.

Each maps u, uniform in (0, 1), to a time t of a process by its quantile function.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process import EDM, Process

__all__ = [
    "TIMES",
    "LogNormal",
    "LogitNormal",
    "Times",
    "Uniform",
    "default_times",
    "times_from_config",
]

_LARGEST = 1e15  # noise ratios whose squares fit in float32
_DEVIATIONS = 6  # of a normal number in float32, at most


@dataclass(frozen=True)
class Times(ABC):
    """A distribution of training times."""

    name: ClassVar[str]

    @abstractmethod
    def quantile(self, u: Tensor, process: Process) -> Tensor:
        """The time t of the process at u in (0, 1); the shape of u."""


@dataclass(frozen=True)
class Uniform(Times):
    """t uniform between two times of the process (Song et al. 2021, arXiv 2011.13456).

    Args:
        low: the smallest time; None for the smallest that is sampled.
        high: the largest time; None for that of the prior.

    Raises:
        UserError: unless low < high and both are finite.
    """

    name: ClassVar[str] = "uniform"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if end is not None and not math.isfinite(end):
                raise UserError(f"times uniform: {end} is not finite")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise UserError(f"times uniform: low={self.low:g} is not below high={self.high:g}")

    def quantile(self, u: Tensor, process: Process) -> Tensor:  # noqa: D102
        low = process.t_min if self.low is None else self.low
        high = process.t_max if self.high is None else self.high
        return low + u * (high - low)


@dataclass(frozen=True)
class LogNormal(Times):
    """log σ/α ~ N(mean, std²) (Karras et al. 2022, arXiv 2206.00364).

    Args:
        mean: mean of the logarithm of the noise ratio.
        std: its standard deviation, greater than 0.

    Raises:
        UserError: unless 0 < std < ∞ and mean is finite, or if the noise leaves float32.
    """

    name: ClassVar[str] = "lognormal"
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check_normal(self.name, self.mean, self.std, "-1.2 and 1.2")
        if abs(self.mean) + _DEVIATIONS * self.std > math.log(_LARGEST):
            raise UserError(
                f"times lognormal: with mean={self.mean:g} and std={self.std:g} some noise of the "
                "training leaves float32; -1.2 and 1.2 are usual"
            )

    def quantile(self, u: Tensor, process: Process) -> Tensor:  # noqa: D102
        return process.time_at(torch.exp(self.mean + self.std * torch.special.ndtri(u)))


@dataclass(frozen=True)
class LogitNormal(Times):
    """logit τ ~ N(mean, std²), τ ∈ (0, 1) the place of t between the smallest and largest time.

    Esser et al. 2024, "Scaling Rectified Flow Transformers", arXiv 2403.03206.

    Args:
        mean: mean of the logit.
        std: its standard deviation, greater than 0.

    Raises:
        UserError: unless 0 < std < ∞ and mean is finite.
    """

    name: ClassVar[str] = "logitnormal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check_normal(self.name, self.mean, self.std, "0 and 1")

    def quantile(self, u: Tensor, process: Process) -> Tensor:  # noqa: D102
        place = torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))
        return process.t_min + place * (process.t_max - process.t_min)


TIMES: dict[str, type[Times]] = {cls.name: cls for cls in (Uniform, LogNormal, LogitNormal)}
"""The distributions by name."""


def default_times(process: Process) -> Times:
    """The distribution with which a process was published."""
    return LogNormal() if isinstance(process, EDM) else Uniform()


def times_from_config(config: Mapping[str, Any], process: Process) -> Times:
    """The distribution that a configuration names.

    Args:
        config: the key ``name`` and parameters; empty for `default_times`.
        process: the noise process.

    Raises:
        UserError: for an unknown name or parameter, or values of another kind or out of range.
    """
    if not config:
        return default_times(process)
    parameters = dict(config)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in TIMES:
        raise UserError(f"times {name!r} are unknown; choose one of {', '.join(TIMES)}")
    known = [field.name for field in fields(TIMES[name])]
    if unknown := set(parameters) - set(known):
        raise UserError(
            f"times {name} have no parameter {min(unknown)!r}; they have {', '.join(known)}"
        )
    try:
        return TIMES[name](**parameters)
    except TypeError:
        raise UserError(
            f"times {name}: {', '.join(known)} are numbers; got {parameters}"
        ) from None


def _check_normal(name: str, mean: float, std: float, usual: str) -> None:
    if not 0 < std < math.inf:
        raise UserError(f"times {name}: std={std:g} is not positive and finite; {usual} are usual")
    if not math.isfinite(mean):
        raise UserError(f"times {name}: mean={mean:g} is not finite; {usual} are usual")
