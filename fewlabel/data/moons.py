"""Two inter-twining half circles: vectors whose perturbed density is known exactly."""

import numpy as np

from fewlabel.data.dataset import Dataset, fingerprint_of
from fewlabel.errors import UserError

__all__ = ["load_moons"]

_POINTS_PER_CLASS = 5000
_SCALE = 20.0


def load_moons(size: int | None = None) -> Dataset:
    """Moons as Chao et al. 2022 (arXiv 2203.14206) use them: 5000 points each, no noise.

    Centred and multiplied by 20, so that x lies in [−30, 30] and y in [−15, 15].

    Args:
        size: must be None; points have no size.

    Raises:
        UserError: if a size is asked for.
    """
    if size is not None:
        raise UserError(f"moons are points in the plane and have no size {size}: leave --size out")
    angle = np.linspace(0, np.pi, _POINTS_PER_CLASS)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.concatenate([upper, lower])
    points = (points - points.mean(0)) * _SCALE
    return Dataset(
        name="moons",
        values=points.astype(np.float32),
        labels=np.repeat(np.arange(2), _POINTS_PER_CLASS),
        class_names=("upper", "lower"),
        fingerprint=fingerprint_of("moons", _POINTS_PER_CLASS, _SCALE),
        validation_fraction=0.1,
    )
