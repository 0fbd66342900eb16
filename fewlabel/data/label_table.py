"""labels.csv in a folder of images: the label of each file that has one."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.images import KINDS, SUFFIXES
from fewlabel.data.listing import Names
from fewlabel.data.table import plain_path, repeated, rows_of
from fewlabel.errors import UserError

__all__ = ["TABLE", "labels_of"]

TABLE = "labels.csv"
"""A folder that holds a file of this name has its labels from there."""


def labels_of(files: Names, table: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The label of each file, −1 for none, and the names of the classes, sorted.

    A file that is not listed, or whose label is left blank, has none. Classes that are called by
    numbers are in the order of the numbers.

    Args:
        files: the images of the folder.
        table: a CSV with the columns ``file``, relative to the folder, and ``label``.

    Raises:
        UserError: for files that are not there or listed twice, naming the line; for no CSV.
    """
    codes: dict[str, int] = {}
    line_of: dict[str, tuple[int, str, str]] = {}
    for line, row in rows_of(table, "file", "label"):
        name, label = ((row[column] or "").strip() for column in ("file", "label"))
        if plain_path(name) in line_of:
            raise repeated(table, line, name)
        line_of[plain_path(name)] = line, name, label
        if label:
            codes.setdefault(label, len(codes))
    found = np.full(len(files), UNLABELLED, dtype=np.int64)
    for index, name in enumerate(files):
        *_, label = line_of.pop(plain_path(name), ("",))
        if label:
            found[index] = codes[label]
    if line_of:
        raise _not_there(table, list(line_of.values()))
    if not codes:
        raise UserError(f"{table} gives no file a label: fill in the column 'label'")
    numbers = all(name.isdecimal() for name in codes)
    names = sorted(codes, key=(lambda name: (int(name), name)) if numbers else None)
    rank = np.empty(len(names) + 1, dtype=np.int64)
    rank[-1] = UNLABELLED  # found where `found` is −1
    rank[[codes[name] for name in names]] = np.arange(len(names))
    return rank[found], tuple(names)


def _not_there(table: Path, lines: list[tuple[int, str, str]]) -> UserError:
    line, name, _ = lines[0]
    more = f", nor for {len(lines) - 1} more lines" if len(lines) > 1 else ""
    there = table.parent / plain_path(name)
    if name and there.is_file() and Path(name).suffix.lower() in SUFFIXES:
        return UserError(
            f"{table}, line {line}: {name} is not written as a path in {table.parent}: write it so"
        )
    if name and there.is_file():
        return UserError(
            f"{table}, line {line}: {name} is of no kind that is read ({KINDS}): convert it "
            "or remove the line"
        )
    return UserError(
        f"{table}, line {line}: there is no image '{name}' in {table.parent}{more}: correct or "
        "remove the line"
    )
