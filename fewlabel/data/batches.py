"""The data of a training step: a function of (seed, step) and nothing else."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.batch import Batch, Part
from fewlabel.data.dataset import Dataset
from fewlabel.data.splits import Splits
from fewlabel.errors import UserError
from fewlabel.randomness import generator_for

__all__ = ["Batches"]


class Batches:
    """The batches of a run, by step.

    Each part goes through its examples in epochs, each in a random order of its own; a batch may
    span epochs. Since the order comes from (seed, part, epoch), a resumed run reads what the
    uninterrupted one would have read. Labels that training may not see are −1.

    With `balance` labelled examples come class by class, one of each in a random order, and those
    of rare classes more often. With `labelled_share` the part "all" has that share of labelled
    examples, within one row in every stretch of rows, each of both kinds in its own order.

    Args:
        dataset: the data.
        splits: its manifest.
        sizes: the parts that are wanted, and the rows of each for one process.
        seed: the seed of the order.
        rank: index of this process.
        world: number of processes; their rows together are the batch of one process that is
            `world` times as large.
        device: where the batches are put.
        balance: draw labelled examples equally often of each class.
        labelled_share: the share of labelled examples among the rows of the part "all"; None for
            that of the data.
        beliefs: class probabilities of all examples from a teacher, (N, K).
        flip: mirror each image at random, left and right, by a coin of (seed, part, step).
    """

    def __init__(
        self,
        dataset: Dataset,
        splits: Splits,
        sizes: Mapping[Part, int],
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
        balance: bool = False,
        labelled_share: float | None = None,
        beliefs: Tensor | None = None,
        flip: bool = False,
    ) -> None:
        self._dataset, self._sizes, self._beliefs = dataset, dict(sizes), beliefs
        self._rank, self._world, self._seed, self._flip = rank, world, seed, flip
        self._device = torch.device(device)
        self._labels = torch.from_numpy(splits.training_labels(dataset))
        self._orders = {
            part: _order(part, dataset, splits, seed, balance, labelled_share) for part in sizes
        }

    def at(self, step: int) -> dict[Part, Batch]:
        """The batch of each part at a step."""
        return {part: self._batch(part, step) for part in self._sizes}

    def _batch(self, part: Part, step: int) -> Batch:
        rows = self._sizes[part]
        start = (step * self._world + self._rank) * rows
        indices = self._orders[part].between(start, start + rows)
        chosen = torch.from_numpy(indices)
        x, y = self._dataset.examples(indices), self._labels[chosen]
        if self._flip:
            random = generator_for("flip", self._seed, part, step)
            tosses = torch.rand(rows * self._world, generator=random)
            heads = tosses[self._rank * rows : (self._rank + 1) * rows] < 0.5
            x[heads] = x[heads].flip(-1)
        q = None if self._beliefs is None else self._beliefs[chosen].to(self._device)
        return Batch(x.to(self._device), y.to(self._device), q)


class _Order:
    """The endless order of some examples: one permutation of them after another."""

    def __init__(self, members: NDArray[np.int64], *key: int | str) -> None:
        self._members, self._key = members, key
        self._epoch = -1
        self._permuted = members

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        """The members at the positions start … stop − 1."""
        n = len(self._members)
        pieces = [
            self._in_epoch(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
            for epoch in range(start // n, -(-stop // n))
        ]
        return np.concatenate(pieces or [self._members[:0]])

    def _in_epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = generator_for(*self._key, epoch)
            order = torch.randperm(len(self._members), generator=generator)
            self._permuted, self._epoch = self._members[order.numpy()], epoch
        return self._permuted


class _Balanced:
    """The endless order of labelled examples in rounds: one of each class, in a random order."""

    def __init__(self, by_class: list[NDArray[np.int64]], *key: int | str) -> None:
        self._classes = [_Order(m, *key, "class", label) for label, m in enumerate(by_class)]
        self._turns = _Order(np.arange(len(by_class)), *key, "turns")

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        n = len(self._classes)
        first, last = start // n, -(-stop // n)
        members = np.stack([order.between(first, last) for order in self._classes], axis=1)
        turns = self._turns.between(first * n, last * n).reshape(-1, n)
        return np.take_along_axis(members, turns, axis=1).ravel()[start - first * n :][
            : stop - start
        ]


class _Mixed:
    """Two endless orders joined: of the first p rows ⌊p · share⌋ are of the first of them."""

    def __init__(self, one: "_AnyOrder", other: "_AnyOrder", share: float) -> None:
        self._one, self._other = one, other
        self._share = Fraction(str(share)).limit_denominator(10**6)

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        above, below = self._share.numerator, self._share.denominator
        so_far = np.arange(start, stop + 1) * above // below
        of_one = np.diff(so_far) > 0
        rows = np.empty(stop - start, dtype=np.int64)
        first, last = int(so_far[0]), int(so_far[-1])
        rows[of_one] = self._one.between(first, last)
        rows[~of_one] = self._other.between(start - first, stop - last)
        return rows


_AnyOrder = _Order | _Balanced | _Mixed


def _order(
    part: Part,
    dataset: Dataset,
    splits: Splits,
    seed: int,
    balance: bool,
    share: float | None,
) -> _AnyOrder:
    if part == "all" and share is not None:
        if share == 0 or share == 1:
            only: Part = "labelled" if share else "unlabelled"
            return _order(only, dataset, splits, seed, balance, None)
        one = _order("labelled", dataset, splits, seed, balance, None)
        return _Mixed(one, _order("unlabelled", dataset, splits, seed, balance, None), share)
    members = splits.indices(part)
    if not len(members):
        raise UserError(_no_examples(part, splits))
    if part == "labelled" and balance:
        labels = dataset.labels[members]
        by_class = [members[labels == label] for label in range(dataset.n_classes)]
        return _Balanced([of_one for of_one in by_class if len(of_one)], "balanced", seed)
    return _Order(members, "batches", seed, part)


def _no_examples(part: Part, splits: Splits) -> str:
    if part == "unlabelled":
        return (
            f"all {len(splits.train)} training examples of {splits.data} show their label "
            f"(labels '{splits.labels}') but the method, or labelled_share, needs some without: "
            "use fewer labels, add images without a label, or choose a method that needs none"
        )
    return f"{splits.data} has no {part} training examples: add some"
