"""Data and models of the tests of losses, and gradients of a loss by other means."""

import math

import pytest
import torch
from mixtures import CosineVP, ExactEnergy, SmoothNetwork, three_classes
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.objectives import LogNormal, Term
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, Process, broadcast
from fewlabel.randomness import StepRandom

PROCESS = EDM(0.02, 20.0)
TIMES = LogNormal(-0.4, 1.2)
SIGMA_DATA = 1.6
every_process = pytest.mark.parametrize(
    "process", [PROCESS, VE(0.02, 20.0), CosineVP()], ids=lambda process: process.name
)


def images(n: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 8, 8, generator=generator, dtype=torch.float64)
    return Batch(x, torch.arange(n) % 3)


def points(n: int, seed: int = 0) -> Batch:
    return Batch(*three_classes().sample(n, torch.Generator().manual_seed(seed)))


def exact_draws(mixture: GaussianMixture, t: Tensor, random: StepRandom) -> Tensor:
    """Draws of p_t, one at each time."""
    quantiles = random.quantiles_like(t.new_empty(len(t), 2))
    c = torch.searchsorted(mixture.weights.cumsum(0)[:-1].contiguous(), quantiles)
    noise = random.normal_like(t.new_empty(len(t), 2))
    x0 = mixture.means[c] + mixture.stds[c, None] * noise
    return PROCESS.perturb(x0, t, random.normal_like(x0))


def conv_classifier() -> NoisyClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = ConvClassifier(1, 3, (8, 16), (1, 1))
    return NoisyClassifier(network, PROCESS, 1.0).double()


def mlp_classifier() -> NoisyClassifier:
    return NoisyClassifier(SmoothNetwork(2, 3), PROCESS, SIGMA_DATA).double()


def exact_classifier(
    energy: str, mixture: GaussianMixture, process: Process = PROCESS
) -> NoisyClassifier:
    """A classifier whose logits are the mixture's log joint density."""
    network = ExactEnergy(mixture, SIGMA_DATA, energy)
    return NoisyClassifier(network, process, SIGMA_DATA, energy)  # type: ignore[arg-type]


class LinearLogits(nn.Module):
    """The network of a "plain" classifier with logits f = x W whatever the noise."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        norm = torch.sqrt(torch.exp(8 * c_noise) + SIGMA_DATA**2)
        return (u * broadcast(norm, u)).flatten(1) @ self.weights


def linear_classifier(weights: Tensor) -> NoisyClassifier:
    """A linear classifier for weights (D, K)."""
    return NoisyClassifier(LinearLogits(weights), PROCESS, SIGMA_DATA, "plain")


class Record:
    """The arguments with which a model was evaluated, of the last call and of all."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[tuple[Tensor | None, ...]] = []
        model.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Tensor | None, ...]) -> None:
        self.calls.append(tuple(a if a is None else a.detach() for a in args))

    @property
    def x(self) -> Tensor:
        return self.calls[-1][0]

    @property
    def t(self) -> Tensor:
        return self.calls[-1][1]


def slopes(term: Term, batch: Batch, directions: int = 5) -> list[tuple[float, float]]:
    """Slope of the mean loss in random directions of its parameters: autograd, differences.

    What the loss remembers is put back before each evaluation.
    """
    parameters = list(term.parameters())
    generator = torch.Generator().manual_seed(9)
    memory = {name: value.clone() for name, value in term.named_buffers(recurse=False)}

    def loss() -> Tensor:
        for name, value in memory.items():
            term.get_buffer(name).copy_(value)
        return term(batch, StepRandom(0, 0)).mean()

    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    pairs = []
    for _ in range(directions):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        automatic = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        start = [p.detach().clone() for p in parameters]

        def along(step: float, start: list[Tensor] = start, d: list[Tensor] = direction) -> float:
            for p, origin, towards in zip(parameters, start, d, strict=True):
                p.data = origin + step * towards
            return loss().item()

        h = 1e-4  # the five-point rule, exact to h⁴
        difference = 8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))
        along(0.0)
        pairs.append((float(automatic), difference / (12 * h)))
    return pairs


def gradient_in_standard_errors(term: Term, batches: int = 120, size: int = 256) -> Tensor:
    """The mean gradient of each parameter, in standard errors estimated between batches."""
    parameters = [p for p in term.parameters() if p.requires_grad]
    rows = []
    for step in range(batches):
        loss = term(points(size, seed=1000 + step), StepRandom(0, step)).mean()
        gradients = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    table = torch.stack(rows)
    return table.mean(0) / (table.std(0) / math.sqrt(batches))
