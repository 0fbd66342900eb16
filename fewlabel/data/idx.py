"""IDX files, the format of MNIST, Fashion-MNIST and KMNIST, as they are or in gzip.

FOLDER/train-images-idx3-ubyte[.gz]   train-labels-idx1-ubyte[.gz]
FOLDER/t10k-images-idx3-ubyte[.gz]    t10k-labels-idx1-ubyte[.gz]     held out; may be missing
FOLDER/class_names.txt                one name a line; without it classes are called 0, 1, …

A file begins with 0, 0, 8 (bytes without sign) and the number of axes d, then the d lengths as
32-bit integers, most significant byte first, then the values (LeCun, Cortes, Burges 1998, "The
MNIST database", yann.lecun.com/exdb/mnist).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset
from fewlabel.data.in_memory import image_dataset
from fewlabel.errors import UserError
from fewlabel.limits import check_claim, out_of_memory, read_text

__all__ = ["open_idx"]

_UNSIGNED_BYTES = 8
_AT_ONCE = 2**20
_NAMES = "class_names.txt"


def open_idx(folder: Path, size: int | None = None) -> Dataset:
    """Open a folder of IDX files; its own test part is held out and never trains.

    Args:
        folder: holds the files under their usual names; a dot may replace the second hyphen.
        size: side of the images; None for their own, at most 64.

    Raises:
        UserError: for a file that is missing, cut short, does not fit the others, or claims more
            memory than the limit, see `fewlabel.limits`.
    """
    if not folder.is_dir():
        raise UserError(f"mnist:{folder} is no folder: give the one with the IDX files")
    images, labels = _part(folder, "train")
    n_train = len(images)
    if any(_find(folder, f"t10k-{kind}") for kind in ("images-idx3", "labels-idx1")):
        held_out, their_labels = _part(folder, "t10k")
        if held_out.shape[1:] != images.shape[1:]:
            raise UserError(
                f"{folder}: training images are {_by(images)} and test images {_by(held_out)}: "
                "put files of one dataset together"
            )
        images = np.concatenate([images, held_out])
        labels = np.concatenate([labels, their_labels])
    names = _class_names(folder, int(labels.max()) + 1)
    return image_dataset(
        name=folder.resolve().name,
        images=images[..., None],
        labels=labels.astype(np.int64),
        class_names=names,
        size=size,
        test_from=n_train if len(images) > n_train else None,
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
    check_claim(path, "the values", claimed)
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


def _class_names(folder: Path, classes: int) -> tuple[str, ...]:
    path = folder / _NAMES
    if not path.is_file():
        return tuple(str(label) for label in range(classes))
    lines = read_text(path, errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < classes or len(set(names)) < len(names):
        raise UserError(
            f"{path} names {len(set(names))} classes, the labels have {classes}: write one name "
            "a line, each once"
        )
    return names


def _by(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]}×{images.shape[2]}"
