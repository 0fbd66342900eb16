"""The split manifest: which examples train, which of them show their label, which are held out."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED, Part
from fewlabel.data.dataset import Dataset
from fewlabel.data.labels import draw_labelled, half_up, listed_in_csv
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.randomness import generator_for

__all__ = ["Splits", "draw_splits"]

_INDICES = ("train", "validation", "test", "labelled")
_SMALLEST_SPLIT_CLASS = 3
_SMALLEST_CLASS_FOR_TWO = 8


@dataclass(frozen=True, eq=False)
class Splits:
    """The indices of each part of a dataset, in ascending order.

    Args:
        train: the training examples.
        validation: held out for choices made in training.
        test: held out for the final figures.
        labelled: the training examples whose labels may be used.
        labels: what was asked for: "0.05", "4/class", "all" or the path of a CSV.
        seed: the seed of the labelled draw.
        fingerprint: of the dataset.
        class_names: of the dataset.
        data: name of the dataset.
        skipped: its broken files, which were left out.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    labelled: NDArray[np.int64]
    labels: str
    seed: int
    fingerprint: str
    class_names: tuple[str, ...]
    data: str
    skipped: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Splits) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    @property
    def labelled_share(self) -> float:
        """The share of training examples whose labels may be used, in [0, 1]."""
        return len(self.labelled) / len(self.train)

    def indices(self, part: Part) -> NDArray[np.int64]:
        """The training examples of a part, ascending."""
        if part == "unlabelled":
            return np.setdiff1d(self.train, self.labelled)
        return self.labelled if part == "labelled" else self.train

    def training_labels(self, dataset: Dataset) -> NDArray[np.int64]:
        """(N,): the labels that training may see, −1 everywhere else."""
        visible = np.full(len(dataset), UNLABELLED, dtype=np.int64)
        labelled = self.indices("labelled")
        visible[labelled] = dataset.labels[labelled]
        return visible

    def check(self, dataset: Dataset, where: str) -> None:
        """Raise unless the manifest was drawn from this dataset.

        Args:
            dataset: the data at hand.
            where: what to call the holder of the manifest, such as "run folder runs/a".

        Raises:
            UserError: if it was not.
        """
        if self.fingerprint != dataset.fingerprint:
            raise UserError(
                f"{where} was made from another dataset ({self.data}, "
                f"{len(self.class_names)} classes) than {dataset.name}, or its files or image "
                "size changed: choose another --out or give the original data"
            )

    def check_same(self, before: "Splits", where: str) -> None:
        """Raise if what was begun has other labels than these, or other data.

        Args:
            before: the manifest that it was begun with.
            where: what to call it.

        Raises:
            UserError: if they differ.
        """
        # A CSV may be named in another way, and the data have moved.
        if self != replace(before, labels=self.labels, data=self.data):
            raise UserError(
                f"{where} was begun with other labels, or others held out, than {self.labels} of "
                f"{self.data} gives now; choose another --out, or give the same labels"
            )

    def to_json(self) -> dict[str, Any]:
        """A document of plain lists, integers and strings."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else _plain(value)
            for key, value in values.items()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Splits":
        """The manifest that `to_json` wrote.

        Raises:
            UserError: for another document.
        """
        try:
            indices = {part: np.array(document[part], dtype=np.int64) for part in _INDICES}
            _check_parts(indices)
            names = {key: tuple(document[key]) for key in ("class_names", "skipped")}
            return cls(**{**document, **indices, **names})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the stored labels are no split manifest ({error}): draw them again into another "
                "run folder"
            ) from error


def _check_parts(parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise ValueError unless each example is in one part, and the labelled ones train."""
    for name, rows in parts.items():
        if rows.ndim != 1 or rows.min(initial=0) < 0 or (np.diff(rows) <= 0).any():
            raise ValueError(f"the indices of {name} do not ascend")
    everything = np.concatenate([parts[name] for name in ("train", "validation", "test")])
    if len(np.unique(everything)) != len(everything):
        raise ValueError("an example is in two parts")
    if not np.isin(parts["labelled"], parts["train"]).all():
        raise ValueError("an example shows its label and does not train")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def draw_splits(dataset: Dataset, labels: str, seed: int) -> Splits:
    """Hold out validation and test examples, and draw the labelled ones from the rest.

    What is held out depends on the dataset alone, so that every draw of labels is judged on the
    same examples. Only a CSV changes that: the files it lists always train.

    Args:
        dataset: the data.
        labels: a fraction of the training labels ("0.05"), a number per class ("4/class"),
            "all", or the path of a ``.csv`` file with a column ``file``.
        seed: the seed of the draw; see `draw_labelled`.

    Raises:
        UserError: for fewer than two classes, labels that cannot be drawn, or a class without any.
    """
    if dataset.n_classes < 2:
        raise UserError(f"{dataset.name} has fewer than two classes: add data of another class")
    train, validation, test = _hold_out(dataset)
    spec = labels.strip()
    if is_table(spec):
        labelled = listed_in_csv(dataset, Path(spec).expanduser())
        _check_every_class(dataset, labelled, spec)
        train = np.union1d(train, labelled)
        validation, test = (np.setdiff1d(held, labelled) for held in (validation, test))
    else:
        _check_every_class(dataset, train, spec)
        labelled = draw_labelled(dataset, train, spec, seed)
    return Splits(
        train=np.sort(train),
        validation=np.sort(validation),
        test=np.sort(test),
        labelled=np.sort(labelled),
        labels=spec,
        seed=seed,
        fingerprint=dataset.fingerprint,
        class_names=dataset.class_names,
        data=dataset.name,
        skipped=dataset.skipped,
    )


def _hold_out(dataset: Dataset) -> tuple[NDArray[np.int64], ...]:
    """Train, validation and test, stratified by class; no label is a stratum of its own."""
    train, validation, test = [], [], []
    own_test = np.zeros(len(dataset), dtype=bool)
    if dataset.test is not None:
        own_test[dataset.test] = True
        test.append(dataset.test)
    test_fraction = dataset.test_fraction if dataset.test is None else 0.0
    for stratum in (UNLABELLED, *range(dataset.n_classes)):
        members = np.flatnonzero((dataset.labels == stratum) & ~own_test)
        generator = generator_for("held out", stratum)
        members = members[torch.randperm(len(members), generator=generator).numpy()]
        n_test = _held_out(len(members), test_fraction, keep=1)
        n_validation = _held_out(len(members), dataset.validation_fraction, keep=1 + n_test)
        test.append(members[:n_test])
        validation.append(members[n_test : n_test + n_validation])
        train.append(members[n_test + n_validation :])
    return np.concatenate(train), np.concatenate(validation), np.concatenate(test)


def _held_out(n: int, fraction: float, keep: int) -> int:
    """How many of n examples to hold out: at least one, but none of the smallest classes.

    Of eight examples it is two, so that they have a spread, as distances between sets need.
    """
    if fraction == 0 or n < _SMALLEST_SPLIT_CLASS:
        return 0
    least = 1 if n < _SMALLEST_CLASS_FOR_TWO else 2
    return min(max(least, half_up(Fraction(str(fraction)) * n)), n - keep)


def _check_every_class(dataset: Dataset, indices: NDArray[np.int64], spec: str) -> None:
    present = set(np.unique(dataset.labels[indices]).tolist())
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            raise UserError(
                f"labels '{spec}' of {dataset.name} leave class {name} without a labelled "
                "training example: label at least one, or remove the class"
            )
