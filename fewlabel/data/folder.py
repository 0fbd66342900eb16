"""A folder of images, in one of these layouts.

DATA/cat/1.png                  one sub-folder per class
DATA/dog/a.jpg
DATA/unlabeled/0001.jpg         (or unlabelled/) and perhaps one without labels

DATA/train/cat/1.png            or the same in parts: train, val and test, or some of them
DATA/test/cat/7.png             the test part is held out

DATA/labels.csv                 or a table, `file,label`, which then alone says the labels;
DATA/1.png                      images that it does not list have none

DATA/dataset.json               or the table of the tools of StyleGAN and EDM, likewise
DATA/00000/img00000000.png
"""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fewlabel.batch import UNLABELLED
from fewlabel.data.dataset import Dataset, data_fingerprint
from fewlabel.data.dataset_json import DATASET_JSON, entries_of, labels_of_entries, refuse_unnamed
from fewlabel.data.decoded import Progress, open_decoded
from fewlabel.data.folder_notes import classes_inside, joined, left_out
from fewlabel.data.images import KINDS, check_size
from fewlabel.data.label_table import TABLE, labels_of
from fewlabel.data.layout import Layout, folders_in, images_in, layout_of
from fewlabel.data.listing import Listing, Names
from fewlabel.data.masks import refuse_masks
from fewlabel.data.walk import Walk
from fewlabel.errors import UserError

__all__ = ["open_folder"]

_LAYOUT = (
    "put each class in a sub-folder of its own, and images without a label in unlabeled/, or "
    f"name the label of each file in {TABLE}"
)


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
            ``dataset.json`` of StyleGAN and EDM.
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
    _check_classes(root, readable, len(decoded.broken))
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
    listing = _by_table(root) or _by_class(root)
    _check_classes(root, listing)
    return listing


def _by_table(root: Path) -> Listing | None:
    """The images at any depth, their labels from a table; None if there is no table."""
    table = root / TABLE
    is_csv = os.path.lexists(table) and not table.is_dir()
    entries = None if is_csv else entries_of(root / DATASET_JSON)
    if not is_csv and entries is None:
        return None
    walk = Walk(root, (TABLE,) if is_csv else (DATASET_JSON,))
    (files,) = walk.images([""])
    refuse_masks(root, folders_in(root), files)
    if entries is None:
        labels, class_names = labels_of(files, table)
    else:
        labels, class_names = labels_of_entries(files, root / DATASET_JSON, entries)
    listing = _listing(root, files, labels, class_names, walk.unread)
    both = is_csv and (root / DATASET_JSON).is_file()
    notes = [f"{TABLE} says the labels, {DATASET_JSON} is not read"] if both else []
    notes += left_out(walk.system, walk.again)
    return replace(listing, table=TABLE if is_csv else DATASET_JSON, notes=tuple(notes))


def _by_class(root: Path) -> Listing:
    """The images in sub-folders, those of the first class first, those without a label last."""
    layout, walk = layout_of(root), Walk(root)
    inside = walk.images([branch.folder for branch in layout.branches])
    _check_layout(root, sum(map(len, inside)), layout.class_names, images_in(root))
    _check_links(root, layout, walk.again)
    files = Names(name for names in inside for name in names)
    refuse_masks(root, [branch.folder for branch in layout.branches], files)
    refuse_unnamed(root, files)
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
    labels: Iterable[int],
    class_names: tuple[str, ...],
    unread: Mapping[str, int],
) -> Listing:
    sizes, changed = np.empty(len(files), np.int64), np.empty(len(files), np.int64)
    for row, name in enumerate(files):
        facts = os.stat(f"{root}/{name}")
        sizes[row], changed[row] = facts.st_size, facts.st_mtime_ns
    known = np.asarray(labels, dtype=np.int64)
    most_first = dict(sorted(unread.items(), key=lambda item: -item[1]))
    return Listing(files, known, sizes, changed, class_names, most_first)


def _check_layout(root: Path, n_files: int, class_names: tuple[str, ...], flat: list[str]) -> None:
    if not n_files and not flat:
        raise UserError(f"folder {root} holds no images ({KINDS}): {_LAYOUT}")
    if not class_names:
        raise UserError(f"folder {root} has no class sub-folders and no {TABLE}: {_LAYOUT}")
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


def _check_classes(root: Path, listing: Listing, n_broken: int = 0) -> None:
    present = set(np.unique(listing.labels).tolist())
    table = listing.table and root / listing.table
    for name in listing.class_names:
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise UserError(
                f"{root}: the name of class {name!r} holds a line break or another control "
                "character: rename it"
            )
    for label, name in enumerate(listing.class_names):
        if label not in present:
            in_folder = not table and (root / name).is_dir()
            where = f"folder {root / name}" if in_folder else f"class {name} of {table or root}"
            broken = f" but broken ones ({n_broken} of {root} are)" if n_broken else ""
            raise UserError(
                f"class without a label: {where} has no images{broken}: add at least one labelled "
                f"image or remove the {'class' if table else 'folder'}"
            )
    if len(listing.class_names) < 2:
        only = listing.class_names[0] if listing.class_names else "none"
        if table:
            raise UserError(f"{table} has only one class, {only}: label images of another")
        if found := classes_inside(root, only):
            raise UserError(found)
        raise UserError(
            f"folder {root} has only one class sub-folder, {only}: add a sub-folder for each "
            "other class"
        )
