"""A dataset: images as bytes, classes, and what identifies it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Dataset", "Indices", "fingerprint_of"]

Indices = Sequence[int] | NDArray[np.int64] | Tensor
"""Which examples of a dataset, in order."""

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Images with a class each, or none.

    Args:
        name: what people call it.
        images: (N, H, W, C) uint8, in memory or memory-mapped.
        labels: (N,) int64; −1 for an example without a label.
        class_names: the name of each class.
        files: the file of each example, relative to the dataset's folder, if it has files.
        skipped: the files left out because they are broken.
        fingerprint: equal for equal datasets, wherever they are stored.
        test_fraction: the part of each class that is held out for the final figures.
        validation_fraction: the part of each class that is held out for choices made in training.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    fingerprint: str
    test_fraction: float = 0.0
    validation_fraction: float = 0.1

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one example: (C, H, W)."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def examples(self, indices: Indices) -> Tensor:
        """The examples as float32 in [−1, 1], (len(indices), C, H, W)."""
        chosen = np.asarray(self.images[np.asarray(indices, dtype=np.int64)])
        x = torch.from_numpy(np.ascontiguousarray(chosen.transpose(0, 3, 1, 2)))
        return x.to(torch.float32).div_(127.5).sub_(1.0)

    def spread(self, indices: Indices) -> float:
        """σ_data: the standard deviation of all values of the examples in [−1, 1]."""
        counts = np.zeros(256, dtype=np.int64)
        for chunk in self._chunks(np.asarray(indices, dtype=np.int64)):
            counts += np.bincount(self.images[chunk].reshape(-1), minlength=256)
        values = np.arange(256, dtype=np.float64) / 127.5 - 1.0
        mean = np.average(values, weights=counts)
        return float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))

    def _chunks(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        rows = max(1, _CHUNK_BYTES // int(np.prod(self.shape)))
        for start in range(0, len(indices), rows):
            yield indices[start : start + rows]


def fingerprint_of(*facts: object) -> str:
    """A short hash of facts that JSON can hold."""
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
