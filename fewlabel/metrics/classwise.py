"""A metric taken class by class."""

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array

__all__ = ["ClasswiseMetric", "Distance", "intra", "places_in_classes"]

Distance = Callable[[Tensor, Tensor], float]
"""(real: (N, F), fake: (M, F)) → one figure, such as `fid`."""

ClasswiseMetric = Callable[[Array, Array, Array, Array], tuple[float, dict[int, float]]]
"""(real, real_labels, fake, fake_labels) → (mean over classes, {class: figure})."""


def intra(distance: Distance) -> ClasswiseMetric:
    """The class-wise form of a distance: (1/K) Σ_c d(R_c, G_c), and each term of it.

    `intra(fid)` is intra-FID (Miyato & Koyama 2018, arXiv 1802.05637). Every class counts the
    same, however many samples it has.

    Args:
        distance: takes real (N_c, F) and fake (M_c, F) features of one class.

    Returns:
        A function of real (N, F), real_labels (N,), fake (M, F) and fake_labels (M,), labels
        being integers ≥ 0, which returns the mean over the classes and each class's figure. The
        range is that of the distance. It raises `UserError` if labels do not fit the features, a
        label is negative (unlabelled), a class lacks real or generated samples, or the distance
        refuses a class; the message names the class.
    """

    def classwise(
        real: Array, real_labels: Array, fake: Array, fake_labels: Array
    ) -> tuple[float, dict[int, float]]:
        real_parts = _by_class(real, real_labels, "real")
        fake_parts = _by_class(fake, fake_labels, "fake")
        _refuse_missing(real_parts, fake_parts)
        figures = {c: _figure(distance, c, real_parts[c], fake_parts[c]) for c in real_parts}
        return sum(figures.values()) / len(figures), figures

    return classwise


def _by_class(features: Array, labels: Array, name: str) -> dict[int, Tensor]:
    rows, y = torch.as_tensor(features), torch.as_tensor(labels)
    if y.ndim != 1 or len(y) != len(rows):
        raise UserError(
            f"{name} labels have shape {tuple(y.shape)} for {len(rows)} {name} samples: "
            "give one label for each"
        )
    if len(y) == 0:
        raise UserError(f"there are no {name} samples: give some of every class")
    if y.min() < 0:
        raise UserError(
            f"{name} labels: {int((y < 0).sum())} sample(s) have no label (−1): leave them out"
        )
    y = y.to(rows.device)
    return {int(c): rows[y == c] for c in y.unique(sorted=True)}


def _refuse_missing(real: dict[int, Tensor], fake: dict[int, Tensor]) -> None:
    for name, has, lacks in (("generated", real, fake), ("real", fake, real)):
        missing = sorted(has.keys() - lacks.keys())
        if missing:
            classes = ", ".join(map(str, missing))
            raise UserError(f"no {name} samples of class {classes}: give some of every class")


def _figure(distance: Distance, label: int, real: Tensor, fake: Tensor) -> float:
    try:
        return distance(real, fake)
    except UserError as error:
        raise UserError(f"class {label}: {error}") from error


def places_in_classes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each sample stands: the place of its class, and its own place in that class.

    Args:
        labels: (N,) integers.

    Returns:
        Places of the classes (N,), those of the samples in their classes (N,), and how many
        samples each class has (K,).
    """
    _, place, counts = labels.unique(return_inverse=True, return_counts=True)
    order = labels.argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[place[order]]
    return place, rank, counts
