"""What every noise process is: x_t = α(t) x0 + σ(t) z with z ~ N(0, I).

A process is the pair (α, σ) as functions of its own time t, plus what follows from them. It knows
nothing of training; `fewlabel.objectives.times` has the distributions of training times. Its
forward equation is dx = f(t) x dt + g(t) dw with

    f(t) = d log α / dt,        g(t)² = dσ²/dt − 2 f(t) σ(t)².

The noise ratio r(t) = σ(t)/α(t) grows strictly with t, and in the coordinates (x/α, r) every
process looks alike; preconditioning and deterministic samplers work there.

Times are tensors of shape () or (B,); `broadcast` lines a time up with a batch of samples.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["Process", "broadcast"]


def broadcast(t: Tensor, x: Tensor) -> Tensor:
    """Shape a per-sample quantity t, () or (B,), so that it multiplies x, (B, ...)."""
    return t.reshape(-1, *(1,) * (x.dim() - 1)) if t.dim() else t


@dataclass(frozen=True)
class Process(ABC):
    """A Gaussian perturbation kernel p(x_t | x0) = N(α(t) x0, σ(t)² I)."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time that is sampled; training may see smaller ones."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The time at which x_t is distributed as the prior."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """α(t), the scale of the data; the shape of t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """σ(t), the standard deviation of the noise; the shape of t."""

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d log α / dt, the linear drift coefficient; the shape of t."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) of the forward equation; the shape of t."""

    @abstractmethod
    def time_at(self, ratio: Tensor) -> Tensor:
        """The time t at which σ(t)/α(t) equals ratio > 0; the inverse of `noise_ratio`."""

    def noise_ratio(self, t: Tensor) -> Tensor:
        """r(t) = σ(t)/α(t); the shape of t."""
        return self.sigma(t) / self.alpha(t)

    def perturb(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = α(t) x0 + σ(t) z for x0 and z = noise of shape (B, ...) and t of shape (B,)."""
        return broadcast(self.alpha(t), x0) * x0 + broadcast(self.sigma(t), x0) * noise

    def prior(self, noise: Tensor) -> Tensor:
        """A sample of the prior N(0, σ(t_max)² I) from standard normal noise of any shape."""
        return self.sigma(torch.tensor(self.t_max, dtype=noise.dtype)).to(noise.device) * noise

    def prior_log_density(self, x: Tensor) -> Tensor:
        """The log-density of the prior N(0, σ(t_max)² I) at x (B, ...), in nats; shape (B,)."""
        sigma = float(self.sigma(torch.tensor(self.t_max, dtype=torch.float64)))
        square = x.flatten(1).square().sum(1) / sigma**2
        return -(square + x[0].numel() * math.log(2 * math.pi * sigma**2)) / 2

    def config(self) -> dict[str, Any]:
        """The process as plain data; `from_config` reads it back."""
        return {"name": self.name, **asdict(self)}
