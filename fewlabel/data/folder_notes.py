"""What people should know of how a folder of images was read."""

from collections.abc import Sequence
from pathlib import Path

from fewlabel.data.dataset_json import DATASET_JSON
from fewlabel.data.label_table import TABLE
from fewlabel.data.layout import Branch, folders_in, images_in, is_unlabelled
from fewlabel.data.listing import Names
from fewlabel.files import printable

__all__ = ["classes_inside", "joined", "left_out"]

_NAMED = 3


def joined(branches: Sequence[Branch], inside: Sequence[Names]) -> list[str]:
    """A note on classes that hold nothing but sub-folders, at least two, whose images they join.

    Args:
        branches: the folders.
        inside: the images in each.
    """
    found: dict[Branch, list[str]] = {}
    for branch, names in zip(branches, inside, strict=True):
        inner = _sub_folders(branch.folder, names) if branch.class_name is not None else []
        if len(inner) > 1:
            found[branch] = inner
    if not found:
        return []
    one, folders = next(iter(found.items()))
    more = f", and so do {len(found) - 1} more classes" if len(found) > 1 else ""
    return [
        f"class {one.class_name} joins the images of {len(folders)} sub-folders "
        f"({_some(folders)}){more}: if those are the classes, move them one folder up"
    ]


def left_out(system: Sequence[str], again: Sequence[str]) -> list[str]:
    """Notes on folders that were not read.

    Args:
        system: those that a system made.
        again: links to folders above them, and folders that were read before.
    """
    notes = []
    if system:
        notes.append(f"folders that a system made are left out: {len(system)} ({_some(system)})")
    if again:
        notes.append(
            "links to folders above them, or to folders that are read already, are not "
            f"followed: {len(again)} ({_some(again)})"
        )
    return notes


def classes_inside(root: Path, only: str) -> str | None:
    """What to say if the only class folder is itself a folder of images in one of the layouts.

    Args:
        root: the folder that was given.
        only: the name of its only class.
    """
    inner = root / only
    if not inner.is_dir():
        return None
    folders = [name for name in folders_in(inner) if not is_unlabelled(name)]
    has_table = any((inner / name).is_file() for name in (TABLE, DATASET_JSON))
    if not has_table and (not folders or images_in(inner)):
        return None
    what = f"which holds sub-folders ({_some(folders)})" if folders else f"which holds a {TABLE}"
    beside = [name for name in folders_in(root) if name != only]
    if beside:
        return (
            f"folder {root} has only one class sub-folder, {only}, {what}: if those are the "
            f"classes, move {beside[0]} into {inner} and give {inner}"
        )
    return f"folder {root} has only one sub-folder, {only}, {what}: give {inner}"


def _sub_folders(folder: str, names: Names) -> list[str]:
    """The sub-folders that hold the images of a folder; none if some lie right in it."""
    found: set[str] = set()
    for name in names:
        first, slash, _ = name[len(folder) + 1 :].partition("/")
        if not slash:
            return []
        found.add(first)
    return sorted(found)


def _some(names: Sequence[str]) -> str:
    return printable(", ".join(names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
