"""The resolution levels of DDPM++ and NCSN++, made of diffusers' residual and attention blocks.

Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations",
arXiv 2011.13456, section 4.1 and appendix H. Against the levels of Ho et al. 2020:

- residual blocks resample (BigGAN), and every sum of two branches is divided by √2;
- a level has one attention block on the way up, with a single head;
- NCSN++ resamples with the filter (1, 3, 3, 1), and each level on the way down gets the image
  beside the features: p ← (conv(p↓) + h)/√2, h ← p, where p begins as the image.

`UNet2DModel` runs them in the place of its own levels.
"""

import math
from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import FirDownsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

__all__ = ["DownLevel", "UpLevel", "initialise"]

_RESCALE = math.sqrt(2)
_EPS = 1e-6
_NOTHING = 1e-5  # the gain of weights that begin next to zero


class _Level(nn.Module):
    """What the two directions share: how their blocks are made.

    Args:
        embedding: length of the noise embedding.
        groups: groups of the normalisations.
        fir: whether blocks resample with the filter (1, 3, 3, 1), not by means and repetition.
        dropout: probability, in [0, 1).
    """

    def __init__(self, embedding: int, groups: int, fir: bool, dropout: float) -> None:
        super().__init__()
        self._shared: dict[str, Any] = {
            "temb_channels": embedding,
            "groups": groups,
            "eps": _EPS,
            "dropout": dropout,
            "output_scale_factor": _RESCALE,
        }
        self._resamples: dict[str, Any] = {
            "kernel": "fir" if fir else None,
            "use_in_shortcut": True,
        }

    def _block(self, inputs: int, outputs: int) -> ResnetBlock2D:
        return ResnetBlock2D(in_channels=inputs, out_channels=outputs, **self._shared)

    def _resampling(self, width: int, *, up: bool) -> ResnetBlock2D:
        return ResnetBlock2D(
            in_channels=width, up=up, down=not up, **self._resamples, **self._shared
        )

    def _attention(self, width: int) -> Attention:
        return Attention(
            width,
            heads=1,
            dim_head=width,
            rescale_output_factor=_RESCALE,
            eps=_EPS,
            norm_num_groups=self._shared["groups"],
            residual_connection=True,
            bias=True,
            _from_deprecated_attn_block=True,
        )


class DownLevel(_Level):
    """Residual blocks, each with attention or not, then a block that halves the size.

    Args:
        inputs: channels that come in.
        width: channels of the level.
        layers: residual blocks before the one that halves.
        attention: whether each of them is followed by self-attention.
        halves: whether the level halves the size.
        image: channels of the image, or of what became of it, that is added; 0 for none.
        shared: the arguments of `_Level`.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int,
        attention: bool,
        halves: bool,
        image: int,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        widths = [inputs] + [width] * (layers - 1)
        self.resnets = nn.ModuleList(self._block(before, width) for before in widths)
        self.attentions = nn.ModuleList(
            self._attention(width) if attention else nn.Identity() for _ in widths
        )
        self.resnet_down = self._resampling(width, up=False) if halves else None
        if image:  # the name tells UNet2DModel to hand the image on
            self.skip_conv = FirDownsample2D(image, width, use_conv=True) if halves else None

    def forward(
        self, hidden_states: Tensor, temb: Tensor, skip_sample: Tensor | None = None
    ) -> tuple[Any, ...]:
        """Features, what the way up gets of them, and the image if there is one."""
        hidden, states = hidden_states, []
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            hidden = attention(resnet(hidden, temb))
            states.append(hidden)
        if self.resnet_down is not None:
            hidden = self.resnet_down(hidden, temb)
            if skip_sample is not None and self.skip_conv is not None:
                hidden = (self.skip_conv(skip_sample) + hidden) / _RESCALE
            states.append(hidden)
        outputs = hidden, tuple(states)
        return outputs if skip_sample is None else (*outputs, hidden)


class UpLevel(_Level):
    """Residual blocks on features joined with those of the way down, then one that doubles.

    Args:
        inputs: channels that come from below.
        width: channels of the level.
        above: channels of the next level up, of which the last block gets the features.
        layers: residual blocks before the one that doubles.
        attention: whether self-attention follows the last of them.
        doubles: whether the level doubles the size.
        shared: the arguments of `_Level`.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        above: int,
        layers: int,
        attention: bool,
        doubles: bool,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        widths = [inputs] + [width] * (layers - 1)
        joined = [width] * (layers - 1) + [above]
        self.resnets = nn.ModuleList(
            self._block(one + other, width) for one, other in zip(widths, joined, strict=True)
        )
        self.attention = self._attention(width) if attention else nn.Identity()
        self.resnet_up = self._resampling(width, up=True) if doubles else None

    def forward(self, hidden: Tensor, states: tuple[Tensor, ...], temb: Tensor) -> Tensor:
        """Features of the level, at twice the size if it doubles."""
        for resnet, state in zip(self.resnets, reversed(states), strict=True):
            hidden = resnet(torch.cat([hidden, state], dim=1), temb)
        hidden = self.attention(hidden)
        return hidden if self.resnet_up is None else self.resnet_up(hidden, temb)


def initialise(model: nn.Module, last: nn.Conv2d) -> None:
    """Give weights the variance 2/(fan_in + fan_out), and next to none where a branch ends.

    Those of query, key and value get a tenth of it. So every residual block begins as the
    identity, and the output, of the convolution `last`, as next to zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.xavier_uniform_(module.conv2.weight, _NOTHING)
        elif isinstance(module, Attention):
            nn.init.xavier_uniform_(cast(nn.Linear, module.to_out[0]).weight, _NOTHING)
            for projection in (module.to_q, module.to_k, module.to_v):
                nn.init.xavier_uniform_(projection.weight, math.sqrt(0.1))
    nn.init.xavier_uniform_(last.weight, _NOTHING)
