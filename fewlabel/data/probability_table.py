"""Class probabilities of examples in a CSV, as any classifier can write it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset
from fewlabel.data.table import plain_path, repeated, rows_of
from fewlabel.errors import UserError

__all__ = ["probabilities_of"]

_TOLERANCE = 0.01  # of a sum from one


def probabilities_of(
    dataset: Dataset, indices: NDArray[np.int64], table: Path
) -> NDArray[np.float32]:
    """The probabilities that a CSV gives some examples.

    It has a column for each class, by its name, and the column ``file``, relative to the folder of
    the data; for data without files the column ``index``, from 0. Lines of other examples do not
    count.

    Args:
        dataset: the data.
        indices: (N,) which examples.
        table: the CSV.

    Returns:
        (N, K), rows of sum 1.

    Raises:
        UserError: for an example that is missing or listed twice, for numbers that are no
            probabilities, and for no such CSV.
    """
    files = dataset.files
    key, names = ("index", indices) if files is None else ("file", [files[i] for i in indices])
    place = {plain_path(str(name)): row for row, name in enumerate(names)}
    found = np.full((len(indices), dataset.n_classes), np.nan, np.float32)
    for line, row in rows_of(table, key, *dataset.class_names):
        name = plain_path(row[key] or "")
        if name not in place:
            continue
        if not np.isnan(found[place[name], 0]):
            raise repeated(table, line, name)
        found[place[name]] = _shares([row[c] for c in dataset.class_names], table, line)
    missing = np.flatnonzero(np.isnan(found[:, 0]))
    if len(missing):
        raise UserError(
            f"{table} has no line for {key} {names[missing[0]]}, nor for {len(missing) - 1} more "
            "training examples without a label: add them"
        )
    return found


def _shares(values: list[str | None], table: Path, line: int) -> NDArray[np.float64]:
    try:
        p = np.array([float(value or "") for value in values])
    except ValueError:
        p = np.array([np.nan])
    if not (p.min() >= 0 and abs(p.sum() - 1) <= _TOLERANCE):  # NaN too
        raise UserError(
            f"{table}, line {line}: {', '.join(value or 'nothing' for value in values)} are no "
            "probabilities: give numbers from 0 to 1 of sum 1, one for each class"
        )
    return p / p.sum()
