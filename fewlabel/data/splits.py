"""The split manifest: which examples train, which of them show their label, which are held out."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED, Part
from fewlabel.data.csv_labels import listed_in_csv, with_labels
from fewlabel.data.dataset import Dataset
from fewlabel.data.holding_out import TEST, TRAIN, VALIDATION, Side, hold_out
from fewlabel.data.labels import check_classes, draw_labelled
from fewlabel.data.table import is_table
from fewlabel.errors import UserError

__all__ = ["Splits", "draw_splits"]

_INDICES = ("train", "validation", "test", "labelled")
_NAMES: dict[Side, str] = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
_NOTHING = np.empty(0, np.uint64)
_KNOWN = 0.5
"""Data of which a manifest knows a smaller share are other data, not the same that changed."""


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
        contents: (N,) uint64, what each example holds; see `Dataset.contents`. Empty for a model
            whose data are unknown.
        given: the labels that a CSV gave beyond the data's own: the row and the class of each.
        absent: contents of examples that are not in the data any more, by their side: what a
            score model that is used here was trained on, or held out.
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
    contents: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    given: tuple[tuple[int, str], ...] = ()
    absent: Mapping[Side, NDArray[np.uint64]] = field(default_factory=dict)

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

    @property
    def sides(self) -> dict[Side, NDArray[np.uint64]]:
        """The contents on each side, as `hold_out` takes them; none for unknown data."""
        if not len(self.contents):
            return {}
        parts = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}
        return {
            side: np.concatenate([self.contents[rows], self.absent.get(side, _NOTHING)])
            for side, rows in parts.items()
        }

    @property
    def held_out(self) -> NDArray[np.int64]:
        """The examples that are held out, ascending."""
        return np.sort(np.concatenate([self.validation, self.test]))

    def leaked(self, before: "Splits") -> NDArray[np.int64]:
        """The examples held out here that train in another manifest, by what they hold.

        Copies of images that train here, as some test parts hold, do not count.
        """
        held, trained = self.held_out, before.sides.get(TRAIN, _NOTHING)
        trained = np.setdiff1d(trained, self.contents[self.train])
        return held[np.isin(self.contents[held], trained)]

    def with_given(self, dataset: Dataset) -> Dataset:
        """The dataset with the labels that a CSV gave it when this manifest was drawn.

        Args:
            dataset: the data as the source has them; files may have been added or removed since.
        """
        given = dict(self.given)
        free = np.flatnonzero(dataset.labels == UNLABELLED).tolist()
        if np.array_equal(self.contents, dataset.contents):
            return with_labels(dataset, {row: given[row] for row in free if row in given})
        class_of = {int(self.contents[row]): name for row, name in given.items()}
        said = {row: class_of.get(int(dataset.contents[row])) for row in free if class_of}
        return with_labels(dataset, {row: name for row, name in said.items() if name})

    def check(self, dataset: Dataset, where: str) -> None:
        """Raise unless the manifest was drawn from this dataset.

        Args:
            dataset: the data at hand.
            where: what to call the holder of the manifest, such as "run folder runs/a".

        Raises:
            UserError: if it was not, saying what changed.
        """
        if self.fingerprint != dataset.fingerprint:
            raise UserError(
                f"{where} was made from another dataset ({self.data}, "
                f"{len(self.class_names)} classes) than {dataset.name} is now: "
                f"{self.changes(dataset)}; choose another --out or give the original data"
            )

    def changes(self, dataset: Dataset) -> str:
        """What changed in the data since the manifest was drawn, for people."""
        now, before = dataset.contents, self.contents
        new, gone = np.flatnonzero(~np.isin(now, before)), int((~np.isin(before, now)).sum())
        named = f", such as {dataset.files[new[0]]}" if dataset.files and len(new) else ""
        found = [
            f"{gone} of its {len(before)} examples are gone" if gone else "",
            f"{len(new)} are new{named}" if len(new) else "",
            f"there are {len(now)} examples and were {len(before)}"
            if len(now) != len(before) and not (gone or len(new))
            else "",
            f"its classes are {', '.join(dataset.class_names)}"
            if dataset.class_names != self.class_names
            else "",
        ]
        return ", ".join(filter(None, found)) or "labels, order or image size are others"

    def onto(self, dataset: Dataset, where: str) -> "Splits":
        """The manifest for the same data with files added, removed, renamed or labelled since.

        Every example that it knows keeps its side. New ones are on none.

        Args:
            dataset: the data as they are now.
            where: what to call the holder of the manifest.

        Raises:
            UserError: for other classes, or data of which less than half is known.
        """
        sides = [np.isin(dataset.contents, known) for known in self.sides.values()]
        known = np.isin(self.contents, dataset.contents).mean() if len(self.contents) else 0.0
        if dataset.class_names != self.class_names or known < _KNOWN:
            self.check(dataset, where)
        train, validation, test = sides
        named = np.isin(dataset.contents, self.contents[self.labelled])
        return replace(
            self,
            train=np.flatnonzero(train),
            validation=np.flatnonzero(validation & ~train),
            test=np.flatnonzero(test & ~validation & ~train),
            labelled=np.flatnonzero(named & train & (dataset.labels != UNLABELLED)),
            fingerprint=dataset.fingerprint,
            data=dataset.name,
            skipped=dataset.skipped,
            contents=dataset.contents,
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
        plain = {
            key: value.tolist() if isinstance(value, np.ndarray) else _plain(value)
            for key, value in values.items()
        }
        absent = {_NAMES[side]: _as_text(known) for side, known in sorted(self.absent.items())}
        return plain | {"contents": _as_text(self.contents), "absent": absent}

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
            given = tuple((int(key), str(name)) for key, name in document["given"])
            absent = document["absent"]
            known = {
                "contents": _from_text(document["contents"]),
                "given": given,
                "absent": {s: _from_text(absent[n]) for s, n in _NAMES.items() if n in absent},
            }
            return cls(**{**document, **indices, **names, **known})
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


def _as_text(contents: NDArray[np.uint64]) -> str:
    return base64.b64encode(contents.astype("<u8").tobytes()).decode()


def _from_text(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode(text), "<u8").astype(np.uint64)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def draw_splits(dataset: Dataset, labels: str, seed: int, before: Splits | None = None) -> Splits:
    """Hold out validation and test examples, and draw the labelled ones from the rest.

    What is held out depends on what the examples hold (see `hold_out`), so that every draw of
    labels is judged on the same ones. Only a CSV changes that: the files it lists always train.

    Args:
        dataset: the data; for a CSV with labels, as `labelled_by_csv` gives it.
        labels: a fraction of the training labels ("0.05"), a number per class ("4/class"),
            "all", or the path of a ``.csv`` file with a column ``file``.
        seed: the seed of the draw; see `draw_labelled`.
        before: a manifest whose examples keep their sides: that of a model which is used here.

    Raises:
        UserError: for fewer than two classes, labels that cannot be drawn, or a class without any.
    """
    check_classes(dataset)
    sides, spec = hold_out(dataset, before.sides if before else None), labels.strip()
    if is_table(spec):
        labelled = listed_in_csv(dataset, Path(spec).expanduser())
        _check_own_test(dataset, labelled, spec)
        _check_every_class(dataset, labelled, spec)
        copies = np.isin(dataset.contents, dataset.contents[labelled])
        if dataset.test is not None:
            copies[dataset.test] = False
        sides[copies] = TRAIN
    else:
        train = np.flatnonzero(sides == TRAIN)
        _check_every_class(dataset, train, spec)
        labelled = draw_labelled(dataset, train, spec, seed)
    return Splits(
        train=np.flatnonzero(sides == TRAIN),
        validation=np.flatnonzero(sides == VALIDATION),
        test=np.flatnonzero(sides == TEST),
        labelled=np.sort(labelled),
        labels=spec,
        seed=seed,
        fingerprint=dataset.fingerprint,
        class_names=dataset.class_names,
        data=dataset.name,
        skipped=dataset.skipped,
        contents=dataset.contents,
        given=dataset.given,
        absent=_absent(dataset, before),
    )


def _absent(dataset: Dataset, before: Splits | None) -> dict[Side, NDArray[np.uint64]]:
    """What another manifest knows and the data lack: it may come back in the next draw."""
    sides = before.sides if before else {}
    gone = {side: np.setdiff1d(known, dataset.contents) for side, known in sides.items()}
    return {side: contents for side, contents in gone.items() if len(contents)}


def _check_own_test(dataset: Dataset, labelled: NDArray[np.int64], spec: str) -> None:
    """Refuse to train on the source's own test part."""
    listed = np.intersect1d(labelled, () if dataset.test is None else dataset.test)
    if len(listed):
        row = int(listed[0])
        named = dataset.files[row] if dataset.files else f"row {row}"
        raise UserError(
            f"{spec} lists {len(listed)} examples of the test part of {dataset.name}, such as "
            f"{named}, which never trains: remove their lines"
        )


def _check_every_class(dataset: Dataset, indices: NDArray[np.int64], spec: str) -> None:
    present = set(np.unique(dataset.labels[indices]).tolist())
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            raise UserError(
                f"labels '{spec}' of {dataset.name} leave class {name} without a labelled "
                "training example: label at least one, or remove the class"
            )
