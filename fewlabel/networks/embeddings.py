"""Embedding of the noise level that the networks of this package share."""

import math

import torch
from torch import Tensor, nn

__all__ = ["NoiseEmbedding"]


class NoiseEmbedding(nn.Module):
    """Fourier features of c_noise = ¼ log r, then a two-layer perceptron.

    The frequencies are fixed, geometric from ¼ to 8 cycles per unit of c_noise, so that noise
    levels a few per cent apart are told from one another and none is aliased.

    Args:
        width: length of the embedding.
        features: number of frequencies.
    """

    frequencies: Tensor

    def __init__(self, width: int, features: int = 16) -> None:
        super().__init__()
        cycles = torch.logspace(-2, 3, features, base=2.0)
        self.register_buffer("frequencies", 2 * math.pi * cycles, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, c_noise: Tensor) -> Tensor:
        """(B,) → (B, width)."""
        angles = c_noise[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
