"""Arrays in an `.npz` file: images or vectors, with a label each or none."""

import io
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import (
    read_array,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_integers
from fewlabel.data.dataset import Dataset, array_digest, data_fingerprint
from fewlabel.data.in_memory import image_dataset
from fewlabel.errors import UserError
from fewlabel.limits import ROW_BYTES, check_claim, out_of_memory
from fewlabel.regular_file import regular

__all__ = ["open_npz"]

_USED = ("images", "vectors", "labels", "class_names")
_HEAD = 2**14  # bytes: no head of a plain array is longer
_SHOWN = 300
_NAME_BYTES = 300  # of a class name, beside nine times its bytes: as text, in lists and tables


class _Head(NamedTuple):
    """What the head of an array says of it."""

    member: str
    n_values: int
    kind: np.dtype

    @property
    def n_bytes(self) -> int:
        return self.n_values * self.kind.itemsize


def open_npz(path: Path, size: int | None = None) -> Dataset:
    """Open a file with `labels` and either `images` or `vectors`; nothing in it is unpickled.

    Args:
        path: a file with `images` (N, H, W) or (N, H, W, C) uint8, or `vectors` (N, D) of finite
            numbers; `labels` (N,) integers, −1 for none; and, if the classes have names,
            `class_names` (K,).
        size: side of the images; None for their shorter side, at most 64. Vectors have none.

    Raises:
        UserError: for what is missing, has the wrong shape or kind, is not finite, or claims more
            memory than the limit, see `fewlabel.limits`.
    """
    arrays = _read(path)
    values = _values(arrays, path)
    if values.ndim == 2 and size is not None:
        raise UserError(f"{path} holds vectors, which have no size {size}: leave --size out")
    labels = _labels(arrays, len(values), path)
    given = arrays.get("class_names")
    if given is not None and given.ndim != 1:
        raise UserError(f"{path}: class_names are {_kind(given)}; make them texts (K,)")
    names = None if given is None else list(_names(given, path))
    known = known_integers(labels, f"{path}: class_names", names)
    if values.ndim == 4:
        return image_dataset(str(path), values, *known[:2], size, notes=known.notes)
    return Dataset(
        name=str(path),
        values=values,
        labels=known.labels,
        class_names=known.class_names,
        notes=known.notes,
        fingerprint=data_fingerprint(array_digest(values), known.labels, known.class_names),
    )


def _read(path: Path) -> dict[str, NDArray]:
    """The arrays that are used; the others are not even unpacked."""
    regular(path)
    try:
        with zipfile.ZipFile(path) as file:
            members = {name.removesuffix(".npy"): name for name in file.namelist()}
            heads = {name: _head(file, members[name]) for name in _USED if name in members}
            needed = {head.member: _bytes_in_use(name, head) for name, head in heads.items()}
            for member, n_bytes in needed.items():
                check_claim(path, member, n_bytes)
            check_claim(path, "its arrays", sum(needed.values()))
            return {name: _values_of(file, head) for name, head in heads.items()}
    except UserError:
        raise
    except MemoryError:
        raise out_of_memory(str(path)) from None
    except Exception as error:  # of a damaged header the parser may raise anything
        reason = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
        raise UserError(
            f"{path} is no readable .npz of plain arrays ({reason}): write it again "
            "with numpy.savez"
        ) from None


def _head(file: zipfile.ZipFile, name: str) -> _Head:
    """The head of an array, after what it and the archive claim were found to agree."""
    with file.open(name) as stream:
        head = io.BytesIO(stream.read(_HEAD))
        version = read_magic(head)
        read_header = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
        shape, _, kind = read_header(head)
    found = _Head(name, math.prod(shape), kind)
    there = file.getinfo(name).file_size - head.tell()
    if kind.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if found.n_bytes != there:
        raise ValueError(f"{name} claims {found.n_bytes:,} bytes and has {there:,}")
    return found


def _bytes_in_use(name: str, head: _Head) -> int:
    """The memory that an array takes, and what is made of it."""
    if name == "vectors" and head.kind != np.float32:  # a copy is made in float32
        return head.n_bytes + 4 * head.n_values
    if name == "labels":
        return head.n_bytes + ROW_BYTES * head.n_values
    if name == "class_names":
        return 9 * head.n_bytes + _NAME_BYTES * head.n_values
    return head.n_bytes


def _values_of(file: zipfile.ZipFile, head: _Head) -> NDArray:
    with file.open(head.member) as stream:
        return read_array(stream, allow_pickle=False)


def _values(arrays: dict[str, NDArray], path: Path) -> NDArray:
    if ("images" in arrays) == ("vectors" in arrays):
        found = ", ".join(arrays) or "nothing of use"
        raise UserError(f"{path} holds {found}; store either `images` or `vectors`, and `labels`")
    if "vectors" in arrays:
        vectors = arrays["vectors"]
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
            raise UserError(f"{path}: vectors are {_kind(vectors)}; make them numbers (N, D)")
        return _in_float32(vectors, path)
    images = arrays["images"]
    images = images[..., None] if images.ndim == 3 else images
    of_kind = images.ndim == 4 and images.dtype == np.uint8 and images.shape[-1] in (1, 3)
    if not of_kind or 0 in images.shape[1:]:
        raise UserError(
            f"{path}: images are {_kind(arrays['images'])}; make them uint8 of shape (N, H, W), "
            "(N, H, W, 1) or (N, H, W, 3)"
        )
    return images


def _in_float32(vectors: NDArray, path: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # told below
        values = vectors.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        beyond = np.isfinite(vectors[bad[0]]).all()
        raise UserError(
            f"{path}: vectors row {bad[0]} is "
            + ("beyond float32; scale all of them" if beyond else "not finite; remove it")
            + f" ({len(bad)} row(s) are such)"
        )
    return values


def _labels(arrays: dict[str, NDArray], n: int, path: Path) -> NDArray[np.integer]:
    labels = arrays.get("labels")
    if labels is None:
        raise UserError(f"{path} has no `labels`; store (N,) integers, −1 for no label")
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: labels are {_kind(labels)}; make them integers of shape ({n},)")
    if (labels < UNLABELLED).any():
        row = int(np.flatnonzero(labels < UNLABELLED)[0])
        raise UserError(
            f"{path}: label {labels[row]} in row {row}; classes are 0 and up, −1 is none"
        )
    return labels


def _names(given: NDArray, path: Path) -> tuple[str, ...]:
    try:
        texts = np.char.decode(given, "utf-8") if given.dtype.kind == "S" else given.astype(str)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: class_names are not UTF-8 ({error}); store texts") from None
    return tuple(texts.tolist())


def _kind(array: NDArray) -> str:
    return f"{array.dtype} of shape {array.shape}"
