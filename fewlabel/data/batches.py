"""The data of a training step: a function of (seed, step) and nothing else."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

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

    Args:
        dataset: the data.
        splits: its manifest.
        sizes: the parts that are wanted, and the rows of each for one process.
        seed: the seed of the order.
        rank: index of this process.
        world: number of processes; their rows together are the batch of one process that is
            `world` times as large.
        device: where the batches are put.
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
    ) -> None:
        self._dataset, self._sizes = dataset, dict(sizes)
        self._rank, self._world = rank, world
        self._device = torch.device(device)
        self._labels = torch.from_numpy(splits.training_labels(dataset))
        self._orders = {part: _Order(splits.indices(part), seed, part) for part in sizes}
        for part, order in self._orders.items():
            if not order.members.size:
                raise UserError(_no_examples(part, splits))

    def at(self, step: int) -> dict[Part, Batch]:
        """The batch of each part at a step."""
        return {part: self._batch(part, step) for part in self._sizes}

    def _batch(self, part: Part, step: int) -> Batch:
        rows = self._sizes[part]
        start = (step * self._world + self._rank) * rows
        indices = self._orders[part].between(start, start + rows)
        labels = self._labels[torch.from_numpy(indices)]
        x = self._dataset.examples(indices)
        return Batch(x.to(self._device), labels.to(self._device))


class _Order:
    """The endless order of a part: one permutation of its members after another."""

    def __init__(self, members: NDArray[np.int64], seed: int, part: Part) -> None:
        self.members = members
        self._key = ("batches", seed, part)
        self._epoch = -1
        self._permuted = members

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        """The members at the positions start … stop − 1."""
        n = len(self.members)
        pieces = [
            self._in_epoch(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
            for epoch in range(start // n, (stop - 1) // n + 1)
        ]
        return np.concatenate(pieces)

    def _in_epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = generator_for(*self._key, epoch)
            order = torch.randperm(len(self.members), generator=generator)
            self._permuted, self._epoch = self.members[order.numpy()], epoch
        return self._permuted


def _no_examples(part: Part, splits: Splits) -> str:
    if part == "unlabelled":
        return (
            f"all {len(splits.train)} training examples of {splits.data} show their label "
            f"(labels '{splits.labels}') but the method needs some without: use fewer labels, "
            "add images without a label, or choose a method that needs none"
        )
    return f"{splits.data} has no {part} training examples: add some"
