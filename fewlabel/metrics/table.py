"""The table of metrics for samples: each row holds everything about one metric.

Shares of samples have Wilson's interval. Distances and shares by neighbours have that of batch
means over five groups of the samples, each with all classes; the real images are the same in all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fewlabel.data import Dataset, Splits
from fewlabel.errors import UserError
from fewlabel.metrics.accuracy import generation_hits
from fewlabel.metrics.classification_score import cas
from fewlabel.metrics.classwise import Distance, intra, places_in_classes
from fewlabel.metrics.frechet import fid
from fewlabel.metrics.inception_score import inception_score
from fewlabel.metrics.intervals import Estimate, batch_means, proportion
from fewlabel.metrics.kernel import kid
from fewlabel.metrics.measure import QUANTITIES, Measure, share
from fewlabel.metrics.memorisation import memorised, nearest
from fewlabel.metrics.precision_recall import prdc
from fewlabel.randomness import generator_for

__all__ = [
    "GROUPS",
    "METRICS",
    "NEIGHBOURS",
    "Figures",
    "Judged",
    "Metric",
    "find_metric",
    "measure",
]

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
        rows = _group_of_each(self.fake_labels) == index
        names = ("fake", "fake_labels", "log_prob", "own_log_prob", "images")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        measure: its title, which way is better, its digits and limits.
        summary: one line for `fewlabel metrics`.
        figures: judges samples.
        per_class: the fewest samples of each class with which it can be had.
        real_per_class: the fewest labelled real images of each class.
        verdicts: whose verdicts on the samples it takes: the judge's, those of the extractor if it
            has classes of its own, or nobody's.
        unbiased: the metric to take where there are no more images than features; None if this
            one can do with fewer.
    """

    measure: Measure
    summary: str
    figures: Callable[[Judged], Figures]
    per_class: int = 2 * GROUPS
    real_per_class: int = 0
    verdicts: Literal["judge", "extractor"] | None = None
    unbiased: str | None = None


def _group_of_each(labels: Tensor) -> Tensor:
    """The group of each sample; those that are left over have a number above `GROUPS` − 1.

    Samples count in the order of a class each in turn, whatever order they are in.
    """
    place, rank, counts = places_in_classes(labels)
    size = (counts * len(counts) // GROUPS).clamp_min(1)
    return (rank * len(counts) + place) // size[place]


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


@dataclass(frozen=True)
class _Distance:
    """A distance between two sets of images, which makes two rows of the table."""

    measure: Measure
    summary: str
    distance: Distance
    least: int
    unbiased: str | None = None

    @property
    def pooled(self) -> Metric:
        figures = partial(_pooled, self.distance)
        summary = f"{self.summary}, all classes together"
        return Metric(self.measure, summary, figures, unbiased=self.unbiased)

    @property
    def classwise(self) -> Metric:
        return Metric(
            replace(self.measure, title=f"intra-{self.measure.title}"),
            f"{self.summary}, mean over classes",
            partial(_classwise, self.distance),
            self.least * GROUPS,
            self.least,
            unbiased=self.unbiased and f"intra-{self.unbiased}",
        )


def _of_neighbours(name: str, measure: Measure, summary: str) -> _Distance:
    return _Distance(measure, summary, partial(_neighbours, name), NEIGHBOURS + 1)


_FID = Measure("FID", "smallest", ".2f", least=0.0)
_DENSITY = Measure("density", "largest", ".3f", least=0.0)

_DISTANCES = {
    "fid": _Distance(_FID, "Fréchet distance to the real images", fid, 2, "kid"),
    "kid": _Distance(
        Measure("KID", "smallest", ".4f"), "kernel distance to the real images, unbiased", _kid, 2
    ),
    **{
        name: _of_neighbours(name, measure, summary)
        for name, measure, summary in (
            ("precision", share("precision"), "share of samples among the real images"),
            ("recall", share("recall"), "share of real images among the samples"),
            ("density", _DENSITY, "how densely real images lie around the samples"),
            ("coverage", share("coverage"), "share of real images with a sample near them"),
        )
    },
}

METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        share("accuracy"),
        "share of samples that the judge gives the class asked for",
        _accuracy,
        verdicts="judge",
    ),
    **{name: row.pooled for name, row in _DISTANCES.items()},
    **{f"intra-{name}": row.classwise for name, row in _DISTANCES.items()},
    "is": Metric(
        Measure("inception score", "largest", ".2f", least=1.0),
        "inception score, ten splits: verdicts that are sure and various",
        _inception_score,
        verdicts="extractor",
    ),
    "cas": Metric(
        share("CAS"), "accuracy on real images of a classifier trained on the samples", _cas
    ),
    "memorised": Metric(
        share("memorised", "smallest"),
        "share of samples that copy a training image (d₁/d₂ < 1/3)",
        _memorised,
    ),
    "copies-intra-fid": Metric(
        replace(_FID, title="intra-FID of copies", best=None),
        "intra-FID that the labelled images have themselves: copying them brings as much",
        _copies,
        real_per_class=2,
    ),
}


def measure(metric: str) -> Measure:
    """A metric by its name in results, such as "fid", or "ece@0.5" of a noise level.

    One that is not known keeps its name and is no contest.
    """
    name, _, level = metric.partition("@")
    key = name.lower()
    found = METRICS[key].measure if key in METRICS else QUANTITIES.get(key, Measure(name))
    return replace(found, title=f"{found.title}, σ = {level}") if level else found


def find_metric(name: str) -> Metric:
    """The row called `name`.

    Raises:
        UserError: if there is none.
    """
    if name not in METRICS:
        raise UserError(f"metric {name!r} is unknown; choose one of {', '.join(METRICS)}")
    return METRICS[name]
