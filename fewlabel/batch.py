"""A batch of data, and which part of the data a loss is meant for."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["UNLABELLED", "Batch", "Part"]

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
