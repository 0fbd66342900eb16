"""Which training examples may show their label: a fraction, a number per class, all, or a CSV."""

import math
import re
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset
from fewlabel.data.label_table import TABLE
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.randomness import generator_for

__all__ = ["check_classes", "draw_labelled", "half_up", "is_drawn"]

_LEAST_CLASSES = 2
_FORMS = "give a fraction such as 0.05, a number per class such as 4/class, all, or a CSV file"
_LONGEST = 60  # letters of a fraction


def half_up(value: Fraction) -> int:
    """The nearest integer, the larger one if two are."""
    return math.floor(value + Fraction(1, 2))


def is_drawn(labels: str) -> bool:
    """Whether these labels depend on a seed: all of them, or those that a CSV lists, do not."""
    spec = labels.strip()
    if spec == "all" or is_table(spec):
        return False
    return "/" in spec or _fraction(spec) < 1


def draw_labelled(
    dataset: Dataset, train: NDArray[np.int64], labels: str, seed: int
) -> NDArray[np.int64]:
    """Draw the examples whose labels may be used, stratified by class.

    Each class has a random order that depends on the seed alone, and gives its first examples:
    so of two fractions, or of two numbers per class, with one seed the larger contains the
    smaller.

    Args:
        dataset: the data.
        train: indices of the training examples.
        labels: a fraction in (0, 1], of which each class has at least one ("0.05"), a number per
            class ("4/class") or "all".
        seed: the seed of the draw.

    Raises:
        UserError: for another text, or a class with too few labels.
    """
    by_class = [
        _shuffled(train[dataset.labels[train] == label], seed, label)
        for label in range(dataset.n_classes)
    ]
    if labels == "all":
        return np.concatenate(by_class)
    if per_class := re.fullmatch(r"(\d{1,9})\s*/\s*class", labels):
        count = int(per_class[1])
        _check_count(dataset, by_class, count)
        return np.concatenate([members[:count] for members in by_class])
    return _first_fraction(by_class, _fraction(labels))


def check_classes(dataset: Dataset) -> None:
    """Refuse data of which no two classes can be told apart.

    Raises:
        UserError: for fewer than two classes.
    """
    names = dataset.class_names
    if len(names) >= _LEAST_CLASSES:
        return
    if dataset.files is None:
        raise UserError(f"{dataset.name} has fewer than two classes: add data of another class")
    if names:
        raise UserError(
            f"folder {dataset.name} has only one class, {names[0]}: add a sub-folder for each "
            f"other class, or label images of another in {TABLE} or by --labels FILE.csv"
        )
    raise UserError(
        f"folder {dataset.name} has no class sub-folders, and no label in {TABLE}: put each class "
        "in a sub-folder of its own, and images without a label in unlabeled/, or name the label "
        f"of each file in {TABLE} or in a CSV of --labels, in the columns file and label"
    )


def _shuffled(members: NDArray[np.int64], seed: int, label: int) -> NDArray[np.int64]:
    order = torch.randperm(len(members), generator=generator_for("labels", seed, label))
    return members[order.numpy()]


def _fraction(labels: str) -> Fraction:
    """The exact number that the decimals say: 0.29 · 50 is 14.5 and no less."""
    shown = labels if len(labels) <= _LONGEST else f"{labels[:_LONGEST]}…"
    try:
        # Texts of few letters can be exact numbers of a billion digits: look at the size first.
        roughly = 1.0 if "/" in labels else float(labels)
        too_far = roughly > 1 or roughly <= 0 or shown != labels
        fraction = Fraction(2) if too_far else Fraction(labels)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"labels '{shown}' are not understood: {_FORMS}") from error
    if not 0 < fraction <= 1:
        raise UserError(f"labels '{shown}' are no fraction above 0 and at most 1: {_FORMS}")
    return fraction


def _first_fraction(by_class: list[NDArray[np.int64]], fraction: Fraction) -> NDArray[np.int64]:
    """The first examples of one order of all, which is stratified at every length.

    After one example of each class, the next is of the class that is the furthest behind its
    share (Sainte-Laguë's method). Largest remainders would not do: a class may lose an example
    when the fraction grows, and the draws would not be nested.
    """
    members = np.concatenate(by_class)
    sizes = np.concatenate([np.full(len(m), len(m)) for m in by_class])
    rank = np.concatenate([np.arange(len(m)) for m in by_class])
    order = np.lexsort(((2 * rank + 1) / sizes, rank > 0))
    total = max(half_up(fraction * len(members)), int((rank == 0).sum()))
    return members[order[:total]]


def _check_count(dataset: Dataset, by_class: list[NDArray[np.int64]], count: int) -> None:
    if count < 1:
        raise UserError(f"labels '{count}/class' leave no label: {_FORMS}")
    for name, members in zip(dataset.class_names, by_class, strict=True):
        if len(members) < count:
            raise UserError(
                f"labels '{count}/class': class {name} of {dataset.name} has only {len(members)} "
                f"labelled training examples: ask for at most {min(map(len, by_class))}/class"
            )
