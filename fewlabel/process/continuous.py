"""Processes whose α and σ are formulas of a continuous time: VE, EDM, VP and sub-VP."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process.base import Process

__all__ = ["EDM", "VE", "VP", "SubVP"]

_SMALLEST, _LARGEST = 1e-15, 1e15  # their squares fit in float32
_LARGEST_BETA = 300.0  # α is about exp(−β_max/4): it must not become 0 in float32


def _check_sigmas(name: str, sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise UserError(
            f"process {name}: sigma_min={sigma_min:g} and sigma_max={sigma_max:g} do not satisfy "
            f"0 < sigma_min < sigma_max; give a smaller sigma_min or a larger sigma_max"
        )
    if sigma_min < _SMALLEST or sigma_max > _LARGEST:
        raise UserError(
            f"process {name}: sigma_min={sigma_min:g} and sigma_max={sigma_max:g} are not within "
            f"{_SMALLEST:g} and {_LARGEST:g}, as float32 needs; scale the data and them"
        )


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding: α = 1, σ(t) = σ_min (σ_max/σ_min)^t for t in [0, 1].

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential
    Equations", arXiv 2011.13456.

    Args:
        sigma_min: σ at t = 0, greater than 0.
        sigma_max: σ at t = 1; about the largest distance between two data points.

    Raises:
        UserError: unless 0 < sigma_min < sigma_max.
    """

    name: ClassVar[str] = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _check_sigmas(self.name, self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:  # noqa: D102
        return 0.0

    @property
    def t_max(self) -> float:  # noqa: D102
        return 1.0

    @property
    def _log_range(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def drift(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:  # noqa: D102
        return self.sigma(t) * math.sqrt(2 * self._log_range)

    def time_at(self, ratio: Tensor) -> Tensor:  # noqa: D102
        return torch.log(ratio / self.sigma_min) / self._log_range


@dataclass(frozen=True)
class EDM(Process):
    """σ itself is the time: α = 1, σ(t) = t.

    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
    arXiv 2206.00364.

    Args:
        sigma_min: the smallest σ that is sampled, greater than 0.
        sigma_max: the σ of the prior.

    Raises:
        UserError: unless 0 < sigma_min < sigma_max < ∞.
    """

    name: ClassVar[str] = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_sigmas(self.name, self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:  # noqa: D102
        return self.sigma_min

    @property
    def t_max(self) -> float:  # noqa: D102
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return t

    def drift(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.sqrt(2 * t)

    def time_at(self, ratio: Tensor) -> Tensor:  # noqa: D102
        return ratio


@dataclass(frozen=True)
class _LinearBeta(Process):
    """What VP and sub-VP share: β(t) = β_min + t (β_max − β_min) and α(t) = exp(−½ ∫β)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max < math.inf or not 0 < self.epsilon < 1:
            raise UserError(
                f"process {self.name}: beta_min={self.beta_min:g}, beta_max={self.beta_max:g} and "
                f"epsilon={self.epsilon:g} do not satisfy 0 < beta_min < beta_max and "
                "0 < epsilon < 1; 0.1, 20 and 0.001 are usual"
            )
        if self.beta_max > _LARGEST_BETA:
            raise UserError(
                f"process {self.name}: beta_max={self.beta_max:g} leaves no signal in float32; "
                f"give at most {_LARGEST_BETA:g}, 20 is usual"
            )

    @property
    def t_min(self) -> float:
        return self.epsilon

    @property
    def t_max(self) -> float:
        return 1.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def drift(self, t: Tensor) -> Tensor:
        return -self._beta(t) / 2

    def _time_of_log_alpha(self, log_alpha: Tensor) -> Tensor:
        """The root of ¼ t² (β_max − β_min) + ½ t β_min + log α = 0, without cancellation."""
        slope = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 - 4 * slope * log_alpha)
        return -4 * log_alpha / (self.beta_min + root)


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving: α(t) = exp(−¼ t² (β1 − β0) − ½ t β0), σ² = 1 − α², for t in [ε, 1].

    Song et al. 2021, arXiv 2011.13456; the continuous form of DDPM.

    Args:
        beta_min: β0, greater than 0.
        beta_max: β1, greater than β0.
        epsilon: the smallest time, in (0, 1).

    Raises:
        UserError: for parameters out of range.
    """

    name: ClassVar[str] = "vp"

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))

    def diffusion(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.sqrt(self._beta(t))

    def time_at(self, ratio: Tensor) -> Tensor:  # noqa: D102
        return self._time_of_log_alpha(-torch.log1p(ratio**2) / 2)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-VP: α as in VP, σ = 1 − α², so the variance stays below VP's.

    Song et al. 2021, arXiv 2011.13456.

    Args:
        beta_min: β0, greater than 0.
        beta_max: β1, greater than β0.
        epsilon: the smallest time, in (0, 1).

    Raises:
        UserError: for parameters out of range.
    """

    name: ClassVar[str] = "subvp"

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return -torch.expm1(2 * self._log_alpha(t))

    def diffusion(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.sqrt(self._beta(t) * -torch.expm1(4 * self._log_alpha(t)))

    def time_at(self, ratio: Tensor) -> Tensor:  # noqa: D102
        # σ/α = 1/α − α, so α = (√(r² + 4) − r)/2 and log α = −arsinh(r/2)
        return self._time_of_log_alpha(-torch.arcsinh(ratio / 2))
