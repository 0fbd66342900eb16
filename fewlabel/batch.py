"""A batch of data, and which part of the data a loss is meant for."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewlabel.errors import UserError

__all__ = ["UNLABELLED", "Batch", "Part", "labels_of"]

UNLABELLED = -1
"""The label of an example that has none."""

Part = Literal["labelled", "unlabelled", "all"]
"""The examples with a label (L), those without (U), or both (L ∪ U)."""


@dataclass(frozen=True)
class Batch:
    """Clean examples with what is known of their classes.

    Attributes:
        x: (B, ...).
        y: labels, (B,) int64; −1 where there is none.
        q: class probabilities from a teacher, (B, K), one-hot where there is a label; None without
            a teacher.
    """

    x: Tensor
    y: Tensor
    q: Tensor | None = None

    def rows(self, which: slice) -> "Batch":
        """Some of the examples."""
        return Batch(self.x[which], self.y[which], None if self.q is None else self.q[which])


def labels_of(y: int | Tensor, x: Tensor) -> Tensor:
    """The label of each sample of x (B, ...), from one for all, (), or one for each, (B,).

    Returns:
        (B,), on the device of x.

    Raises:
        UserError: for another number of labels.
    """
    labels = torch.as_tensor(y, device=x.device)
    if labels.shape not in {(), x.shape[:1]}:
        raise UserError(
            f"labels of shape {tuple(labels.shape)} for {len(x)} samples; give one for all or for "
            "each"
        )
    return labels.expand(len(x))
