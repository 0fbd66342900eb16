"""Which examples train and which are held out: by what they hold, whatever their label and name.

The hash of an example's content is its place in [0, 1). The places below `test_fraction` are test,
the next `validation_fraction` validation, the others train. So no example changes sides when files
are added, removed, renamed or labelled, and copies of an image are on one side.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.dataset import Dataset

__all__ = ["TEST", "TRAIN", "VALIDATION", "Side", "by_place", "hold_out"]

Side = Literal[0, 1, 2]
TRAIN: Side = 0
VALIDATION: Side = 1
TEST: Side = 2

_SMALLEST_SPLIT_CLASS = 3
_SMALLEST_CLASS_FOR_TWO = 8


def by_place(dataset: Dataset) -> NDArray[np.int8]:
    """The side of each example by its content alone, or by the source's own test part, (N,)."""
    place = dataset.contents / 2.0**64
    sides = np.full(len(dataset), TRAIN, dtype=np.int8)
    test = dataset.test_fraction if dataset.test is None else 0.0
    sides[place < test + dataset.validation_fraction] = VALIDATION
    sides[place < test] = TEST
    if dataset.test is not None:
        sides[dataset.test] = TEST
    return sides


def hold_out(
    dataset: Dataset, before: Mapping[Side, NDArray[np.uint64]] | None = None
) -> NDArray[np.int8]:
    """The side of each example, (N,).

    Where the source has a test part of its own, that alone is `TEST`. A class of at least 3
    labelled examples has one in each held-out part, a class of at least 8 has two: if too few have
    such places, the next ones join them. Smaller classes are not split. Every class keeps at least
    one example to train on.

    Args:
        dataset: the data.
        before: contents that have a side already, which they keep: those of a split before.
    """
    fractions = {
        TEST: dataset.test_fraction if dataset.test is None else 0.0,
        VALIDATION: dataset.validation_fraction,
    }
    sides = by_place(dataset)
    own = np.zeros(len(dataset), dtype=bool)
    if dataset.test is not None:
        own[dataset.test] = True
    settled = own.copy()
    for side in (TEST, VALIDATION, TRAIN):  # what trained once trains
        known = np.isin(dataset.contents, (before or {}).get(side, ())) & ~own
        sides[known] = side
        settled |= known
    examples = _Examples(dataset.contents, sides, own, settled)
    for label in range(dataset.n_classes):
        members = np.flatnonzero((dataset.labels == label) & ~own)
        _split_class(examples, members, [side for side in fractions if fractions[side] > 0])
    return sides


class _Examples:
    """Sides under way, and which of them are settled."""

    def __init__(
        self,
        contents: NDArray[np.uint64],
        sides: NDArray[np.int8],
        own: NDArray[np.bool_],
        settled: NDArray[np.bool_],
    ) -> None:
        self.contents, self.sides, self.own, self.settled = contents, sides, own, settled

    def move(self, row: int, side: Side) -> None:
        """Move an example and its copies."""
        self.sides[(self.contents == self.contents[row]) & ~self.own] = side


def _split_class(examples: _Examples, members: NDArray[np.int64], parts: list[Side]) -> None:
    """See that enough of a class is held out, and something left to train on."""
    n = len(members)
    small = n < _SMALLEST_SPLIT_CLASS
    least = 0 if small else 1 if n < _SMALLEST_CLASS_FOR_TWO else 2
    members = members[np.argsort(examples.contents[members], kind="stable")]
    sides, settled = examples.sides, examples.settled

    def on(side: Side) -> int:
        return int((sides[members] == side).sum())

    for part in parts:
        for row in members:
            if on(part) >= least or on(TRAIN) <= 1:
                break
            if sides[row] == TRAIN and not settled[row]:
                examples.move(row, part)
    held = [row for row in members[::-1] if sides[row] != TRAIN]
    for row in sorted(held, key=lambda row: bool(settled[row])):
        if on(TRAIN) >= (n if small and not settled[row] else min(n, 1)):
            break
        examples.move(row, TRAIN)
