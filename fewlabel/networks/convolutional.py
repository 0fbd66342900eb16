"""Noise-conditional convolutional classifiers, from a few layers to the depth of a ResNet-34.

GroupNorm keeps samples apart and SiLU keeps the gradient with respect to the image smooth: both
matter, because guidance and self-calibration use that gradient.
"""

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn
from torch.nn import functional

from fewlabel.networks.embeddings import NoiseEmbedding
from fewlabel.networks.padding import padded

__all__ = ["ConvClassifier"]

_GRID = 4  # features keep 4 × 4 places: under strong noise only the coarse layout tells classes


class _Block(nn.Module):
    """A residual block modulated by the noise embedding (scale and shift after the norm)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, dim=1)
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = self.norm2(hidden) * (1 + scale) + shift
        return self.skip(x) + self.conv2(functional.silu(hidden))


class ConvClassifier(nn.Module):
    """h(u, c_noise) in R^K for images of any size.

    Widths (64, 128, 256, 512) with (2, 2, 2, 2) or (3, 4, 6, 3) blocks make a ResNet-18 or -34 (He
    et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027) that begins as
    usual for small images: a 3 × 3 convolution without pooling. Levels halve the size by means.

    Args:
        channels: image channels.
        classes: K.
        widths: channels of each resolution level, multiples of 8; each level halves the size.
        layers: residual blocks of each level.
        patch: side of the squares of pixels that the first level sees as one.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        layers: Sequence[int],
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        embedding = 4 * widths[0]
        self.embedding = NoiseEmbedding(embedding)
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        self.halvings, inputs = set(accumulate(layers[:-1])), widths[0]
        for width, depth in zip(widths, layers, strict=True):
            for _ in range(depth):
                self.blocks.append(_Block(inputs, width, embedding))
                inputs = width
        self.norm = nn.GroupNorm(8, inputs)
        self.project = nn.Linear(inputs * _GRID**2, inputs)
        self.head = nn.Linear(inputs, classes)

    def features(self, u: Tensor, c_noise: Tensor) -> Tensor:
        """The features under the last layer, (B, widths[-1])."""
        embedding = self.embedding(c_noise)
        hidden = self.stem(functional.pixel_unshuffle(padded(u, self.patch), self.patch))
        for index, block in enumerate(self.blocks):
            if index in self.halvings:
                hidden = functional.avg_pool2d(hidden, 2, ceil_mode=True)
            hidden = block(hidden, embedding)
        hidden = functional.adaptive_avg_pool2d(functional.silu(self.norm(hidden)), _GRID)
        return functional.silu(self.project(hidden.flatten(1)))

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) → (B, K)."""
        return self.head(self.features(u, c_noise))
