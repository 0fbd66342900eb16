"""Which sub-folders of a folder of images are classes, which are parts, and which are neither.

DATA/CLASS/…          DATA/unlabeled/…
DATA/train/CLASS/…    DATA/val/CLASS/…    DATA/test/CLASS/…    each perhaps with unlabeled/
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fewlabel.data.classes import plain_name, refuse_sign
from fewlabel.data.walk import is_image, is_system
from fewlabel.errors import UserError

__all__ = [
    "Branch",
    "Layout",
    "folders_in",
    "images_in",
    "is_unlabelled",
    "layout_of",
    "parts_of_places",
]

_UNLABELLED = ("unlabeled", "unlabelled")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Branch:
    """A folder whose images are all of one class, or have no label.

    Args:
        folder: relative to the root.
        class_name: the class; None for none.
    """

    folder: str
    class_name: str | None


@dataclass(frozen=True)
class Layout:
    """What the sub-folders of a folder are.

    Args:
        branches: where the images lie, in the order of the dataset: the first class first, those
            without a label last.
        class_names: the classes of all parts.
        test: the folders that are held out for the final figures.
        system: the folders that a system made, which are left out.
        notes: what people should know of it.
    """

    branches: tuple[Branch, ...]
    class_names: tuple[str, ...]
    test: tuple[str, ...]
    system: tuple[str, ...]
    notes: tuple[str, ...]


def layout_of(root: Path) -> Layout:
    """Find the classes and the parts among the sub-folders of a folder.

    Raises:
        UserError: if the names say parts and what lies in them does not, or a class folder is
            called as what has no label is.
    """
    top = folders_in(root)
    parts = _parts(root, top)
    homes = {part: folders_in(root / part) for part in parts} or {"": top}
    found = [
        Branch(f"{home}/{name}" if home else name, _class_of(root / home / name))
        for home, names in homes.items()
        for name in names
    ]
    found += [Branch(name, None) for name in top if parts and is_unlabelled(name)]
    class_names = tuple(sorted({b.class_name for b in found if b.class_name is not None}))
    rank: dict[str | None, int] = {name: label for label, name in enumerate(class_names)}
    system = [f"{home}/{name}" for home in parts for name in _system_folders(root / home)]
    return Layout(
        branches=tuple(sorted(found, key=lambda b: (rank.get(b.class_name, len(rank)), b.folder))),
        class_names=class_names,
        test=_test(parts),
        system=(*_system_folders(root), *system),
        notes=_notes(parts),
    )


def parts_of_places(root: Path) -> Layout:
    """The parts among sub-folders in which no folder is a class: a table says the labels."""
    parts, others = _named_parts(folders_in(root))
    parts = parts if "train" in parts.values() and not others else {}
    return Layout((), (), _test(parts), (), _notes(parts))


def is_unlabelled(folder: str) -> bool:
    """Whether a folder of this name holds images without a label."""
    return plain_name(folder).lower() in _UNLABELLED


def folders_in(folder: Path) -> list[str]:
    """The sub-folders of a folder, sorted: none hidden, none that a system made."""
    return [name for name in _entries(folder) if not is_system(name)]


def images_in(folder: Path) -> list[str]:
    """The images right in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())


def _system_folders(folder: Path) -> list[str]:
    return [name for name in _entries(folder) if is_system(name)]


def _entries(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


def _parts(root: Path, top: list[str]) -> dict[str, str]:
    """Which part each sub-folder is; empty if the sub-folders are classes."""
    parts, others = _named_parts(top)
    if "train" in parts.values() and not others:
        _check_parts(root, parts)
        return parts
    inside = {name: set(_classes_in(root / name)) for name in parts}
    if not any(inside[a] & inside[b] for a, b in combinations(parts, 2)):
        return {}
    if others:
        raise UserError(
            f"folder {root} holds the parts {', '.join(parts)}, and {others[0]} beside them: move "
            f"{others[0]} away, or call it unlabeled/ if its images have no label"
        )
    raise UserError(
        f"folder {root} holds the parts {', '.join(parts)} and no train: call the part to train "
        "on train/"
    )


def _named_parts(top: list[str]) -> tuple[dict[str, str], list[str]]:
    """Which sub-folders are called like parts, and which others there are but for unlabeled/."""
    kinds = {name: _PARTS.get(plain_name(name).lower()) for name in top}
    parts = {name: kind for name, kind in kinds.items() if kind}
    return parts, [name for name in top if name not in parts and not is_unlabelled(name)]


def _test(parts: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, part in parts.items() if part == "test")


def _check_parts(root: Path, parts: Mapping[str, str]) -> None:
    inside = {name: _classes_in(root / name) for name in parts}
    trained = {name for part in parts if parts[part] == "train" for name in inside[part]}
    for part, classes in inside.items():
        if flat := images_in(root / part):
            raise UserError(
                f"{len(flat)} images, such as {flat[0]}, lie in {root / part}, which is a part by "
                "its name, and in no class: sort them into class folders there or into "
                f"unlabeled/, or rename {part} if it is a class"
            )
        if classes and trained and trained.isdisjoint(classes):
            raise UserError(
                f"{root / part} has the class folders {_some(classes)}, none of which the part "
                f"to train on has ({_some(sorted(trained))}): call the classes alike, or move "
                f"{part} away"
            )


def _classes_in(folder: Path) -> list[str]:
    return [name for name in folders_in(folder) if not is_unlabelled(name)]


def _class_of(folder: Path) -> str | None:
    """The class of the images in a folder; None if they have none."""
    if is_unlabelled(folder.name):
        return None
    refuse_sign(folder)
    return plain_name(folder.name)


def _notes(parts: Mapping[str, str]) -> tuple[str, ...]:
    if not parts:
        return ()
    notes = [f"parts, not classes: {', '.join(parts)}"]
    for part, kind in parts.items():
        if kind == "validation":
            notes.append(
                f"the images of {part}/ train with those of the part to train on; a share of all "
                "of them is held out for validation"
            )
        if kind == "test":
            notes.append(f"the images of {part}/ never train: final figures are taken on them")
    return tuple(notes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
