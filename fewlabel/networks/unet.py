"""The score network: diffusers' UNet2DModel, given any image size and a noise level."""

from collections.abc import Sequence
from typing import cast

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.batch import UNLABELLED
from fewlabel.networks.padding import padded

__all__ = ["UNet"]

_TIMESTEPS_PER_UNIT = 1000.0  # c_noise spans about [-1.6, 1.1], the embedding expects ~1000 steps


class UNet(nn.Module):
    """F(u, c_noise) for images; Ho et al. 2020, arXiv 2006.11239, as diffusers builds it.

    Images whose sides do not divide by patch · 2^(levels − 1) are padded by reflection and
    cropped.

    Args:
        channels: image channels.
        widths: channels of each resolution level, multiples of 8.
        layers: residual blocks a level.
        attention: for each level, whether it has self-attention.
        patch: side of the squares of pixels that the first level sees as one.
        classes: number of classes of a conditional network; 0 for an unconditional one.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        layers: int,
        attention: Sequence[bool],
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.patch, self.classes = patch, classes
        self.multiple = patch * 2 ** (len(widths) - 1)
        model = UNet2DModel(
            in_channels=channels * patch**2,
            out_channels=channels * patch**2,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
            attention_head_dim=8,
            norm_num_groups=8,
            num_class_embeds=classes + 1 if classes else None,  # the first stands for no label
        )
        self.model = cast(nn.Module, model)  # diffusers' decorators hide what it is

    def forward(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,) and labels (B,), −1 or None for no label → (B, C, H, W)."""
        if self.classes and y is None:
            y = torch.full((len(u),), UNLABELLED, device=u.device)
        embedded = None if y is None else y + 1
        height, width = u.shape[-2:]
        patches = functional.pixel_unshuffle(padded(u, self.multiple), self.patch)
        output = self.model(patches, c_noise * _TIMESTEPS_PER_UNIT, embedded).sample
        return functional.pixel_shuffle(output, self.patch)[..., :height, :width]
