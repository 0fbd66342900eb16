"""The two-moons experiment of Chao et al. 2022 with the networks and settings of its publication.

Both networks are sums of a branch of x and a branch of σ, with ReLU and no normalisation of their
inputs: the score is A h(x) + B k(σ) + b, the logits likewise. The losses are weighted with σ⁴, so
that the largest noise levels count almost alone. What is ours: log softmax without an added 1e-8,
and stratified noise levels in a batch.

Chao et al. 2022, "Denoising Likelihood Score Matching for Conditional Score-based Data
Generation", arXiv 2203.14206; settings as in the code that its authors published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from fewlabel.classifier import NoisyClassifier
from fewlabel.config import FitConfig
from fewlabel.data import Batches, draw_splits
from fewlabel.data.moons import load_moons
from fewlabel.experiments.moons import Entry
from fewlabel.objectives import (
    CrossEntropy,
    DenoisingScoreMatching,
    LikelihoodScoreMatching,
    Objective,
    Term,
    Weighted,
)
from fewlabel.process import VE, Process
from fewlabel.progress import track
from fewlabel.randomness import seed_of, seeded
from fewlabel.score import ScoreModel
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.loop import fit

__all__ = ["PAPER", "PROCESS", "PaperEffort", "TwoBranches", "paper_entries"]

PROCESS = VE(1e-3, 10.0)
_CE_WEIGHT = 0.125
_SEED = 0

_SIGMA_DATA = PROCESS.sigma_min
"""λ(t) = σ² (1 + σ²/σ_d²) with so small a σ_d is σ⁴/σ_d² at all noise levels that matter."""


@dataclass(frozen=True)
class PaperEffort:
    """The published lengths: steps of every model, and examples a step."""

    steps: int = 40_000
    batch: int = 4000


PAPER = PaperEffort()


class TwoBranches(nn.Module):
    """W [h(x), k(σ)] + b with perceptrons h: 2 → 256 → 128 → 64 and k: 1 → 64 → 32 → 16.

    Args:
        outputs: 2 for the score, K for the logits.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.of_x = _branch(2, 256, 128, 64)
        self.of_sigma = _branch(1, 64, 32, 16)
        self.head = nn.Linear(64 + 16, outputs)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, 2) and (B,) → (B, outputs)."""
        return self.head(torch.cat([self.of_x(x), self.of_sigma(sigma[:, None])], dim=1))


def _branch(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _Scores(nn.Module):
    """A score model without preconditioning: one network, or one for each class."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.process: Process = PROCESS
        self.sigma_data = _SIGMA_DATA
        self.networks = nn.ModuleList(TwoBranches(2) for _ in range(max(1, classes)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """s(x, t) or s(x, t, y), (B, 2)."""
        sigma = self.process.sigma(t).expand(len(x))
        if y is None:
            return self.networks[0](x, sigma)
        result = torch.empty_like(x)
        for index, network in enumerate(self.networks):
            chosen = y == index
            result[chosen] = network(x[chosen], sigma[chosen])
        return result


class _RawInputs(nn.Module):
    """Gives the published network x and σ where a `NoisyClassifier` passes on u and ¼ log σ."""

    def __init__(self, network: TwoBranches) -> None:
        super().__init__()
        self.network = network

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        sigma = torch.exp(4 * c_noise)
        return self.network(u * torch.sqrt(sigma**2 + _SIGMA_DATA**2)[:, None], sigma)


def paper_entries(out: Path, effort: PaperEffort = PAPER) -> dict[str, Entry]:
    """Train the published rows, or load what is trained: "cond", "cg" and "cg-dlsm".

    Args:
        out: the folder of the checkpoints, one a model; stopped, it goes on from the last.
        effort: steps and batch.
    """
    with seeded(seed_of("weights", _SEED)):
        score, by_class = _Scores(), _Scores(classes=2)
        ce, dlsm = _classifier(), _classifier()
    matching = DenoisingScoreMatching(cast(ScoreModel, score))
    by_label = DenoisingScoreMatching(cast(ScoreModel, by_class), dropout=0.0)
    of_classes = replace(effort, batch=2 * effort.batch)  # as many of each class
    _fit("score", score, {"dsm": matching}, {"dsm": 1.0}, 6.5e-4, out, effort)
    _fit("cg", ce, {"ce": CrossEntropy(ce)}, {"ce": 1.0}, 1e-5, out, effort)
    both = {"dlsm": LikelihoodScoreMatching(dlsm, score), "ce": CrossEntropy(dlsm)}
    weights = {"dlsm": _SIGMA_DATA**2, "ce": _CE_WEIGHT}
    _fit("cg-dlsm", dlsm, both, weights, 1e-5, out, effort)
    _fit("cond", by_class, {"dsm": by_label}, {"dsm": 1.0}, 6.5e-4, out, of_classes)
    return {
        "cond": Entry(cast(ScoreModel, by_class), None, "conditional"),
        "cg": Entry(cast(ScoreModel, score), ce, "classifier"),
        "cg-dlsm": Entry(cast(ScoreModel, score), dlsm, "classifier"),
    }


def _classifier() -> NoisyClassifier:
    return NoisyClassifier(_RawInputs(TwoBranches(2)), PROCESS, _SIGMA_DATA, "plain")


def _fit(
    name: str,
    model: nn.Module,
    terms: Mapping[str, Term],
    weights: Mapping[str, float],
    learning_rate: float,
    out: Path,
    effort: PaperEffort,
) -> None:
    """Train a model with Adam at a constant rate on all points, or load it; then freeze it."""
    settings = FitConfig(
        steps=effort.steps,
        batch=effort.batch,
        learning_rate=learning_rate,
        schedule="constant",
        warmup=0,
        weight_decay=0.0,
        clip=1e9,
        ema=0.0,
        log_every=500,
        validate_every=effort.steps,
        checkpoint_every=2000,
    )
    dataset = replace(load_moons(), validation_fraction=0.0)
    splits = draw_splits(dataset, "all", _SEED)
    objective = Objective(
        {name: Weighted(term, "labelled", weights[name]) for name, term in terms.items()}
    )
    batches = Batches(dataset, splits, {"labelled": effort.batch}, _SEED)
    checkpoints = Checkpoints(out / name)
    with track(f"training {name} of the publication") as task:
        for record in fit(
            model,
            objective,
            batches,
            settings,
            _SEED,
            checkpoints,
            Accelerator(cpu=True),
            lambda _: {},
        ):
            task.set(record.step, record.steps)
    model.load_state_dict(checkpoints.ema_weights())
    model.eval().requires_grad_(False)
