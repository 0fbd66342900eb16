"""`--labels FILE.csv`: the examples that a CSV lists, and the labels that it gives.

file,label            or, for data without files,   index,label
ponds/a.png,heron                                   0,heron
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_labels, plain_name, position_of, says_none
from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.data.table import is_table, plain_path, repeated, rows_of
from fewlabel.errors import UserError

__all__ = ["labelled_by_csv", "listed_in_csv", "with_labels"]

_SHOWN = 3


class _Line(NamedTuple):
    """A line of the CSV: where it is, for messages, and its label; None without that column."""

    where: str
    label: str | None


def labelled_by_csv(dataset: Dataset, labels: str) -> Dataset:
    """The dataset with the labels that a CSV gives to examples that have none.

    Its column ``label``, if there is one, says the class, which may be a new one. A line without
    a label in it is one for later.

    Args:
        dataset: the data.
        labels: what was asked for; the dataset stays as it is unless it is the path of a CSV.

    Raises:
        UserError: for a CSV that `listed_in_csv` refuses, and a label that is not the data's own.
    """
    if not is_table(labels.strip()):
        return dataset
    path = Path(labels.strip()).expanduser()
    listed, given, n_blank = _read(dataset, path)
    found = with_labels(dataset, given)
    notes = [*_notes(path, dataset, given, n_blank), *_left_out(path, dataset, listed, given)]
    return replace(found, notes=(*found.notes, *notes))


def with_labels(dataset: Dataset, given: Mapping[int, str]) -> Dataset:
    """The dataset with the labels that were given to some of its examples.

    Args:
        dataset: the data.
        given: the class of rows that have no label; classes may be new.
    """
    if not given or max(given) >= len(dataset):  # of other data, which `Splits.check` refuses
        return dataset
    names = dataset.class_names
    code = {name: label for label, name in enumerate(names)}
    codes = dataset.labels.copy()
    for row, name in given.items():
        codes[row] = code.setdefault(name, len(code))
    ordered = names != known_labels(np.arange(len(names)), names, dataset.name).class_names
    known = known_labels(codes, list(code), dataset.name, ordered)
    pairs = tuple(sorted(given.items()))
    return replace(
        dataset,
        labels=known.labels,
        class_names=known.class_names,
        notes=tuple(dict.fromkeys((*dataset.notes, *known.notes))),
        given=(*dataset.given, *pairs),
        fingerprint=fingerprint_of("given", dataset.fingerprint, pairs),
    )


def listed_in_csv(dataset: Dataset, path: Path) -> NDArray[np.int64]:
    """The labelled examples that a CSV lists in its column ``file``; all of them train.

    Args:
        dataset: the data, with the labels that the CSV gives.
        path: the CSV; for data without files it has a column ``index``, from 0.

    Raises:
        UserError: for an example that is not there, is listed twice or has no label, and a label
            that is not the data's own.
    """
    listed, given, _ = _read(dataset, path)
    for row in given:
        raise _no_label(dataset, _lines(dataset, path)[row].where)
    return np.array(listed, dtype=np.int64)


def _read(dataset: Dataset, path: Path) -> tuple[list[int], dict[int, str], int]:
    """The rows listed that have a label, the labels of other rows, and how many wait for one."""
    listed: list[int] = []
    given: dict[int, str] = {}
    n_blank = 0
    for row, line in _lines(dataset, path).items():
        known, text = int(dataset.labels[row]), line.label
        if known >= 0:
            _check_agrees(text, dataset.class_names[known], line.where)
            listed.append(row)
        elif text is None:
            raise _no_label(dataset, line.where)
        elif says_none(text):
            n_blank += 1
        else:
            place = position_of(text, dataset.class_names)
            given[row] = plain_name(text) if place is None else dataset.class_names[place]
    return listed, given, n_blank


def _lines(dataset: Dataset, path: Path) -> dict[int, _Line]:
    """The lines of a CSV by the example that each lists, ascending."""
    key = "index" if dataset.files is None else "file"
    if dataset.files is None and key not in next(rows_of(path))[1]:
        raise UserError(
            f"{path} lists files, but {dataset.name} has none: give a fraction such as 0.05, a "
            "number per class such as 4/class, or all, or list rows from 0 in a column index"
        )
    line_of: dict[str, tuple[int, _Line]] = {}
    for number, row in rows_of(path, key):
        name = plain_path(row[key] or "")
        name = name if dataset.files is not None else _without_point(name)
        if name in line_of:
            raise repeated(path, number, name)
        label = (row["label"] or "") if "label" in row else None
        line_of[name] = number, _Line(f"{path}, line {number}: {name}", label)
    names = map(plain_path, dataset.files) if dataset.files else map(str, range(len(dataset)))
    found = {row: line_of.pop(name)[1] for row, name in enumerate(names) if name in line_of}
    if line_of:
        name, (number, _) = next(iter(line_of.items()))
        raise _not_there(dataset, f"{path}, line {number}", name)
    return found


def _without_point(index: str) -> str:
    """A whole number as it is written without decimals."""
    whole, _, decimals = index.partition(".")
    return whole if not decimals.strip("0") else index


def _not_there(dataset: Dataset, where: str, name: str) -> UserError:
    if dataset.files is None:
        return UserError(
            f"{where}: there is no row '{name}' in {dataset.name}: give a number from 0 to "
            f"{len(dataset) - 1}"
        )
    if name in map(plain_path, dataset.skipped):
        return UserError(f"{where}: {name} is broken: replace the file or remove the line")
    return UserError(
        f"{where}: there is no image '{name}' in {dataset.name}: give its path relative to the "
        f"folder, such as {dataset.files[0]}"
    )


def _no_label(dataset: Dataset, where: str) -> UserError:
    return UserError(
        f"{where} has no label in {dataset.name}: give it one there, by labels.csv or the "
        "sub-folder of its class, or in a column label here, or remove the line"
    )


def _check_agrees(text: str | None, known: str, where: str) -> None:
    if text is not None and not says_none(text) and position_of(text, (known,)) is None:
        raise UserError(
            f"{where} is of class {known}, not {plain_name(text)}: correct one of them"
        )


def _notes(
    path: Path, dataset: Dataset, given: Mapping[int, str], n_blank: int
) -> tuple[str, ...]:
    notes = []
    new = sorted({*given.values()} - {*dataset.class_names})
    if new and dataset.class_names:
        shown = ", ".join(new[:_SHOWN]) + (", …" if len(new) > _SHOWN else "")
        notes.append(f"{path.name} adds {_number(len(new), 'class', 'classes')}: {shown}")
    if n_blank:
        lines = _number(n_blank, "line has", "lines have")
        notes.append(f"{lines} no label in {path.name} yet: skipped")
    return tuple(notes)


def _left_out(
    path: Path, dataset: Dataset, listed: Sequence[int], given: Mapping[int, str]
) -> list[str]:
    """A note on labels that the data have and a CSV which adds others does not list."""
    usable = dataset.labels != UNLABELLED
    if dataset.test is not None:
        usable[dataset.test] = False
    usable[list(listed)] = False
    if not given or not usable.any():
        return []
    kind = "file" if dataset.files is not None else "row"
    left = _number(int(usable.sum()), f"labelled {kind} is", f"labelled {kind}s are")
    return [f"{left} not in {path.name}: no model learns their labels unless it lists them too"]


def _number(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"
