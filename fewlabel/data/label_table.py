"""labels.csv in a folder of images: the label of each file that has one."""

from bisect import bisect_left
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.listing import Names
from fewlabel.data.table import repeated, rows_of
from fewlabel.errors import UserError

__all__ = ["TABLE", "labels_of"]

TABLE = "labels.csv"
"""A folder that holds a file of this name has its labels from there."""


def labels_of(files: Names, table: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The label of each file, −1 for none, and the names of the classes, sorted.

    A file that is not listed, or whose label is left blank, has none. Classes that are called by
    numbers are in the order of the numbers.

    Args:
        files: the images of the folder, sorted.
        table: a CSV with the columns ``file``, relative to the folder, and ``label``.

    Raises:
        UserError: for a file that is not there or listed twice, naming the line; for no CSV.
    """
    codes: dict[str, int] = {}
    found = np.full(len(files), UNLABELLED, dtype=np.int64)
    listed = np.zeros(len(files), dtype=bool)
    for line, row in rows_of(table, "file", "label"):
        name, label = ((row[column] or "").strip() for column in ("file", "label"))
        index = bisect_left(files, name)
        if index == len(files) or files[index] != name:
            raise UserError(
                f"{table}, line {line}: there is no image '{name}' in {table.parent}: correct or "
                "remove the line"
            )
        if listed[index]:
            raise repeated(table, line, name)
        listed[index] = True
        if label:
            found[index] = codes.setdefault(label, len(codes))
    if not codes:
        raise UserError(f"{table} gives no file a label: fill in the column 'label'")
    numbers = all(name.isdecimal() for name in codes)
    names = sorted(codes, key=(lambda name: (int(name), name)) if numbers else None)
    rank = np.empty(len(names) + 1, dtype=np.int64)
    rank[-1] = UNLABELLED  # found where `found` is −1
    rank[[codes[name] for name in names]] = np.arange(len(names))
    return rank[found], tuple(names)
