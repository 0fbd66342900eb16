"""Images that a file holds as one array, made a dataset."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.data.images import squares

__all__ = ["image_dataset"]


def image_dataset(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    size: int | None,
    test_from: int | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A dataset of images in memory, each brought to the central square of a size.

    Args:
        name: what people call it.
        images: (N, H, W, C) with C 1 or 3.
        labels: (N,), −1 for none.
        class_names: the name of each class.
        size: side of the images; None for their shorter side, at most 64.
        test_from: where the source's own test part begins, which lasts to the end; None if it
            has none.
        notes: what people should know of how the data were read.
    """
    values = squares(images, size)
    digest = hashlib.blake2b(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    own_test = None if test_from is None else np.arange(test_from, len(images))
    return Dataset(
        name=name,
        values=values,
        labels=labels.astype(np.int64),
        class_names=class_names,
        sizes={f"{images.shape[2]}×{images.shape[1]}": len(images)},
        notes=notes,
        fingerprint=fingerprint_of(digest.hexdigest(), values.shape, class_names, test_from),
        test=own_test,
    )
