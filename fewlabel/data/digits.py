"""The 1797 handwritten digits, 8 × 8 grey, that come with scikit-learn: no download."""

import numpy as np

from fewlabel.data.dataset import Dataset, array_digest, data_fingerprint
from fewlabel.errors import UserError

__all__ = ["load_digits"]

_SIDE = 8
_LARGEST_VALUE = 16


def load_digits(size: int | None = None) -> Dataset:
    """The digits, all of them labelled.

    Args:
        size: None or 8; the digits come in no other size.

    Raises:
        UserError: for another size.
    """
    if size not in (None, _SIDE):
        raise UserError(f"digits are 8 × 8, not {size} × {size}: leave the size out")
    from sklearn import datasets  # slow to import

    values, classes = datasets.load_digits(return_X_y=True)
    levels = np.round(values * 255 / _LARGEST_VALUE).astype(np.uint8)
    labels = classes.astype(np.int64)
    class_names = tuple(str(digit) for digit in range(10))
    return Dataset(
        name="digits",
        values=levels.reshape(-1, _SIDE, _SIDE, 1),
        labels=labels,
        class_names=class_names,
        fingerprint=data_fingerprint(array_digest(levels), labels, class_names),
        test_fraction=0.15,
        validation_fraction=0.1,
    )
