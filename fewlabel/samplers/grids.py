"""Time grids: decreasing times (steps,) from t_max to t_min at which a sampler stops.

There are at least two.
"""

import torch
from torch import Tensor

from fewlabel.process import Process

__all__ = ["ends", "karras", "log_snr", "uniform"]

_MOST_RATIO = 160.0
"""A noise ratio beyond which nothing is left of data of order one."""


def karras(process: Process, steps: int, rho: float = 7.0) -> Tensor:
    """Noise ratios r_i = (r_max^{1/ρ} + i/(N−1) (r_min^{1/ρ} − r_max^{1/ρ}))^ρ, as times.

    Karras et al. 2022, arXiv 2206.00364, eq. 5. A process that keeps the variance of data of order
    one may end at ratios of thousands, as the cosine schedule does: its first step goes from there
    to r_max = 160, where the grid begins.
    """
    high, low = _ratio_range(process)
    end = torch.tensor(process.t_max, dtype=torch.float64)
    first = torch.minimum(high, _MOST_RATIO * process.sigma(end).clamp_min(1.0))
    if first < high and steps > 2:
        return _times(process, torch.cat([high[None], _ramp(first, low, steps - 1, rho)]))
    return _times(process, _ramp(high, low, steps, rho))


def log_snr(process: Process, steps: int) -> Tensor:
    """Times at which λ = log(α/σ) is evenly spaced."""
    high, low = _ratio_range(process)
    return _times(
        process, torch.logspace(0, 1, steps, float(low / high), dtype=torch.float64) * high
    )


def uniform(process: Process, steps: int) -> Tensor:
    """Times evenly spaced in the process's own time."""
    return torch.linspace(process.t_max, process.t_min, steps, dtype=torch.float64)


def ends(process: Process, steps: int) -> Tensor:
    """t_max and t_min alone, whatever the number: for a sampler that chooses its own steps."""
    return uniform(process, 2)


def _ratio_range(process: Process) -> tuple[Tensor, Tensor]:
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    high, low = process.noise_ratio(ends)
    return high, low


def _ramp(high: Tensor, low: Tensor, steps: int, rho: float) -> Tensor:
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def _times(process: Process, ratios: Tensor) -> Tensor:
    times = process.time_at(ratios)
    times[0], times[-1] = process.t_max, process.t_min  # exact ends, whatever the rounding
    return times
