"""The best validation so far, and whether there is hope for a better one."""

import math
from collections.abc import Mapping

import torch

__all__ = ["Best", "validation_loss"]


def validation_loss(figures: Mapping[str, float]) -> float | None:
    """The one figure that tells which of two validations is better: less is.

    The score-matching loss of a score model, the mean cross-entropy over the noise levels of a
    classifier; None where nothing was held out.
    """
    losses = [value for name, value in figures.items() if name == "dsm" or name.startswith("ce@")]
    return sum(losses) / len(losses) if losses else None


class Best:
    """The least validation loss and the validations since.

    It is kept in tensors that are changed in place, as part of every checkpoint's memory, so that
    a run that goes on from a checkpoint decides as one that was never interrupted.
    """

    def __init__(self) -> None:
        self.memory = {
            "best.loss": torch.tensor(math.inf, dtype=torch.float64),
            "best.since": torch.tensor(0),
        }

    def is_improved(self, figures: Mapping[str, float]) -> bool:
        """Take in a validation; whether it is the best so far."""
        loss = validation_loss(figures)
        if loss is None:
            return False
        improved = loss < float(self.memory["best.loss"])
        if improved:
            self.memory["best.loss"].fill_(loss)
            self.memory["best.since"].zero_()
        else:
            self.memory["best.since"].add_(1)
        return improved

    def is_exhausted(self, patience: int | None) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        return patience is not None and int(self.memory["best.since"]) >= patience
