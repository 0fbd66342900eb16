"""A folder of images with one sub-folder per class, and perhaps one without labels.

DATA/cat/1.png
DATA/dog/a.jpg
DATA/unlabeled/0001.jpg     (or unlabelled/)
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewlabel.batch import UNLABELLED
from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.data.decoded import FORMAT_VERSION, Progress, open_decoded
from fewlabel.data.images import SUFFIXES, check_size
from fewlabel.errors import UserError

__all__ = ["open_folder"]

_UNLABELLED_FOLDERS = ("unlabeled", "unlabelled")
_LAYOUT = "put each class in a sub-folder of its own, and images without a label in unlabeled/"


@dataclass(frozen=True)
class _Listing:
    """The image files, those of the first class first, those without a label last."""

    files: tuple[str, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]
    class_names: tuple[str, ...]

    def without(self, rows: Collection[int]) -> "_Listing":
        kept = [row for row in range(len(self.files)) if row not in rows]
        return _Listing(
            tuple(self.files[row] for row in kept),
            tuple(self.labels[row] for row in kept),
            tuple(self.sizes[row] for row in kept),
            self.class_names,
        )


def open_folder(
    folder: str | os.PathLike[str],
    size: int | None = None,
    progress: Progress | None = None,
    strict: bool = True,
) -> Dataset:
    """The images of a folder, decoded once and from then on read from the cache.

    Each image is cropped to its central square and resized. The dataset is grey if all images
    are, in whatever mode they are stored.

    Args:
        folder: one sub-folder per class; ``unlabeled`` holds the images without a label.
        size: side of the images; None for the most frequent short side, at most 64.
        progress: called as ``progress(done, total)`` while images are decoded.
        strict: raise on a broken image; else leave it out and name it in ``skipped``.
    """
    check_size(size)
    root = Path(folder)
    try:
        listing = _list(root)
        key = _cache_key(root, listing, size)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): make it readable or remove it"
        ) from error
    paths = [root / name for name in listing.files]
    images, broken = open_decoded(paths, size, key, strict, progress)
    readable = listing.without(broken)
    _check_classes(root, readable)
    return Dataset(
        name=root.resolve().name,
        values=images,
        labels=np.array(readable.labels, dtype=np.int64),
        class_names=readable.class_names,
        files=readable.files,
        skipped=tuple(listing.files[row] for row in sorted(broken)),
        fingerprint=_fingerprint(readable, images.shape[1]),
    )


def _cache_key(root: Path, listing: _Listing, size: int | None) -> str:
    """Equal for the same unchanged files in the same place."""
    changed = [(root / name).stat().st_mtime_ns for name in listing.files]
    where = str(root.resolve())
    return fingerprint_of(FORMAT_VERSION, where, size, listing.files, listing.sizes, changed)


def _fingerprint(listing: _Listing, size: int) -> str:
    """Equal for a copy of the folder, wherever and whenever it was made."""
    return fingerprint_of(listing.files, listing.sizes, listing.class_names, size)


def _list(root: Path) -> _Listing:
    if not root.exists():
        raise UserError(f"folder {root} does not exist: check the path")
    if not root.is_dir():
        raise UserError(f"{root} is a file, not a folder: {_LAYOUT}, and give the folder")
    subfolders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
    flat = sorted(p.name for p in root.iterdir() if p.is_file() and _is_image(p.name))
    class_names = tuple(name for name in subfolders if name not in _UNLABELLED_FOLDERS)
    unlabelled = [(UNLABELLED, name) for name in subfolders if name in _UNLABELLED_FOLDERS]
    found = [
        (file, label)
        for label, name in [*enumerate(class_names), *unlabelled]
        for file in _images_under(root, name)
    ]
    files = tuple(file for file, _ in found)
    labels = tuple(label for _, label in found)
    sizes = tuple((root / file).stat().st_size for file in files)
    listing = _Listing(files, labels, sizes, class_names)
    _check_layout(root, listing, flat)
    _check_classes(root, listing)
    return listing


def _images_under(root: Path, name: str) -> list[str]:
    """The images of a sub-folder at any depth, relative to root, sorted."""
    return sorted(
        (Path(where) / file).relative_to(root).as_posix()
        for where, _, names in os.walk(root / name, onerror=_raise)
        for file in names
        if _is_image(file)
    )


def _raise(error: OSError) -> None:
    raise error


def _is_image(name: str) -> bool:
    return name[0] != "." and Path(name).suffix.lower() in SUFFIXES


def _check_layout(root: Path, listing: _Listing, flat: list[str]) -> None:
    if not listing.files and not flat:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise UserError(f"folder {root} holds no images ({kinds}): {_LAYOUT}")
    if not listing.class_names:
        raise UserError(f"folder {root} has no class sub-folders: {_LAYOUT}")
    if flat:
        raise UserError(
            f"{len(flat)} images, such as {flat[0]}, lie beside the class sub-folders of {root}: "
            "move each into its class, or into unlabeled/"
        )


def _check_classes(root: Path, listing: _Listing) -> None:
    present = set(listing.labels)
    for label, name in enumerate(listing.class_names):
        if label not in present:
            raise UserError(
                f"class without a label: folder {root / name} has no images: add at least one "
                "labelled image or remove the folder"
            )
    if len(listing.class_names) < 2:
        raise UserError(
            f"folder {root} has only one class sub-folder, {listing.class_names[0]}: "
            "add a sub-folder for each other class"
        )
