"""A dataset: images as bytes or vectors, classes, and what identifies it."""

import hashlib
import json
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.errors import UserError

__all__ = [
    "Dataset",
    "Indices",
    "array_digest",
    "as_images",
    "contents_of",
    "data_fingerprint",
    "fingerprint_of",
    "in_words",
    "refuse_other_shape",
    "rows_at_once",
    "rows_key",
    "stored",
]

Indices = Sequence[int] | NDArray[np.int64] | Tensor
"""Which examples of a dataset, in order."""

_CHUNK_BYTES = 2**18
_ROWS_AT_ONCE = 8
_LONGEST_NAME = 200  # letters; names of folders have at most 255 bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Images or vectors with a class each, or none.

    Args:
        name: what people call it.
        values: images (N, H, W, C) uint8, or vectors (N, D) float32; in memory or memory-mapped.
        labels: (N,) int64; −1 for an example without a label.
        class_names: the name of each class.
        files: the file of each example, relative to the dataset's folder, if it has files.
        skipped: the files left out because they are broken.
        sizes: how many images there are of each size, such as {"640×480": 12}, as they are stored.
        unread: how many files there are that are of no kind that is read, such as {".heic": 12}.
        notes: what people should know of how the data were read, a line each.
        given: the labels that a CSV gave beyond the data's own: the row and the class of each.
        fingerprint: a hash of the values, the labels and the class names: equal for equal
            datasets, wherever they are stored.
        contents: (N,) uint64, a hash of each example as its source holds it (the bytes of its
            file, the row of its array), whatever its label, name and size here; by default of its
            values.
        test: the examples that the source itself names as its test part, if it does; they are
            held out for the final figures, instead of `test_fraction`.
        test_fraction: the part of each class that is held out for the final figures.
        validation_fraction: the part of each class that is held out for choices made in training.
    """

    name: str
    values: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: Sequence[str] | None = None
    skipped: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    given: tuple[tuple[int, str], ...] = ()
    fingerprint: str
    contents: NDArray[np.uint64] = field(default=None)  # type: ignore[arg-type]
    test: NDArray[np.int64] | None = None
    test_fraction: float = 0.0
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        if self.contents is None:
            object.__setattr__(self, "contents", contents_of(self.values))
        longest = max(self.class_names, key=len, default="")
        if len(longest) > _LONGEST_NAME:
            raise UserError(
                f"{self.name}: the name of class {longest[:30]}… has {len(longest):,} letters: "
                f"give it at most {_LONGEST_NAME}"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: (C, H, W), or (D,)."""
        if self.values.ndim == 2:
            return (self.values.shape[1],)
        _, height, width, channels = self.values.shape
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def remarks(self) -> tuple[str, ...]:
        """What people should know of the data, a line each: the notes, and what was left out."""
        n = len(self.skipped)
        broken = (
            f"{n} broken image{'s' if n > 1 else ''} of {self.name} left out, such as "
            f"{self.skipped[0]} (--strict makes this an error)"
            for _ in self.skipped[:1]
        )
        return (*broken, *self.notes)

    def examples(self, indices: Indices) -> Tensor:
        """The examples, float32: images in [−1, 1], (n, C, H, W); vectors as they are, (n, D)."""
        chosen = _read(self.values, np.asarray(indices, dtype=np.int64))
        if chosen.ndim == 2:
            return torch.from_numpy(np.ascontiguousarray(chosen, dtype=np.float32))
        return as_images(chosen)

    def spread(self, indices: Indices) -> float:
        """σ_data: the standard deviation of all values of the examples."""
        count, total, squares = 0, 0.0, 0.0
        for chunk in self._chunks(np.asarray(indices, dtype=np.int64)):
            x = self.examples(chunk).double()
            count += x.numel()
            total += float(x.sum())
            squares += float(x.square().sum())
        return math.sqrt(max(squares / count - (total / count) ** 2, 0.0))

    def unit(self, indices: Indices) -> float:
        """What noise levels are relative to: 1 for images, in [−1, 1]; σ_data for vectors."""
        return 1.0 if len(self.shape) > 1 else self.spread(indices)

    def _chunks(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        rows = max(1, _CHUNK_BYTES // int(np.prod(self.shape)))
        for start in range(0, len(indices), rows):
            yield indices[start : start + rows]


def _read(values: NDArray, rows: NDArray[np.int64]) -> NDArray:
    """Some rows; of a memory-mapped file no more than them stays in this process's memory.

    The system still has the rest at hand as long as nobody else needs the room.
    """
    mapped = getattr(values, "_mmap", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return np.asarray(values[rows])
    found = np.empty((len(rows), *values.shape[1:]), values.dtype)
    for start in range(0, len(rows), _ROWS_AT_ONCE):  # each brings its neighbours along
        few = slice(start, start + _ROWS_AT_ONCE)
        found[few] = values[rows[few]]
        mapped.madvise(mmap.MADV_DONTNEED)
    return found


def in_words(shape: tuple[int, ...]) -> str:
    """The size of an example of shape (C, H, W) or (D,), for people."""
    if len(shape) == 1:
        return f"{shape[0]} numbers"
    channels, height, width = shape
    return f"{height}×{width} with {channels} channel{'s' if channels > 1 else ''}"


def refuse_other_shape(what: str, shape: tuple[int, ...], dataset: Dataset) -> None:
    """Refuse a dataset whose examples are not of the shape of a model's.

    Args:
        what: the model, and what it does with them, for the message.
        shape: of its examples.
        dataset: the data.

    Raises:
        UserError: if they differ.
    """
    if shape == dataset.shape:
        return
    mend = "give another run"
    if len(shape) == len(dataset.shape) > 1 and shape[0] == dataset.shape[0]:
        mend = f"give --size {shape[-1]} or another run"
    elif len(shape) == len(dataset.shape) > 1 and dataset.shape[0] == 1:
        mend = "all its images are grey; add one in colour, or give another run"
    raise UserError(
        f"{what} examples of {in_words(shape)}, {dataset.name} has {in_words(dataset.shape)}; "
        f"{mend}"
    )


def stored(images: Tensor) -> NDArray[np.uint8]:
    """Images in [−1, 1], (N, C, H, W), as a dataset holds them: bytes, (N, H, W, C)."""
    levels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def as_images(values: NDArray[np.uint8]) -> Tensor:
    """Bytes, (N, H, W, C), as images in [−1, 1], (N, C, H, W) float32: the inverse of `stored`."""
    x = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    return x.to(torch.float32).div_(127.5).sub_(1.0)


def rows_at_once(shape: Sequence[int], most: int, pixels: int) -> int:
    """How many examples of a shape, (C, H, W) or (D,), to look at together.

    Args:
        shape: of one example.
        most: never more.
        pixels: of all of them together, at most, if one alone has no more.
    """
    return max(1, min(most, pixels // math.prod(shape[1:])))


def contents_of(rows: NDArray) -> NDArray[np.uint64]:
    """A hash of each row of an array, (N,) uint64."""
    digests = (hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=8) for row in rows)
    return np.frombuffer(b"".join(d.digest() for d in digests), "<u8").astype(np.uint64)


def array_digest(values: NDArray) -> str:
    """A hash of an array: its shape, its kind and its values."""
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def data_fingerprint(
    values: str,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    test: NDArray[np.int64] | None = None,
) -> str:
    """The fingerprint of a dataset.

    Args:
        values: a hash of its values.
        labels: (N,).
        class_names: K texts.
        test: the rows of its own test part.
    """
    own = None if test is None else array_digest(test)
    return fingerprint_of(values, array_digest(labels), list(class_names), own)


def fingerprint_of(*facts: object) -> str:
    """A short hash of facts that JSON can hold."""
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def rows_key(indices: Indices) -> str:
    """A short hash of which examples are meant, in order."""
    return array_digest(np.asarray(indices, dtype=np.int64))
