"""The score network: diffusers' UNet2DModel, given any image size and a noise level."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.batch import UNLABELLED
from fewlabel.networks.levels import DownLevel, UpLevel, initialise
from fewlabel.networks.padding import padded

__all__ = ["Blocks", "DiffusersUNet", "Embedding", "UNet"]

Blocks = Literal["plain", "ddpm++", "ncsn++"]
Embedding = Literal["positional", "fourier"]

_TIMESTEPS_PER_UNIT = 1000.0  # c_noise spans about [-1.6, 1.1], the embedding expects ~1000 steps


class UNet(nn.Module):
    """F(u, c_noise) for images, as diffusers runs it.

    Images whose sides do not divide by patch · 2^(levels − 1) are padded by reflection and
    cropped. Blocks are those of Ho et al. 2020, arXiv 2006.11239 ("plain"), or of DDPM++ and
    NCSN++, Song et al. 2021, arXiv 2011.13456.

    Args:
        channels: image channels.
        widths: channels of each resolution level, multiples of 8.
        layers: residual blocks a level.
        attention: for each level, whether it has self-attention.
        patch: side of the squares of pixels that the first level sees as one.
        classes: number of classes of a conditional network; 0 for an unconditional one.
        blocks: what the levels are made of.
        embedding: sines of 1000 c_noise, or random Fourier features of log r = 4 c_noise.
        dropout: probability in the residual blocks, in [0, 1).
        as_published: for weights from elsewhere: in the place of c_noise comes what the model
            embeds, the time or σ, and its output is as diffusers gives it.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        layers: int,
        attention: Sequence[bool],
        *,
        patch: int = 1,
        classes: int = 0,
        blocks: Blocks = "plain",
        embedding: Embedding = "positional",
        dropout: float = 0.0,
        as_published: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.classes, self.embedding = patch, classes, embedding
        self.as_published = as_published
        self.multiple = patch * 2 ** (len(widths) - 1)
        settings = {
            "in_channels": channels * patch**2,
            "out_channels": channels * patch**2,
            "block_out_channels": tuple(widths),
            "time_embedding_type": embedding,
            "dropout": dropout,
            "num_class_embeds": classes + 1 if classes else None,  # the first: no label
        }
        if blocks == "plain":
            model = _plain(settings, layers, attention)
        else:
            model = _published(settings, layers, attention, pyramid=blocks == "ncsn++")
        self.model = cast(nn.Module, model)  # diffusers' decorators hide what it is

    def forward(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,) and labels (B,), −1 or None for no label → (B, C, H, W)."""
        height, width = u.shape[-2:]
        output = functional.pixel_shuffle(self.run(u, c_noise, y), self.patch)
        return output[..., :height, :width]

    def run(self, u: Tensor, c_noise: Tensor, y: Tensor | None = None) -> Tensor:
        """What the model returns for images padded and cut into patches, (B, ·, ·, ·)."""
        if self.classes and y is None:
            y = torch.full((len(u),), UNLABELLED, device=u.device)
        embedded = None if y is None else y + 1
        patches = functional.pixel_unshuffle(padded(u, self.multiple), self.patch)
        if self.as_published:
            return self.model(patches, c_noise, embedded).sample
        if self.embedding == "positional":
            return self.model(patches, c_noise * _TIMESTEPS_PER_UNIT, embedded).sample
        ratio = torch.exp(4 * c_noise)  # the model embeds its logarithm, and divides by it
        return self.model(patches, ratio, embedded).sample * ratio[:, None, None, None]


class DiffusersUNet(nn.Module):
    """F(x, time) as diffusers' UNet2DModel of any configuration gives it.

    Args:
        config: of the model, as its config.json has it.
        unit: whether it was trained on images in [0, 1]; x are always in [-1, 1].
    """

    def __init__(self, config: Mapping[str, Any], unit: bool = False) -> None:
        super().__init__()
        self.model = cast(nn.Module, UNet2DModel.from_config(dict(config)))
        self.unit = unit

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) → (B, C, H, W)."""
        return self.model((x + 1) / 2 if self.unit else x, time).sample


def _plain(settings: dict[str, Any], layers: int, attention: Sequence[bool]) -> UNet2DModel:
    return UNet2DModel(
        layers_per_block=layers,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
        attention_head_dim=8,
        norm_num_groups=8,
        **settings,
    )


def _published(
    settings: dict[str, Any], layers: int, attention: Sequence[bool], pyramid: bool
) -> UNet2DModel:
    """The model of DDPM++, or of NCSN++ with its image pyramid: all but the levels is diffusers'.

    Normalisations have 32 groups, or one for every 4 channels where that is fewer, as published.
    """
    widths, count = settings["block_out_channels"], len(attention)
    groups = math.gcd(*(width // 4 for width in widths), 32)  # until all is built
    model: Any = UNet2DModel(
        layers_per_block=0,  # the levels follow
        down_block_types=("DownBlock2D",) * count,
        up_block_types=("UpBlock2D",) * count,
        attention_head_dim=None,
        norm_num_groups=groups,
        norm_eps=1e-6,
        mid_block_scale_factor=math.sqrt(2),
        freq_shift=1,
        flip_sin_to_cos=False,
        **settings,
    )
    dropout = settings["dropout"]
    shared = {"embedding": 4 * widths[0], "groups": groups, "fir": pyramid, "dropout": dropout}
    images = [settings["in_channels"], *widths[:-1]] if pyramid else [0] * count
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for level, (width, attends) in enumerate(zip(widths, attention, strict=True)):
        above, below = widths[max(level - 1, 0)], widths[min(level + 1, count - 1)]
        last, image = level == count - 1, images[level]
        down.append(DownLevel(above, width, layers, attends, not last, image, **shared))
        up.insert(0, UpLevel(below, width, above, layers + 1, attends, level > 0, **shared))
    model.down_blocks, model.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = _groups(module.num_channels)
    initialise(model, model.conv_out)
    return model


def _groups(channels: int) -> int:
    """Groups of a normalisation; where 32 do not divide the channels, as many as do."""
    groups = min(channels // 4, 32)
    return groups if channels % groups == 0 else math.gcd(channels // 4, 32)
