"""dataset.json in a folder of images, as the tools of StyleGAN2, StyleGAN3 and EDM write it.

DATA/dataset.json             {"labels": [["00000/img00000000.png", 3], …]}, or "labels": null
DATA/00000/img00000000.png    the sub-folders are no classes
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import Known, known_integers
from fewlabel.data.listing import Names
from fewlabel.data.table import plain_path
from fewlabel.errors import UserError
from fewlabel.regular_file import regular

__all__ = ["DATASET_JSON", "entries_of", "labels_of_entries", "refuse_unnamed"]

DATASET_JSON = "dataset.json"
"""A folder that holds such a file of this name has its labels from there."""

_OF_TOOLS = re.compile(r"\d{5}/img\d{8}\.\w+")
_MEND = "write it again with the dataset tool, or remove it"


def entries_of(path: Path) -> list[tuple[str, int]] | None:
    """The files that a dataset.json lists, each with its label, −1 for none.

    Returns:
        Nothing if the file is missing or is JSON of another kind, without ``labels``.

    Raises:
        UserError: if it cannot be read, or its labels are not one integer a file.
    """
    regular(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise UserError(f"{path} cannot be read ({reason}): {_MEND}") from None
    if not isinstance(found, dict) or "labels" not in found:
        return None
    listed = found["labels"]
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise UserError(f"{path}: labels are no list: {_MEND}")
    return [_entry(path, number, entry) for number, entry in enumerate(listed)]


def labels_of_entries(files: Names, path: Path, entries: Sequence[tuple[str, int]]) -> Known:
    """The label of each file; classes are called by their integers.

    Args:
        files: the images of the folder.
        path: the dataset.json, for messages.
        entries: what it lists.

    Raises:
        UserError: for files that are not there or listed twice.
    """
    label_of: dict[str, int] = {}
    for number, (name, label) in enumerate(entries):
        if name in label_of:
            raise UserError(f"{path}, entry {number}: {name} is listed a second time: {_MEND}")
        label_of[name] = label
    found = [label_of.pop(plain_path(name), UNLABELLED) for name in files]
    if label_of:
        name = next(iter(label_of))
        more = f", nor for {len(label_of) - 1} more entries" if len(label_of) > 1 else ""
        raise UserError(
            f"{path}: there is no image '{name}' in {path.parent}{more}: put it there, or "
            "remove the entry"
        )
    known = known_integers(np.array([label for _, label in entries], np.int64), str(path))
    code = {name: label for label, name in enumerate(known.class_names)}
    labels = [code.get(str(label), UNLABELLED) for label in found]
    return known._replace(labels=np.array(labels, np.int64))


def refuse_unnamed(root: Path, files: Sequence[str]) -> None:
    """Refuse images as the tools write them, if no dataset.json tells their labels.

    Raises:
        UserError: if the sub-folders and files are called as the tools call them.
    """
    if len(files) and all(_OF_TOOLS.fullmatch(file) for file in files):
        raise UserError(
            f"the sub-folders of {root} are called as dataset tools call them ({files[0]}), not "
            f"as classes: put their {DATASET_JSON} beside them, or labels.csv"
        )


def _entry(path: Path, number: int, entry: Any) -> tuple[str, int]:
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        raise UserError(f"{path}, entry {number}: it is no pair of a file and a label: {_MEND}")
    name, label = entry
    label = UNLABELLED if label is None else label
    if type(label) is not int or not UNLABELLED <= label < 2**62:
        raise UserError(
            f"{path}, entry {number}: the label of {name} is not one integer from 0 up, or −1 "
            f"for none: {_MEND}"
        )
    return plain_path(name), label
