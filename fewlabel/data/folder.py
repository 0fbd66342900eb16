"""A folder of images, in one of two layouts.

DATA/cat/1.png                  one sub-folder per class
DATA/dog/a.jpg
DATA/unlabeled/0001.jpg         (or unlabelled/) and perhaps one without labels

DATA/labels.csv                 or a table, `file,label`: images that it does not list have no
DATA/1.png                      label; beside class folders it adds to them
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_labels, refuse_sign
from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.data.decoded import Progress, open_decoded
from fewlabel.data.images import KINDS, SUFFIXES, check_size
from fewlabel.data.label_table import TABLE, folders_are_classes, lines_of, merged
from fewlabel.data.listing import Listing, Names
from fewlabel.errors import UserError

__all__ = ["open_folder"]

_LEAST_CLASSES = 2
_UNLABELLED_FOLDERS = ("unlabeled", "unlabelled")
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
        folder: one sub-folder per class, and ``unlabeled`` for images without a label; or images
            and ``labels.csv`` with the columns ``file`` and ``label``; or both.
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
    return Dataset(
        name=root.resolve().name,
        values=decoded.images,
        labels=readable.labels,
        class_names=readable.class_names,
        files=readable.files,
        skipped=tuple(listing.files[row] for row in sorted(decoded.broken)),
        sizes=decoded.sizes,
        unread=listing.unread,
        notes=listing.notes,
        fingerprint=fingerprint_of(
            readable.content(), readable.class_names, decoded.images.shape[1]
        ),
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
    lines = lines_of(table) if table.is_file() else {}
    subfolders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
    named = [name for name in subfolders if not _is_unlabelled(name)]
    flat = any(p.is_file() and _is_image(p.name) for p in root.iterdir())
    of_class = folders_are_classes(lines, named, len(named) < len(subfolders), flat)
    listing = _by_class(root) if named and (of_class or not lines) else _without_classes(root)
    codes, said = merged(listing.files, listing.labels, listing.class_names, table, lines)
    known = known_labels(codes, said, str(table if lines else root))
    _check_images(root, codes, listing.class_names)
    notes = (*listing.notes, *_of_places(root, named, listing), *known.notes)
    return replace(listing, labels=known.labels, class_names=known.class_names, notes=notes)


def _without_classes(root: Path) -> Listing:
    """The images at any depth, none with a label."""
    unread: Counter[str] = Counter()
    files = Names(sorted(_images_under(root, "", unread)))
    if not len(files):
        raise UserError(f"folder {root} holds no images ({KINDS}): {_LAYOUT}")
    return _listing(root, files, np.full(len(files), UNLABELLED), (), unread)


def _of_places(root: Path, named: Sequence[str], listing: Listing) -> tuple[str, ...]:
    """The note on sub-folders that look like classes, and that a table says to be none."""
    if listing.class_names or len(named) < _LEAST_CLASSES:
        return ()
    shown = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
    return (
        f"the sub-folders {shown} of {root.name} are no classes: {TABLE} gives other labels to "
        "their images",
    )


def _by_class(root: Path) -> Listing:
    """The images in sub-folders, those of the first class first, those without a label last."""
    subfolders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
    flat = sorted(p.name for p in root.iterdir() if p.is_file() and _is_image(p.name))
    class_names = tuple(name for name in subfolders if not _is_unlabelled(name))
    for name in class_names:
        refuse_sign(root / name)
    unlabelled = [(UNLABELLED, name) for name in subfolders if _is_unlabelled(name)]
    counts: list[tuple[int, int]] = []
    unread: Counter[str] = Counter()

    def found() -> Iterator[str]:
        for label, name in [*enumerate(class_names), *unlabelled]:
            inside = sorted(_images_under(root, name, unread))
            counts.append((label, len(inside)))
            yield from inside

    files = Names(found())
    labels = np.repeat([label for label, _ in counts], [count for _, count in counts])
    _check_layout(root, len(files), flat)
    return _listing(root, files, labels, class_names, unread)


def _listing(
    root: Path,
    files: Names,
    labels: Iterable[int],
    class_names: tuple[str, ...],
    unread: Counter[str],
) -> Listing:
    sizes, changed = np.empty(len(files), np.int64), np.empty(len(files), np.int64)
    for row, name in enumerate(files):
        facts = os.stat(f"{root}/{name}")
        sizes[row], changed[row] = facts.st_size, facts.st_mtime_ns
    known = np.asarray(labels, dtype=np.int64)
    return Listing(files, known, sizes, changed, class_names, dict(unread.most_common()))


def _images_under(
    root: Path, name: str, unread: Counter[str], above: tuple[str, ...] = ()
) -> Iterator[str]:
    """The images in a folder at any depth, relative to root, none hidden; others are counted.

    Links are followed, but for those to a folder above.
    """
    here = os.path.realpath(root / name)
    if here in above:
        return
    with os.scandir(root / name) as entries:
        for entry in entries:
            inner = f"{name}/{entry.name}" if name else entry.name
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                yield from _images_under(root, inner, unread, (*above, here))
            elif _is_image(entry.name):
                yield inner
            elif inner != TABLE:
                unread[_ending(entry.name)] += 1


def _is_unlabelled(folder: str) -> bool:
    return folder.lower() in _UNLABELLED_FOLDERS


def _is_image(name: str) -> bool:
    return name[0] != "." and _ending(name) in SUFFIXES


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _check_layout(root: Path, n_files: int, flat: list[str]) -> None:
    if not n_files and not flat:
        raise UserError(f"folder {root} holds no images ({KINDS}): {_LAYOUT}")
    if flat:
        raise UserError(
            f"{len(flat)} images, such as {flat[0]}, lie beside the class sub-folders of {root}: "
            "move each into its class, or into unlabeled/"
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
