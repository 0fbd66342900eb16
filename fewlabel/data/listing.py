"""The image files of a folder and their labels, in a few bytes a file.

Among 100,000 files a `str` and a `Path` each would be the largest thing in memory: the names are
kept as one string of bytes, the figures as arrays.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Listing", "Names"]


class Names(Sequence[str]):
    """Texts that never change, in about 8 bytes more than their letters each.

    Args:
        names: the texts, such as names of files in whatever encoding the file system has.
    """

    def __init__(self, names: Iterable[str]) -> None:
        joined, ends = bytearray(), array("q", [0])
        for name in names:
            joined += os.fsencode(name)
            ends.append(len(joined))
        self._joined, self._ends = bytes(joined), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self[i] for i in range(*index.indices(len(self))))
        row = range(len(self))[index]
        return os.fsdecode(self._joined[self._ends[row] : self._ends[row + 1]])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self._joined == other._joined and np.array_equal(self._ends, other._ends)
        return tuple(self) == other

    __hash__ = None  # type: ignore[assignment]

    def chosen(self, rows: Iterable[int]) -> "Names":
        """The names at some rows."""
        return Names(self[row] for row in rows)

    def digest(self) -> str:
        """A hash, equal for equal names in the same order."""
        return _hash(self._joined, self._ends.tobytes())


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files in the order of the dataset.

    Args:
        files: their names, relative to the folder.
        labels: (N,) int64; −1 for none.
        sizes: (N,) int64: bytes of each file.
        changed: (N, 2) int64: when each was last changed, in nanoseconds, as the file says, which
            tools that unpack or copy set, and as the file system does.
        class_names: the name of each class.
        unread: how many other files there are of each ending.
        table: the file in the folder that says the labels, if one does.
        test: the folders that are held out for the final figures.
        notes: what people should know of how the folder was read.
    """

    files: Names
    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    changed: NDArray[np.int64]
    class_names: tuple[str, ...]
    unread: Mapping[str, int]
    table: str | None = None
    test: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def without(self, rows: Iterable[int]) -> "Listing":
        """The files but for some rows."""
        kept = np.setdiff1d(np.arange(len(self.files)), list(rows))
        if len(kept) == len(self.files):
            return self
        return replace(
            self,
            files=self.files.chosen(kept.tolist()),
            labels=self.labels[kept],
            sizes=self.sizes[kept],
            changed=self.changed[kept],
        )

    def held_out(self) -> NDArray[np.int64] | None:
        """The rows of the files in the folders `test`; None if there are none."""
        if not self.test:
            return None
        prefixes = tuple(f"{folder}/" for folder in self.test)
        rows = np.flatnonzero([name.startswith(prefixes) for name in self.files])
        return rows if len(rows) else None

    def place(self) -> str:
        """A hash of which files there are, how large, and when they were changed."""
        return _hash(self.files.digest().encode(), self.sizes.tobytes(), self.changed.tobytes())


def _hash(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
