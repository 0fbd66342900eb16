"""labels.csv in a folder of images: the label of each file that has one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import plain_name, position_of, says_none
from fewlabel.data.images import KINDS, SUFFIXES
from fewlabel.data.listing import Names
from fewlabel.data.table import plain_path, repeated, rows_of
from fewlabel.errors import UserError

__all__ = ["TABLE", "Line", "folders_are_classes", "lines_of", "merged"]

TABLE = "labels.csv"
"""A folder that holds a file of this name has labels from there."""


class Line(NamedTuple):
    """A line of the table: its number, the file as it is written there, and what it says."""

    number: int
    file: str
    label: str


def lines_of(table: Path) -> dict[str, Line]:
    """The lines of a table by the path of the file, in one spelling.

    Args:
        table: a CSV with the columns ``file``, relative to its folder, and ``label``.

    Raises:
        UserError: for a file that is listed twice, and for no CSV.
    """
    lines: dict[str, Line] = {}
    for number, row in rows_of(table, "file", "label"):
        name, label = ((row[column] or "").strip() for column in ("file", "label"))
        if plain_path(name) in lines:
            raise repeated(table, number, name)
        lines[plain_path(name)] = Line(number, name, plain_name(label))
    return lines


def folders_are_classes(
    lines: Mapping[str, Line], folders: Sequence[str], has_unlabeled: bool, is_flat: bool
) -> bool:
    """Whether the sub-folders beside a table are classes, or only places of its files.

    They are classes if the table has a label of the name of one. Without such a label they are
    classes if all images lie in them or in unlabeled/, and the table labels none of theirs or
    unlabeled/ is there.

    Args:
        lines: of the table.
        folders: the sub-folders, but for unlabeled/.
        has_unlabeled: whether unlabeled/ is there.
        is_flat: whether images lie beside the table itself.
    """
    names = tuple(map(plain_name, folders))
    labelled = {path: line for path, line in lines.items() if not says_none(line.label)}
    if any(position_of(line.label, names) is not None for line in labelled.values()):
        return True
    if not names or is_flat:
        return False
    return has_unlabeled or not any(path.split("/")[0] in names for path in labelled)


def merged(
    files: Names,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    table: Path,
    lines: Mapping[str, Line],
) -> tuple[NDArray[np.int64], list[str]]:
    """What folders say of files and what a table adds, as `known_labels` takes it.

    A file that is not listed, or whose label is left blank, keeps the class of its folder.

    Args:
        files: the images of the folder.
        labels: (N,): the class of the folder of each; −1 for none.
        class_names: of the folders.
        table: the table, for messages.
        lines: of the table.

    Returns:
        (N,): which text each file has, −1 for none; and the texts, first those of the folders.

    Raises:
        UserError: for a file that is not there, or is in a folder of another class.
    """
    said, folders = {name: code for code, name in enumerate(class_names)}, tuple(class_names)
    rest, codes = dict(lines), labels.copy()
    for row, file in enumerate(files):
        line = rest.pop(plain_path(file), None)
        if line is None or not line.label:
            continue
        if codes[row] == UNLABELLED:
            place = position_of(line.label, folders)
            codes[row] = said.setdefault(line.label, len(said)) if place is None else place
        elif not says_none(line.label):
            _check_agrees(line, class_names[codes[row]], table)
    if rest:
        raise _not_there(table, list(rest.values()))
    return codes, list(said)


def _check_agrees(line: Line, folder: str, table: Path) -> None:
    if position_of(line.label, (folder,)) is None:
        raise UserError(
            f"{table}, line {line.number}: {line.file} lies in class folder {folder}, and the "
            f"line says {line.label}: correct the line or move the file"
        )


def _not_there(table: Path, lines: list[Line]) -> UserError:
    number, name, _ = lines[0]
    more = f", nor for {len(lines) - 1} more lines" if len(lines) > 1 else ""
    there = table.parent / plain_path(name)
    if name and there.is_file() and os.path.splitext(name)[1].lower() in SUFFIXES:
        return UserError(
            f"{table}, line {number}: {name} is not written as a path in {table.parent}: write it "
            "so"
        )
    if name and there.is_file():
        return UserError(
            f"{table}, line {number}: {name} is of no kind that is read ({KINDS}): convert it "
            "or remove the line"
        )
    return UserError(
        f"{table}, line {number}: there is no image '{name}' in {table.parent}{more}: correct or "
        "remove the line"
    )
