"""Which training examples may show their label: a fraction, a number per class, all, or a CSV."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset
from fewlabel.data.table import is_table, plain_path, repeated, rows_of
from fewlabel.errors import UserError
from fewlabel.randomness import generator_for

__all__ = ["draw_labelled", "half_up", "is_drawn", "listed_in_csv"]

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


def listed_in_csv(dataset: Dataset, path: Path) -> NDArray[np.int64]:
    """The examples that a CSV lists in its column ``file``; all of them train.

    A column ``label``, if there is one, must agree with the dataset.

    Raises:
        UserError: for data without files, a file that is not there or is listed twice, or another
            label.
    """
    if dataset.files is None:
        raise UserError(
            f"{path} lists files, but {dataset.name} has none: give a fraction such as 0.05, a "
            "number per class such as 4/class, or all"
        )
    line_of: dict[str, tuple[int, str | None]] = {}
    for line, row in rows_of(path, "file"):
        name = plain_path(row["file"] or "")
        if name in line_of:
            raise repeated(path, line, name)
        line_of[name] = line, row.get("label")
    chosen = []
    for index, name in enumerate(map(plain_path, dataset.files)):
        if name in line_of:
            line, given = line_of.pop(name)
            _check_label(dataset, index, given, f"{path}, line {line}: {name}")
            chosen.append(index)
    if line_of:
        name, (line, _) = next(iter(line_of.items()))
        if name in map(plain_path, dataset.skipped):
            raise UserError(
                f"{path}, line {line}: {name} is broken: replace the file or remove the line"
            )
        raise UserError(
            f"{path}, line {line}: there is no image '{name}' in {dataset.name}: give its path "
            f"relative to the folder, such as {dataset.files[0]}"
        )
    return np.array(chosen, dtype=np.int64)


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


def _check_label(dataset: Dataset, index: int, given: str | None, where: str) -> None:
    known = int(dataset.labels[index])
    if known < 0:
        raise UserError(
            f"{where} has no label in {dataset.name}: give it one there, by labels.csv or the "
            "sub-folder of its class, or remove the line"
        )
    if given and given.strip() != dataset.class_names[known]:
        raise UserError(
            f"{where} is of class {dataset.class_names[known]}, not "
            f"{given.strip()}: correct one of them"
        )
