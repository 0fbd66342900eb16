"""The table of metrics that a run can be judged by: what each measures, on what, which interval.

Shares of samples have Wilson's interval. Distances and shares by neighbours have that of batch
means over five groups of the samples, each with all classes; the real images are the same in all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewlabel.data import Dataset, Splits
from fewlabel.errors import UserError
from fewlabel.metrics.accuracy import generation_hits
from fewlabel.metrics.classification_score import cas
from fewlabel.metrics.classwise import Distance, intra
from fewlabel.metrics.frechet import fid
from fewlabel.metrics.inception_score import inception_score
from fewlabel.metrics.intervals import Estimate, batch_means, proportion
from fewlabel.metrics.kernel import kid
from fewlabel.metrics.memorisation import memorised, nearest
from fewlabel.metrics.precision_recall import prdc
from fewlabel.randomness import generator_for

__all__ = ["GROUPS", "METRICS", "NEIGHBOURS", "Figures", "Judged", "Metric", "find_metric"]

GROUPS = 5
NEIGHBOURS = 3
"""k of precision, recall, density and coverage."""

_SPLITS = 10
"""Of the inception score."""

Figures = dict[int | None, Estimate]
"""Figures by class; that over all classes is under None."""


@dataclass(frozen=True)
class Judged:
    """Real and generated images as the extractor and the judge see them.

    Attributes:
        of_real: gives the features of the labelled real images of the comparison, (N, F).
        real_labels: their classes, (N,).
        of_all: gives those of all real images of the comparison, labelled or not.
        fake: features of the samples, (M, F).
        fake_labels: the classes asked for, (M,).
        log_prob: the judge's verdicts on the samples, (M, K); (M, 0) if no metric asks for them.
        own_log_prob: those of the extractor's own classes, (M, K'); the judge's if it has none.
        images: the samples.
        dataset: the data.
        splits: which of it trained.
        training: gives the features of all training images.
        device: where what has to be trained is trained.
    """

    of_real: Callable[[], Tensor]
    real_labels: Tensor
    of_all: Callable[[], Tensor]
    fake: Tensor
    fake_labels: Tensor
    log_prob: Tensor
    own_log_prob: Tensor
    images: Tensor
    dataset: Dataset
    splits: Splits
    training: Callable[[], Tensor]
    device: torch.device

    @property
    def real(self) -> Tensor:
        """Features of the labelled real images of the comparison, (N, F)."""
        return self.of_real()

    def group(self, index: int) -> "Judged":
        """One of `GROUPS` equal parts of the samples, each with all classes."""
        size = len(self.fake) // GROUPS
        rows = slice(index * size, (index + 1) * size)
        names = ("fake", "fake_labels", "log_prob", "own_log_prob", "images")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        summary: one line for `fewlabel metrics`.
        figures: judges samples.
        per_class: the fewest samples of each class with which it can be had.
        real_per_class: the fewest real images of each class.
    """

    summary: str
    figures: Callable[[Judged], Figures]
    per_class: int = 2 * GROUPS
    real_per_class: int = 0


def _accuracy(judged: Judged) -> Figures:
    hits = generation_hits(judged.log_prob, judged.fake_labels)
    classes = judged.fake_labels.unique().tolist()
    of_classes = {label: proportion(hits[judged.fake_labels == label]) for label in classes}
    return {None: proportion(hits), **of_classes}


def _by_groups(judged: Judged, figures: Callable[[Judged], dict[int | None, float]]) -> Figures:
    pooled = figures(judged)
    groups = [figures(judged.group(index)) for index in range(GROUPS)]
    return {key: batch_means(pooled[key], [group[key] for group in groups]) for key in pooled}


def _pooled(distance: Distance, judged: Judged) -> Figures:
    real = judged.of_all()
    return _by_groups(judged, lambda part: {None: distance(real, part.fake)})


def _classwise(distance: Distance, judged: Judged) -> Figures:
    def figures(part: Judged) -> dict[int | None, float]:
        labels = part.real_labels, part.fake_labels
        mean, classes = intra(distance)(part.real, labels[0], part.fake, labels[1])
        return {None: mean} | dict(classes.items())

    return _by_groups(judged, figures)


def _inception_score(judged: Judged) -> Figures:
    def score(part: Judged, splits: int) -> float:
        return inception_score(part.own_log_prob, splits).mean

    groups = [score(judged.group(index), _SPLITS // GROUPS) for index in range(GROUPS)]
    return {None: batch_means(score(judged, _SPLITS), groups)}


def _cas(judged: Judged) -> Figures:
    samples, splits = (judged.images, judged.fake_labels), judged.splits
    return {None: cas(*samples, judged.dataset, splits, device=judged.device)}


def _memorised(judged: Judged) -> Figures:
    return {None: memorised(nearest(judged.training(), judged.fake))}


def _copies(judged: Judged) -> Figures:
    """Intra-FID of the labelled images themselves, as many of each class as there are samples."""
    rows = np.searchsorted(judged.splits.train, judged.splits.labelled)
    features = judged.training()[torch.from_numpy(rows)]
    labels = torch.from_numpy(judged.dataset.labels[judged.splits.labelled])
    copies = torch.empty(len(judged.fake), features.shape[1], dtype=features.dtype)
    for label in judged.fake_labels.unique().tolist():
        asked, own = judged.fake_labels == label, features[labels == label]
        order = torch.randperm(len(own), generator=generator_for("copies", label))
        copies[asked] = own[order[torch.arange(int(asked.sum())) % len(own)]]
    return _classwise(fid, replace(judged, fake=copies))


def _kid(real: Tensor, fake: Tensor) -> float:
    return kid(real, fake).mean


def _neighbours(name: str, real: Tensor, fake: Tensor) -> float:
    return prdc(real, fake, NEIGHBOURS)[name]


_OF_TWO_SETS: dict[str, tuple[Distance, str, int]] = {
    "fid": (fid, "Fréchet distance to the real images", 2),
    "kid": (_kid, "kernel distance to the real images, unbiased", 2),
    **{
        name: (partial(_neighbours, name), summary, NEIGHBOURS + 1)
        for name, summary in {
            "precision": "share of samples among the real images",
            "recall": "share of real images among the samples",
            "density": "how densely real images lie around the samples",
            "coverage": "share of real images with a sample near them",
        }.items()
    },
}

METRICS: dict[str, Metric] = {
    "accuracy": Metric("share of samples that the judge gives the class asked for", _accuracy),
    **{
        name: Metric(f"{summary}, all classes together", partial(_pooled, distance))
        for name, (distance, summary, _) in _OF_TWO_SETS.items()
    },
    **{
        f"intra-{name}": Metric(
            f"{summary}, mean over classes", partial(_classwise, distance), least * GROUPS, least
        )
        for name, (distance, summary, least) in _OF_TWO_SETS.items()
    },
    "is": Metric(
        "inception score, ten splits: verdicts that are sure and various", _inception_score
    ),
    "cas": Metric("accuracy on real images of a classifier trained on the samples", _cas),
    "memorised": Metric("share of samples that copy a training image (d₁/d₂ < 1/3)", _memorised),
    "copies-intra-fid": Metric(
        "intra-FID that the labelled images have themselves: copying them brings as much",
        _copies,
        real_per_class=2,
    ),
}


def find_metric(name: str) -> Metric:
    """The row called `name`.

    Raises:
        UserError: if there is none.
    """
    if name not in METRICS:
        raise UserError(f"metric {name!r} is unknown; choose one of {', '.join(METRICS)}")
    return METRICS[name]
