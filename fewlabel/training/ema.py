"""Exponential moving average of weights."""

import copy

import torch
from torch import nn

__all__ = ["Ema"]


class Ema:
    """θ̄ ← d θ̄ + (1 − d) θ with a warm-up of the decay, d = min(decay, (1+n)/(10+n)) at step n.

    Args:
        model: the model whose weights are averaged; the average starts as a copy of it.
        decay: the final decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights after step number `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for copied, source in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(source)
