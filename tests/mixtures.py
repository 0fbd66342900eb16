"""Mixtures whose every answer is known, and models that hold such an answer as parameters."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, Process, broadcast


@dataclass(frozen=True)
class CosineVP(Process):
    """α = cos(πt/2), σ = sin(πt/2): shows every place that forgets α ≠ 1."""

    name: ClassVar[str] = "cosine-vp"

    @property
    def t_min(self) -> float:
        return 0.005

    @property
    def t_max(self) -> float:
        return 0.995

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t * math.pi / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2)

    def drift(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * torch.tan(t * math.pi / 2)

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(math.pi * torch.tan(t * math.pi / 2))

    def time_at(self, ratio: Tensor) -> Tensor:
        return torch.atan(ratio) * 2 / math.pi


PROCESSES = [VE(0.02, 20.0), EDM(0.01, 20.0), CosineVP()]
PROCESS_NAMES = [process.name for process in PROCESSES]

WEIGHTS = (0.5, 0.2, 0.3)
MEANS = ((-2.0, 0.5), (1.5, -1.0), (0.3, 2.2))
STDS = (0.6, 0.9, 0.4)


def three_classes(dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Three classes in the plane that overlap a little."""
    return GaussianMixture(
        torch.tensor(WEIGHTS, dtype=dtype),
        torch.tensor(MEANS, dtype=dtype),
        torch.tensor(STDS, dtype=dtype),
    )


def places(
    process: Process, n: int = 40, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Points x_t of the three classes at noise levels that span the process, and labels."""
    generator = torch.Generator().manual_seed(3)
    x0, _ = three_classes().sample(n, generator)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = process.noise_ratio(ends).log()
    ratios = torch.exp(torch.linspace(float(low), float(high), n, dtype=torch.float64))
    t = process.time_at(ratios)
    y = torch.arange(n) % len(WEIGHTS)
    return process.perturb(x0, t, noise).to(dtype), t.to(dtype), y


class MixtureParameters(nn.Module):
    """The weights, means and standard deviations of a mixture, as free parameters."""

    def __init__(self, mixture: GaussianMixture) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(mixture.weights.log())
        self.means = nn.Parameter(mixture.means.clone())
        self.log_stds = nn.Parameter(mixture.stds.log())

    def log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log w_k + log N(x; μ_k, s_k² + σ²), (B, K), written without `fewlabel.oracle`."""
        variance = (2 * self.log_stds).exp() + sigma[:, None] ** 2
        square = (x[:, None] - self.means).square().sum(-1)
        log_normal = -square / (2 * variance) - x.shape[1] / 2 * variance.log()
        return self.log_weights.log_softmax(0) + log_normal

    def perturbed(self, amount: float) -> None:
        """Move every parameter away from the truth."""
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += amount * noise


class ExactEnergy(MixtureParameters):
    """The network h with which a `NoisyClassifier` has the mixture's log joint as logits."""

    def __init__(self, mixture: GaussianMixture, sigma_data: float, energy: str) -> None:
        super().__init__(mixture)
        self.sigma_data, self.energy = sigma_data, energy

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        ratio = torch.exp(4 * c_noise)
        norm = torch.sqrt(ratio**2 + self.sigma_data**2)
        logits = self.log_joint(u * broadcast(norm, u), ratio)
        if self.energy == "plain":
            return logits
        logits = logits + u.square().sum(1, keepdim=True) / 2
        return logits * (ratio / norm)[:, None] if self.energy == "scaled" else logits


class ExactDenoiser(MixtureParameters):
    """The network F with which a `ScoreModel` has the mixture's score, and given labels theirs."""

    def __init__(self, mixture: GaussianMixture, sigma_data: float) -> None:
        super().__init__(mixture)
        self.sigma_data = sigma_data

    def forward(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        ratio = torch.exp(4 * c_noise)
        norm = torch.sqrt(ratio**2 + self.sigma_data**2)[:, None]
        x, square = u * norm, ratio[:, None] ** 2
        data_variance = (2 * self.log_stds).exp()
        gain = data_variance / (data_variance + square)  # E[x0|x,k] = μ_k + gain (x − μ_k)
        of_class = self.means + gain[..., None] * (x[:, None] - self.means)
        posterior = self.log_joint(x, ratio).softmax(-1)
        if y is not None:
            certain = torch.eye(len(self.means), dtype=x.dtype)[y.clamp_min(0)]
            posterior = torch.where((y < 0)[:, None], posterior, certain)
        mean = (posterior[..., None] * of_class).sum(1)
        c_skip, c_out = (self.sigma_data / norm) ** 2, square.sqrt() * self.sigma_data / norm
        return (mean - c_skip * x) / c_out


class SmoothNetwork(nn.Module):
    """A small multi-layer perceptron network(u, c_noise) with a smooth non-linearity."""

    def __init__(self, inputs: int, outputs: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(inputs + 1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(),
                nn.Linear(16, outputs),
            )  # fmt: skip

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        return self.layers(torch.cat([u.flatten(1), c_noise[:, None]], 1))
