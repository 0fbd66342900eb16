"""Images that a file holds as one array, made a dataset."""

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset, array_digest, contents_of, data_fingerprint
from fewlabel.data.images import darkness_note, squares

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
    labels = labels.astype(np.int64)
    note = darkness_note(int(values.max(initial=0)))
    own_test = None if test_from is None else np.arange(test_from, len(images))
    return Dataset(
        name=name,
        values=values,
        labels=labels,
        class_names=class_names,
        sizes={f"{images.shape[2]}×{images.shape[1]}": len(images)},
        fingerprint=data_fingerprint(array_digest(values), labels, class_names, own_test),
        contents=contents_of(images),
        test=own_test,
        notes=notes if note is None else (*notes, note),
    )
