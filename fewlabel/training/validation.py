"""Figures on the validation split while a model trains."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED, Batch
from fewlabel.calibration import ece
from fewlabel.data import Dataset, Splits
from fewlabel.objectives import DenoisingScoreMatching, Times
from fewlabel.process import Process
from fewlabel.randomness import StepRandom, generator_for
from fewlabel.score import ScoreModel

__all__ = ["classifier_validation", "score_validation", "spread_out"]

Validation = Callable[[nn.Module], dict[str, float]]

_LEVELS = (0.1, 0.5, 2.0)
_EXAMPLES = 1024


def score_validation(
    dataset: Dataset,
    splits: Splits,
    device: torch.device,
    at_once: int,
    conditional: bool = False,
    times: Times | None = None,
) -> Validation:
    """The score-matching loss on held-out examples, with the same noise every time.

    A conditional model is shown their labels, on those that have one. The model sees at most
    `at_once` of them together, so that memory that is enough to train is enough to validate. The
    noise levels are those of `times`; None for the distribution of the process.
    """
    held_out = np.array(splits.validation, dtype=np.int64)
    if conditional:
        held_out = held_out[dataset.labels[held_out] != UNLABELLED]
    held_out = spread_out(held_out, _EXAMPLES)
    x, y = dataset.examples(held_out), torch.from_numpy(dataset.labels[held_out])
    batch = Batch(x.to(device), y.to(device))

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        in_parts = cast(ScoreModel, _InParts(cast(ScoreModel, model), at_once))
        loss = DenoisingScoreMatching(in_parts, 0.0 if conditional else None, times)
        return {"dsm": float(loss(batch, StepRandom(0, 0, "validation")).mean())}

    return validate if len(x) else _nothing


def classifier_validation(
    dataset: Dataset, splits: Splits, process: Process, device: torch.device, at_once: int
) -> Validation:
    """Accuracy, cross-entropy and calibration error on held-out labels at three noise ratios.

    Those of vectors are in units of σ_data. The model sees at most `at_once` examples together.

    These labels are beside the few that train. Where labels are few in truth and not only by
    --labels, little can be held out, and the figures are rough.
    """
    held_out = np.array(splits.validation, dtype=np.int64)
    labelled = spread_out(held_out[dataset.labels[held_out] != UNLABELLED], _EXAMPLES)
    x = dataset.examples(labelled).to(device)
    y = torch.from_numpy(dataset.labels[labelled]).to(device)
    noise = torch.randn(x.shape, generator=generator_for("validation")).to(device)
    unit = dataset.unit(splits.train)

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        figures: dict[str, float] = {}
        for level in _LEVELS:
            t = process.time_at(torch.tensor(unit * level, device=device))
            noisy = process.perturb(x, t, noise).split(at_once)
            log_prob = torch.cat([model(part, t) for part in noisy]).log_softmax(-1)
            hits = (log_prob.argmax(-1) == y).float().mean()
            loss = -log_prob.gather(-1, y[:, None]).mean()
            figures |= {f"accuracy@{level:g}": float(hits), f"ce@{level:g}": float(loss)}
            figures[f"ece@{level:g}"] = ece(log_prob.exp(), y)
        return figures

    return validate if len(x) else _nothing


def spread_out(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many, spread over all: files may lie in the order of their classes."""
    if len(indices) <= most:
        return indices
    return indices[np.arange(most) * len(indices) // most]


class _InParts(nn.Module):
    """A score model that sees at most so many rows together."""

    def __init__(self, model: ScoreModel, at_once: int) -> None:
        super().__init__()
        self.model, self.at_once = model, at_once
        self.process, self.sigma_data = model.process, model.sigma_data

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        split = [values.split(self.at_once) for values in (x, t) + (() if y is None else (y,))]
        return torch.cat([self.model(*part) for part in zip(*split, strict=True)])


def _nothing(model: nn.Module) -> dict[str, float]:
    """For data too small to hold anything out."""
    return {}
