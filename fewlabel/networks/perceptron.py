"""Multilayer perceptrons for vectors: score network and noise-conditional classifier.

SiLU keeps the gradient with respect to the input smooth; LayerNorm keeps samples apart.
"""

import torch
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED
from fewlabel.errors import UserError
from fewlabel.networks.embeddings import NoiseEmbedding

__all__ = ["Perceptron"]


class _Layer(nn.Module):
    """A residual layer modulated by the embedding: h + W₂ silu((1 + a) norm(W₁ h) + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        inner = self.norm(self.first(hidden)) * (1 + scale) + shift
        return hidden + self.second(nn.functional.silu(inner))


class Perceptron(nn.Module):
    """F(u, c_noise) or F(u, c_noise, y) for vectors.

    Args:
        inputs: D.
        outputs: D for a score network, K for a classifier.
        width: units of each layer.
        layers: residual layers.
        classes: number of classes of a conditional network; 0 for an unconditional one.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, layers: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = NoiseEmbedding(width)
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        if classes:
            self.labels = nn.Embedding(classes + 1, width)  # the first stands for no label

    def features(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        """The features under the last layer, (B, width)."""
        embedding = self.embedding(c_noise)
        if y is not None and not self.classes:
            raise UserError("the network is unconditional; give no labels")
        if self.classes:
            y = torch.full((len(u),), UNLABELLED, device=u.device) if y is None else y
            embedding = embedding + self.labels(y + 1)
        hidden = self.stem(u)
        for layer in self.layers:
            hidden = layer(hidden, embedding)
        return nn.functional.silu(hidden)

    def forward(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, D), (B,) and labels (B,), −1 or None for no label → (B, outputs)."""
        return self.head(self.features(u, c_noise, y))
