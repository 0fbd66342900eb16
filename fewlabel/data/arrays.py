"""Arrays in an `.npz` file: images or vectors, with a label each or none."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_integers
from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.data.in_memory import image_dataset
from fewlabel.errors import UserError

__all__ = ["open_npz"]


def open_npz(path: Path, size: int | None = None) -> Dataset:
    """Open a file with `labels` and either `images` or `vectors`; nothing in it is unpickled.

    Args:
        path: a file with `images` (N, H, W) or (N, H, W, C) uint8, or `vectors` (N, D) of finite
            numbers; `labels` (N,) integers, −1 for none; and, if the classes have names,
            `class_names` (K,).
        size: side of the images; None for their shorter side, at most 64. Vectors have none.

    Raises:
        UserError: for what is missing, has the wrong shape or kind, or is not finite.
    """
    arrays = _read(path)
    values = _values(arrays, path)
    if values.ndim == 2 and size is not None:
        raise UserError(f"{path} holds vectors, which have no size {size}: leave --size out")
    labels = _labels(arrays, len(values), path)
    given = arrays.get("class_names")
    if given is not None and given.ndim != 1:
        raise UserError(f"{path}: class_names are {_kind(given)}; make them texts (K,)")
    names = None if given is None else given.astype(str).tolist()
    known = known_integers(labels, f"{path}: class_names", names)
    if values.ndim == 4:
        return image_dataset(str(path), values, *known[:2], size, notes=known.notes)
    digest = hashlib.blake2b(values.tobytes() + known.labels.tobytes()).hexdigest()
    return Dataset(
        name=str(path),
        values=values,
        labels=known.labels,
        class_names=known.class_names,
        notes=known.notes,
        fingerprint=fingerprint_of("vectors", digest, values.shape, known.class_names),
    )


def _read(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # of a damaged header the parser may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is no readable .npz of plain arrays ({reason}): write it again "
            "with numpy.savez"
        ) from None


def _values(arrays: dict[str, NDArray], path: Path) -> NDArray:
    if ("images" in arrays) == ("vectors" in arrays):
        found = ", ".join(arrays) or "nothing"
        raise UserError(f"{path} holds {found}; store either `images` or `vectors`, and `labels`")
    if "vectors" in arrays:
        vectors = arrays["vectors"]
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
            raise UserError(f"{path}: vectors are {_kind(vectors)}; make them numbers (N, D)")
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            raise UserError(
                f"{path}: vectors row {bad[0]} is not finite; remove {len(bad)} row(s)"
            )
        return vectors.astype(np.float32)
    images = arrays["images"]
    images = images[..., None] if images.ndim == 3 else images
    of_kind = images.ndim == 4 and images.dtype == np.uint8 and images.shape[-1] in (1, 3)
    if not of_kind or 0 in images.shape[1:]:
        raise UserError(
            f"{path}: images are {_kind(arrays['images'])}; make them uint8 of shape (N, H, W), "
            "(N, H, W, 1) or (N, H, W, 3)"
        )
    return images


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


def _kind(array: NDArray) -> str:
    return f"{array.dtype} of shape {array.shape}"
