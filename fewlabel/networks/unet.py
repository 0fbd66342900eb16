"""The score network: diffusers' UNet2DModel, given any image size and a noise level."""

from collections.abc import Sequence
from typing import cast

from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNet"]

_TIMESTEPS_PER_UNIT = 1000.0  # c_noise spans about [-1.6, 1.1], the embedding expects ~1000 steps


class UNet(nn.Module):
    """F(u, c_noise) for images; Ho et al. 2020, arXiv 2006.11239, as diffusers builds it.

    Images whose sides do not divide by 2^(levels − 1) are padded by reflection and cropped.

    Args:
        channels: image channels.
        widths: channels of each resolution level, multiples of 8.
        layers: residual blocks a level.
        attention: for each level, whether it has self-attention.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], layers: int, attention: Sequence[bool]
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        model = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
            attention_head_dim=32,
            norm_num_groups=8,
        )
        self.model = cast(nn.Module, model)  # diffusers' decorators hide what it is

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) → (B, C, H, W)."""
        height, width = u.shape[-2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(padding):
            u = functional.pad(u, padding, mode="reflect")
        output = self.model(u, c_noise * _TIMESTEPS_PER_UNIT).sample
        return output[..., :height, :width]
