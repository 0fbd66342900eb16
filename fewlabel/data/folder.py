"""A folder of images, in one of these layouts.

DATA/cat/1.png                  one sub-folder per class
DATA/dog/a.jpg
DATA/unlabeled/0001.jpg         (or unlabelled/) and perhaps one without labels

DATA/train/cat/1.png            or the same in parts: train, val and test, or some of them
DATA/test/cat/7.png             the test part is held out

DATA/labels.csv                 a table, `file,label`, which adds labels to these,
DATA/1.png                      or says those of images that lie anywhere

DATA/dataset.json               the table of the tools of StyleGAN and EDM
DATA/00000/img00000000.png

Images of which neither says a class have no label.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_labels
from fewlabel.data.dataset import Dataset, data_fingerprint
from fewlabel.data.dataset_json import DATASET_JSON, entries_of, labels_of_entries, refuse_unnamed
from fewlabel.data.decoded import Progress, open_decoded
from fewlabel.data.folder_notes import classes_inside, joined, left_out
from fewlabel.data.images import KINDS, check_size
from fewlabel.data.label_table import TABLE, Line, folders_are_classes, lines_of, merged
from fewlabel.data.layout import (
    Layout,
    folders_in,
    images_in,
    is_unlabelled,
    layout_of,
    parts_of_places,
)
from fewlabel.data.listing import Listing, Names
from fewlabel.data.masks import refuse_masks
from fewlabel.data.walk import Walk
from fewlabel.errors import UserError

__all__ = ["open_folder"]

_LAYOUT = (
    "put each class in a sub-folder of its own, and images without a label in unlabeled/, or "
    f"name the label of each file in {TABLE}"
)
_LEAST_CLASSES = 2


def open_folder(
    folder: str | os.PathLike[str],
    size: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> Dataset:
    """The images of a folder, decoded once and from then on read from the cache.

    Each image is cropped to its central square and resized. The dataset is grey if all images
    are, in whatever mode they are stored; else grey ones have three equal channels.

    Args:
        folder: one sub-folder per class, and ``unlabeled`` for images without a label; or such
            sub-folders in ``train``, ``val`` and ``test``, of which ``test`` never trains; or
            images and ``labels.csv`` with the columns ``file`` and ``label``, or the
            ``dataset.json`` of StyleGAN and EDM; or images without any label.
        size: side of the images; None for the most frequent short side, at most 64.
        progress: called as ``progress(done, total)`` while images are decoded.
        strict: raise on a broken image; else leave it out and name it in ``skipped``.

    Raises:
        UserError: for a folder that is none of these or cannot be read, or with `strict` a broken
            image.
    """
    check_size(size)
    root = Path(folder)
    try:
        listing = _list(root)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): make it readable or remove it"
        ) from error
    files, facts = _OnDisk(root, listing.files), (str(root.resolve()), listing.place())
    decoded = open_decoded(files, size, facts, strict, progress)
    readable = listing.without(decoded.broken)
    _check_images(root, readable.labels, readable.class_names, len(decoded.broken))
    test = readable.held_out()
    return Dataset(
        name=root.resolve().name,
        values=decoded.images,
        labels=readable.labels,
        class_names=readable.class_names,
        files=readable.files,
        skipped=tuple(listing.files[row] for row in sorted(decoded.broken)),
        sizes=decoded.sizes,
        unread=listing.unread,
        notes=(*listing.notes, *decoded.notes),
        fingerprint=data_fingerprint(decoded.digest, readable.labels, readable.class_names, test),
        contents=decoded.contents,
        test=test,
    )


@dataclass(frozen=True)
class _OnDisk:
    """The files as `open_decoded` reads them."""

    root: Path
    names: Names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return f"{self.root}/{self.names[row]}"  # a Path would keep its parts for good

    def open(self, row: int) -> BinaryIO:
        return open(self.name(row), "rb")


def _list(root: Path) -> Listing:
    if not root.exists():
        raise UserError(f"folder {root} does not exist: check the path")
    if not root.is_dir():
        raise UserError(f"{root} is a file, not a folder: {_LAYOUT}, and give the folder")
    table = root / TABLE
    if not os.path.lexists(table) or table.is_dir():
        entries = entries_of(root / DATASET_JSON)
        if entries is not None:
            return _by_entries(root, entries)
        listing, lines = _by_layout(root, layout_of(root)), {}
    else:
        lines = lines_of(table)
        listing = _beside_table(root, lines)
    codes, said = merged(listing.files, listing.labels, listing.class_names, table, lines)
    known = known_labels(codes, said, str(table if lines else root))
    _check_images(root, codes, listing.class_names)
    notes = (*listing.notes, *known.notes)
    return replace(listing, labels=known.labels, class_names=known.class_names, notes=notes)


def _beside_table(root: Path, lines: Mapping[str, Line]) -> Listing:
    """The images of a folder with a table, with the classes of its sub-folders if they are any."""
    named = [name for name in folders_in(root) if not is_unlabelled(name)]
    try:
        layout = layout_of(root)
    except UserError:  # sub-folders that are only places, whatever they are called
        layout = None
    if layout and layout.class_names:
        has_unlabelled = any(branch.class_name is None for branch in layout.branches)
        is_flat = bool(images_in(root))
        if folders_are_classes(lines, layout.class_names, has_unlabelled, is_flat):
            return _by_layout(root, layout)
    listing, parts = _without_classes(root), parts_of_places(root)
    notes = (*listing.notes, *(parts.notes or _of_places(root, named)), *_of_json(root))
    return replace(listing, test=parts.test, notes=notes)


def _without_classes(root: Path, table: str = TABLE) -> Listing:
    """The images at any depth, none with a label."""
    walk = Walk(root, (table,))
    (files,) = walk.images([""])
    if not len(files):
        raise UserError(f"folder {root} holds no images ({KINDS}): {_LAYOUT}")
    refuse_masks(root, folders_in(root), files)
    listing = _listing(root, files, np.full(len(files), UNLABELLED), (), walk.unread)
    return replace(listing, notes=tuple(left_out(walk.system, walk.again)))


def _by_entries(root: Path, entries: Sequence[tuple[str, int]]) -> Listing:
    """The images at any depth, their labels from a dataset.json."""
    listing = _without_classes(root, DATASET_JSON)
    labels, class_names, notes = labels_of_entries(listing.files, root / DATASET_JSON, entries)
    notes = (*listing.notes, *notes)
    return replace(listing, labels=labels, class_names=class_names, notes=notes)


def _by_layout(root: Path, layout: Layout) -> Listing:
    """The images in sub-folders, those of the first class first, those without a label last."""
    if not layout.class_names:
        listing = _without_classes(root)
        return replace(listing, test=layout.test, notes=(*layout.notes, *listing.notes))
    walk = Walk(root, (TABLE,))
    inside = walk.images([branch.folder for branch in layout.branches])
    _check_layout(root, sum(map(len, inside)), images_in(root))
    _check_links(root, layout, walk.again)
    files = Names(name for names in inside for name in names)
    refuse_masks(root, [branch.folder for branch in layout.branches], files)
    refuse_unnamed(root, files)
    if len(layout.class_names) < _LEAST_CLASSES and (
        found := classes_inside(root, layout.class_names[0])
    ):
        raise UserError(found)
    code = {name: label for label, name in enumerate(layout.class_names)}
    labels = [code.get(branch.class_name or "", UNLABELLED) for branch in layout.branches]
    notes = (
        *layout.notes,
        *joined(layout.branches, inside),
        *left_out([*layout.system, *walk.system], walk.again),
    )
    rows = np.repeat(np.array(labels, np.int64), [len(names) for names in inside])
    listing = _listing(root, files, rows, layout.class_names, walk.unread)
    return replace(listing, test=layout.test, notes=notes)


def _listing(
    root: Path,
    files: Names,
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    unread: Mapping[str, int],
) -> Listing:
    sizes, changed = np.empty(len(files), np.int64), np.empty((len(files), 2), np.int64)
    for row, name in enumerate(files):
        facts = os.stat(f"{root}/{name}")
        sizes[row], changed[row] = facts.st_size, (facts.st_mtime_ns, facts.st_ctime_ns)
    most_first = dict(sorted(unread.items(), key=lambda item: -item[1]))
    return Listing(files, labels, sizes, changed, class_names, most_first)


def _of_places(root: Path, named: Sequence[str]) -> list[str]:
    """The note on sub-folders that look like classes, and that a table says to be none."""
    if len(named) < _LEAST_CLASSES:
        return []
    shown = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
    return [
        f"the sub-folders {shown} of {root.resolve().name} are no classes: {TABLE} gives other "
        "labels to their images"
    ]


def _of_json(root: Path) -> list[str]:
    both = (root / DATASET_JSON).is_file()
    return [f"{TABLE} says the labels, {DATASET_JSON} is not read"] if both else []


def _check_layout(root: Path, n_files: int, flat: list[str]) -> None:
    if not n_files and not flat:
        raise UserError(f"folder {root} holds no images ({KINDS}): {_LAYOUT}")
    if flat:
        raise UserError(
            f"{len(flat)} images, such as {flat[0]}, lie beside the class sub-folders of {root}: "
            "move each into its class, or into unlabeled/"
        )


def _check_links(root: Path, layout: Layout, again: Sequence[str]) -> None:
    for branch in layout.branches:
        if branch.class_name is not None and branch.folder in again:
            raise UserError(
                f"class folder {root / branch.folder} is a link to a folder above it or to one "
                "that is read already: remove the link"
            )


def _check_images(
    root: Path, labels: NDArray[np.int64], class_names: Sequence[str], n_broken: int = 0
) -> None:
    """Refuse a class without an image: a folder that is empty, or all of whose images are broken.

    Raises:
        UserError: for the first of them.
    """
    present = set(np.unique(labels).tolist())
    for label, name in enumerate(class_names):
        if label not in present:
            is_folder, table = (root / name).is_dir(), root / TABLE
            where = f"class {name} of {table if table.is_file() else root}"
            where = f"folder {root / name}" if is_folder else where
            broken = f" but broken ones ({n_broken} of {root} are)" if n_broken else ""
            raise UserError(
                f"class without a label: {where} has no images{broken}: add at least one labelled "
                f"image or remove the {'folder' if is_folder else 'class'}"
            )
