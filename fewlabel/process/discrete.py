"""The continuous process through the steps of a discrete diffusion model."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process.base import Process

__all__ = ["SCHEDULES", "Discrete", "log_noise_ratios"]

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""β evenly spaced, √β evenly spaced, or ᾱ a squared cosine."""

_LARGEST = 0.999
_SHIFT = 0.008
_MOST_STEPS = 100_000


@lru_cache(maxsize=32)
def log_noise_ratios(
    schedule: str, start: float, end: float, steps: int, betas: tuple[float, ...] = ()
) -> Tensor:
    """log(σ/α) at the timesteps 0 … T−1, with α² = ᾱ = Π (1 − β) and σ² = 1 − ᾱ; (T,) float64.

    "linear" is that of Ho et al. 2020, arXiv 2006.11239; "squaredcos_cap_v2" of Nichol & Dhariwal
    2021, arXiv 2102.09672, eq. 17. Products are those of float32 numbers, as models trained with
    these schedules saw them.

    Args:
        schedule: a name in `SCHEDULES`; of no account if there are `betas`.
        start: the first β.
        end: the last β.
        steps: T.
        betas: all of them, instead.

    Raises:
        UserError: for an unknown schedule, or values that are none.
    """
    if steps > _MOST_STEPS or len(betas) > _MOST_STEPS:
        raise UserError(
            f"process discrete: more than {_MOST_STEPS:,} steps; models have about 1000"
        )
    values = torch.tensor(betas) if betas else _betas(schedule, start, end, steps)
    if len(values) < 2 or not (0 < float(values.min()) and float(values.max()) < 1):
        raise UserError(
            "process discrete: a schedule is two β or more, all in (0, 1); without noise, or "
            "without signal (zero terminal SNR), there is no score"
        )
    kept = torch.cumprod(1 - values, 0)
    table = ((1 - kept).double() / kept.double()).log() / 2
    if not (table.isfinite().all() and (table.diff() > 0).all()):
        raise UserError(
            "process discrete: in float32 the schedule begins without noise, ends without signal, "
            "or adds none in some step; choose β that are less extreme"
        )
    return table


def _betas(schedule: str, start: float, end: float, steps: int) -> Tensor:
    if schedule == "linear":
        return torch.linspace(start, end, steps)
    if schedule == "scaled_linear":
        return torch.linspace(math.sqrt(start), math.sqrt(end), steps) ** 2
    if schedule == "squaredcos_cap_v2":
        places = [(i / steps + _SHIFT) / (1 + _SHIFT) for i in range(steps + 1)]
        kept = [math.cos(place * math.pi / 2) ** 2 for place in places]
        return torch.tensor([min(1 - kept[i + 1] / kept[i], _LARGEST) for i in range(steps)])
    raise UserError(
        f"process discrete: schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}"
    )


@dataclass(frozen=True)
class Discrete(Process):
    """The continuous process through the T steps of a discrete one, with σ² = 1 − α².

    The time is the timestep, t in [0, T − 1]; between two steps log(σ/α) is a straight line. With
    its slope ℓ the drift is f = −σ² ℓ and g² = 2 σ² ℓ. Training times are uniform. With the
    schedule "linear" and many steps it is VP with β0 = T β_start and β1 = T β_end.

    Args:
        schedule: "linear", "scaled_linear" or "squaredcos_cap_v2", see `log_noise_ratios`.
        beta_start: the first β.
        beta_end: the last β.
        steps: T.
        betas: all T values of β, instead of the former; none for those.

    Raises:
        UserError: for an unknown schedule, or β that are not in (0, 1).
    """

    name: ClassVar[str] = "discrete"
    schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000
    betas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        _ = self._table

    @property
    def _table(self) -> Tensor:
        """log(σ/α) at the timesteps, (T,) float64."""
        shape = self.schedule, self.beta_start, self.beta_end, self.steps
        return log_noise_ratios(*shape, self.betas)

    @property
    def t_min(self) -> float:  # noqa: D102
        return 0.0

    @property
    def t_max(self) -> float:  # noqa: D102
        return len(self._table) - 1.0

    def _line(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log(σ/α) at t, and its slope; float64."""
        table = self._table.to(t.device)
        step = t.floor().long().clamp(0, len(table) - 2)
        below = table.take(step)  # plain indices would wait for the device, of a single time
        slope = table.take(step + 1) - below
        return below + (t - step) * slope, slope

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return _like(torch.sigmoid(-2 * self._line(t)[0]).sqrt(), t)

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return _like(torch.sigmoid(2 * self._line(t)[0]).sqrt(), t)

    def drift(self, t: Tensor) -> Tensor:  # noqa: D102
        return -(self.diffusion(t) ** 2) / 2

    def diffusion(self, t: Tensor) -> Tensor:  # noqa: D102
        return self.sigma(t) * _like((2 * self._line(t)[1]).sqrt(), t)

    def time_at(self, ratio: Tensor) -> Tensor:  # noqa: D102
        table, wanted = self._table.to(ratio.device), ratio.double().log()
        step = (torch.searchsorted(table, wanted) - 1).clamp(0, len(table) - 2)
        below = table.take(step)
        return (step + (wanted - below) / (table.take(step + 1) - below)).to(ratio.dtype)


def _like(values: Tensor, t: Tensor) -> Tensor:
    """In the precision of the times t, which may be whole numbers."""
    return values.to(t.dtype if t.is_floating_point() else torch.get_default_dtype())
