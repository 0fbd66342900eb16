"""IDX files, the format of MNIST, Fashion-MNIST and KMNIST, as they are or in gzip.

FOLDER/train-images-idx3-ubyte[.gz]   train-labels-idx1-ubyte[.gz]
FOLDER/t10k-images-idx3-ubyte[.gz]    t10k-labels-idx1-ubyte[.gz]     held out; may be missing
FOLDER/class_names.txt                one name a line; without it classes are called 0, 1, …

EMNIST has these for each of its splits, such as letters; its images are stored transposed:

FOLDER/emnist-letters-train-images-idx3-ubyte[.gz]   and so on, with test in the place of t10k
FOLDER/emnist-letters-mapping.txt                    a label and the codes of its characters a line

A file begins with 0, 0, 8 (bytes without sign) and the number of axes d, then the d lengths as
32-bit integers, most significant byte first, then the values (LeCun, Cortes, Burges 1998, "The
MNIST database", yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.classes import known_integers, names_in
from fewlabel.data.dataset import Dataset
from fewlabel.data.in_memory import image_dataset
from fewlabel.errors import UserError
from fewlabel.limits import ROW_BYTES, check_claim, out_of_memory, read_text

__all__ = ["open_idx"]

_UNSIGNED_BYTES = 8
_AT_ONCE = 2**20
_PARTS = 2  # values are held once more when the test part joins them
_NAMES = "class_names.txt"
_EMNIST = re.compile(r"(emnist-\w+)-(train|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?$")


class _Files(NamedTuple):
    """Which files of a folder are meant: what their names begin with."""

    folder: Path
    name: str
    train: str
    test: str
    mapping: Path | None = None


def open_idx(path: Path, size: int | None = None) -> Dataset:
    """Open a folder of IDX files; its own test part is held out and never trains.

    Args:
        path: a folder that holds the files under their usual names, where a dot may replace the
            second hyphen; or, of a folder with several splits of EMNIST, a file of the one meant.
        size: side of the images; None for their own, at most 64.

    Raises:
        UserError: for a file that is missing, cut short, does not fit the others, or claims more
            memory than the limit, see `fewlabel.limits`.
    """
    files = _files(path)
    folder = files.folder
    images, labels = _part(folder, files.train)
    n_train = len(images)
    if any(_find(folder, f"{files.test}-{kind}") for kind in ("images-idx3", "labels-idx1")):
        held_out, their_labels = _part(folder, files.test)
        if held_out.shape[1:] != images.shape[1:]:
            raise UserError(
                f"{folder}: training images are {_by(images)} and test images {_by(held_out)}: "
                "put files of one dataset together"
            )
        images = np.concatenate([images, held_out])
        labels = np.concatenate([labels, their_labels])
    known = known_integers(labels, *_class_names(files))
    return image_dataset(
        name=files.name,
        images=(images.transpose(0, 2, 1) if files.mapping else images)[..., None],
        labels=known.labels,
        class_names=known.class_names,
        size=size,
        test_from=n_train if len(images) > n_train else None,
        notes=known.notes,
    )


def _files(path: Path) -> _Files:
    """The one dataset that is meant.

    Raises:
        UserError: if there are several.
    """
    chosen = None if path.is_dir() else _EMNIST.match(path.name)
    if not path.is_dir() and not chosen:
        raise UserError(f"mnist:{path} is no folder: give the one with the IDX files")
    folder = path.parent if chosen else path
    splits = {found[1] for p in folder.iterdir() if (found := _EMNIST.match(p.name))}
    if chosen:
        splits = {chosen[1]}
    elif _find(folder, "train-images-idx3") or not splits:
        splits.add("")
    if len(splits) > 1:
        several = ", ".join(sorted(split or "train-images-idx3-ubyte" for split in splits))
        raise UserError(
            f"{folder} holds several datasets, {several}: give a file of the one meant, such as "
            f"mnist:{folder}/{max(splits)}-train-images-idx3-ubyte.gz, or move the others away"
        )
    (split,) = splits
    if not split:
        return _Files(folder, folder.resolve().name, "train", "t10k")
    return _Files(
        folder, split, f"{split}-train", f"{split}-test", folder / f"{split}-mapping.txt"
    )


def _part(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = _read(_required(folder, f"{part}-images-idx3"), axes=3)
    labels = _read(_required(folder, f"{part}-labels-idx1"), axes=1)
    if len(images) != len(labels):
        raise UserError(
            f"{folder}: the {part} files hold {len(images)} images and {len(labels)} labels: "
            "they are not of one dataset, replace one of them"
        )
    return images, labels


def _find(folder: Path, stem: str) -> Path | None:
    """The file `stem`-ubyte, with a dot or a hyphen before its kind, in gzip or not."""
    names = (f"{stem}-ubyte", f"{stem[:-5]}.{stem[-4:]}-ubyte")
    candidates = [folder / (name + ending) for name in names for ending in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _required(folder: Path, stem: str) -> Path:
    if found := _find(folder, stem):
        return found
    raise UserError(f"folder {folder} has no {stem}-ubyte or {stem}-ubyte.gz: put it there")


def _read(path: Path, axes: int) -> NDArray[np.uint8]:
    """The values of a file, of which no more is unpacked than its head claims."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _values(path, axes, stream)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read ({reason}): fetch the file again") from None
    except MemoryError:
        raise out_of_memory(str(path)) from None


def _values(path: Path, axes: int, stream: BinaryIO | gzip.GzipFile) -> NDArray[np.uint8]:
    begin = 4 + 4 * axes
    head = stream.read(begin)
    if len(head) < begin or head[:4] != bytes([0, 0, _UNSIGNED_BYTES, axes]):
        raise UserError(f"{path} is no IDX file of bytes with {axes} axes: fetch it again")
    shape = struct.unpack(f">{axes}I", head[4:])
    claimed = math.prod(shape)
    check_claim(path, "the values", _PARTS * claimed + ROW_BYTES * shape[0])
    values, n = np.empty(claimed, np.uint8), 0
    while n < claimed and (read := stream.read(min(_AT_ONCE, claimed - n))):
        values[n : n + len(read)] = np.frombuffer(read, np.uint8)
        n += len(read)
    more = bool(stream.read(1))
    if n < claimed or more or not claimed:
        raise UserError(
            f"{path} holds {'more than ' * more}{n} bytes of data where its head says "
            f"{' × '.join(map(str, shape))}: fetch it again"
        )
    return values.reshape(shape)


def _class_names(files: _Files) -> tuple[str, list[str] | dict[int, str] | None]:
    """Where the names are from, and the names, in order or by label; None if there are none."""
    path = files.folder / _NAMES
    if path.is_file():
        return str(path), names_in(path)
    if files.mapping and files.mapping.is_file():
        return str(files.mapping), _characters(files.mapping)
    return str(files.folder), None


def _characters(path: Path) -> dict[int, str]:
    """The class of each label of EMNIST: its character, or the upper and the lower case one."""
    try:
        rows = [list(map(int, line.split())) for line in read_text(path).splitlines()]
        return {label: "".join(map(chr, codes)) for label, *codes in filter(None, rows)}
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is no list of labels and codes of characters ({error}): fetch it again"
        ) from None


def _by(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]}×{images.shape[2]}"
