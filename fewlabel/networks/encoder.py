"""The encoder of a UNet as a classifier, as in guided diffusion."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.networks.unet import UNet

__all__ = ["EncoderClassifier"]

_GRID = 4  # as many places a side, whatever the size of the images
_HEAD = 64  # channels a head, where it divides them


class _AttentionPool(nn.Module):
    """One vector of many: self-attention over places and their mean, read at the mean.

    Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
    arXiv 2103.00020.
    """

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(places + 1, width) / width**0.5)
        self.heads = width // math.gcd(width, _HEAD)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C)."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.positions
        query, key, value = (
            layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, part in (
                (self.query, tokens[:, :1]),
                (self.key, tokens),
                (self.value, tokens),
            )
        )
        read = functional.scaled_dot_product_attention(query, key, value)
        return self.out(read.transpose(1, 2).flatten(1))


class EncoderClassifier(nn.Module):
    """h(u, c_noise) in R^K for images of any size: the way down of a UNet, and attention pooling.

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233,
    section 4. The weights of the encoder have the names they have in the UNet, so that those of a
    score network load: `classifier.encoder.load_state_dict(unet.state_dict(), strict=False)`.

    Args:
        unet: an unconditional UNet; it is taken over and loses its way up.
        classes: K.
    """

    def __init__(self, unet: UNet, classes: int) -> None:
        super().__init__()
        model: Any = unet.model
        model.up_blocks = nn.ModuleList()
        width = model.config["block_out_channels"][-1]
        model.conv_norm_out, model.conv_act, model.conv_out = (nn.Identity() for _ in range(3))
        self.encoder = unet
        self.norm = nn.GroupNorm(8, width)
        self.pool = _AttentionPool(width, _GRID**2)
        self.head = nn.Linear(width, classes)

    def features(self, u: Tensor, c_noise: Tensor) -> Tensor:
        """The features under the last layer, (B, widths[-1])."""
        hidden = functional.silu(self.norm(self.encoder.run(u, c_noise)))
        pooled = self.pool(functional.adaptive_avg_pool2d(hidden, _GRID))
        return functional.silu(pooled)

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) → (B, K)."""
        return self.head(self.features(u, c_noise))
