"""Checkpoints of the published score-SDE code and its descendants: NCSN++ and DDPM++, continuous.

Song et al. 2021, arXiv 2011.13456, and DLSM, Chao et al. 2022, arXiv 2203.14206. Their files hold
the weights, their averages, the optimiser and the step; the architecture is read from the names
and shapes of the weights, which are numbered in the order in which they act:

    (Fourier frequencies) · two linear layers · first convolution
    · each level down: (residual block · (attention)) × layers · (block that halves · (pyramid))
    · residual block · attention · residual block
    · each level up: residual block × (layers + 1) · (attention) · (block that doubles)
    · normalisation · last convolution

Networks with Fourier features are told σ and are of the process VE for images in [0, 1]; for
images in [-1, 1] its σ is twice that, so k = 1/2 in `fewlabel.score`. The others are told 999 t
and are of the process VP for images in [-1, 1]. What they predict is the noise, or its negative.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewlabel.config import ScoreConfig, validated
from fewlabel.errors import UserError
from fewlabel.interop.imported import Imported
from fewlabel.interop.tensors import check_keys, check_weights, read_pickled
from fewlabel.models import score_network
from fewlabel.networks.levels import DownLevel, UpLevel

__all__ = ["PUBLISHED_KEYS", "read_published"]

PUBLISHED_KEYS = ("sde", "beta_min", "beta_max", "sigma_min", "sigma_max")
"""What can be said of the process: what it is (vp, subvp), and its ends."""

_NETWORK = "an NCSN++ or DDPM++ (continuous)"
_MODULES = "module.all_modules"
_SIGMAS = "module.sigmas"
_BLOCK = {
    "GroupNorm_0": "norm1",
    "Conv_0": "conv1",
    "Dense_0": "time_emb_proj",
    "GroupNorm_1": "norm2",
    "Conv_1": "conv2",
    "Conv_2": "conv_shortcut",
}
_ATTENTION = {
    "GroupNorm_0": "group_norm",
    "NIN_0": "to_q",
    "NIN_1": "to_k",
    "NIN_2": "to_v",
    "NIN_3": "to_out.0",
}


def read_published(path: Path, size: int | None, settings: Mapping[str, Any]) -> Imported:
    """The score model in a `.pth` file, with averaged weights if it has any.

    Args:
        path: the file.
        size: side of the images, which the file does not tell.
        settings: `sde` ("vp", "subvp"), `beta_min`, `beta_max`, or `sigma_min` and `sigma_max` for
            images in [0, 1], where they are not the published or the stored ones.

    Raises:
        UserError: for a file that is none, cut short or of another network, naming the first
            key that is missing or unexpected.
    """
    if size is None:
        raise UserError(f"{path} does not tell the size of its images: give --size, such as 32")
    content = read_pickled(path)
    if not isinstance(content.get("model"), Mapping):
        raise UserError(f"{path} does not fit {_NETWORK}: its first missing key is model")
    stored = _averaged(path, content)
    layout = _Layout.of(path, stored)
    section = validated(layout.section(), str(path), ScoreConfig)
    shape = layout.channels, size, size
    with torch.device("meta"):  # names and shapes are wanted, no values
        network = score_network(shape, section)
    names = dict(_names(network.model, layout))  # type: ignore[arg-type]
    check_keys(path, names, (key for key in stored if key != _SIGMAS), _NETWORK)
    weights = {f"model.{own}": _turned(key, stored[key]) for key, own in names.items()}
    check_weights(path, network, weights, _NETWORK)
    _check_settings(path, settings, layout.fourier)
    if layout.fourier:  # its output is the negative of the noise, over σ: the score
        process = _exploding(path, stored, settings)
    else:
        process = {"name": settings.get("sde", "vp")}
        betas = ("beta_min", "beta_max")
        process |= {key: float(settings[key]) for key in betas if key in settings}
    steps = content.get("step")
    step = steps if isinstance(steps, int) and steps > 0 else 1
    scored = section.model_dump(exclude={"fit"})
    return Imported(shape, process, scored, weights, step=step)


def _check_settings(path: Path, settings: Mapping[str, Any], fourier: bool) -> None:
    """Refuse what does not belong to the process of such a network."""
    known = PUBLISHED_KEYS[3:] if fourier else PUBLISHED_KEYS[:3]
    kind = "VE, as it has Fourier features" if fourier else "VP or sub-VP"
    for key in settings:
        if key not in known:
            raise UserError(
                f"--set {key}: the network of {path} is of {kind}; give {' or '.join(known)}"
            )
    if settings.get("sde", "vp") not in ("vp", "subvp"):
        raise UserError(f"--set sde={settings['sde']}: give vp or subvp")


def _exploding(
    path: Path, stored: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The process VE for images in [-1, 1]."""
    found = stored.get(_SIGMAS)
    ends: dict[str, float] = {}
    if found is not None and found.numel():
        ends = {"sigma_min": float(found.min()), "sigma_max": float(found.max())}
    ends |= {key: float(settings[key]) for key in ("sigma_min", "sigma_max") if key in settings}
    if len(ends) < 2:
        raise UserError(
            f"{path} tells no noise levels: give --set sigma_min=0.01 --set sigma_max=50"
        )
    return {"name": "ve", **{key: float(f"{2 * value:.6g}") for key, value in ends.items()}}


def _averaged(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by name, those of the average where there is one.

    The average is a list in the order of the weights, without the fixed Fourier frequencies.
    """
    stored = dict(content["model"])
    average = content.get("ema")
    if not isinstance(average, Mapping) or "shadow_params" not in average:
        return stored
    fixed = (_SIGMAS, f"{_MODULES}.0.W")
    names = [name for name in stored if name not in fixed]
    values = average["shadow_params"]
    for name, value in zip(names, values, strict=False):
        if value.shape != stored[name].shape:
            raise UserError(f"{path}: the average of {name} has another shape: fetch it again")
        stored[name] = value
    if len(names) != len(values):
        where = names[len(values)] if len(values) < len(names) else "shadow_params"
        raise UserError(
            f"{path}: there are {len(values)} averages of {len(names)} weights; the first key "
            f"without its like is {where}: fetch it again"
        )
    return stored


class _Modules:
    """The numbered modules of a checkpoint, read one after the other."""

    def __init__(self, path: Path, stored: Mapping[str, Tensor]) -> None:
        self.path, self.place = path, 0
        self.entries: dict[int, dict[str, Tensor]] = {}
        for key, value in stored.items():
            number, _, rest = key.removeprefix(f"{_MODULES}.").partition(".")
            if key.startswith(_MODULES) and number.isdigit():
                self.entries.setdefault(int(number), {})[rest] = value
            elif key != _SIGMAS:
                self._refuse("unexpected", key)

    def at(self, ahead: int = 0) -> dict[str, Tensor]:
        """The module that many places ahead; empty behind the last."""
        return self.entries.get(self.place + ahead, {})

    def take(self, *names: str) -> dict[str, Tensor]:
        """The next module, which must have these weights."""
        found = self.at()
        for name in names:
            if name not in found:
                self._refuse("missing", f"{_MODULES}.{self.place}.{name}")
        self.place += 1
        return found

    def is_block(self, ahead: int = 0) -> bool:
        """Whether a residual block is there."""
        return "Conv_1.weight" in self.at(ahead)

    def is_attention(self, ahead: int = 0) -> bool:
        """Whether an attention block is there."""
        return "NIN_3.W" in self.at(ahead)

    def resamples(self) -> bool:
        """Whether a residual block is there that halves or doubles: it alone always has Conv_2."""
        weight = self.at().get("Conv_2.weight")
        return weight is not None and weight.shape[0] == weight.shape[1]

    def _refuse(self, word: str, key: str) -> None:
        raise UserError(
            f"{self.path} does not fit {_NETWORK}: its first {word} key is {key}; give the "
            "checkpoint of such a network"
        )


@dataclass(frozen=True)
class _Layout:
    """The architecture, as it is read from the way down."""

    channels: int
    widths: tuple[int, ...]
    layers: int
    attention: tuple[bool, ...]
    pyramid: bool
    fourier: bool

    @classmethod
    def of(cls, path: Path, stored: Mapping[str, Tensor]) -> "_Layout":
        modules = _Modules(path, stored)
        fourier = "W" in modules.at()
        if fourier:
            modules.take("W")
        for _ in range(2):
            modules.take("weight", "bias")
        first = modules.take("weight", "bias")["weight"]
        widths, layers, attention, pyramid = [], 0, [], False
        while True:
            block = modules.take(*(f"{name}.weight" for name in ("GroupNorm_0", "Conv_0")))
            modules.place -= 1
            widths.append(len(block["Conv_0.weight"]))
            attention.append(modules.is_attention(1))
            here = 0
            while modules.is_block() and not modules.resamples() and (not layers or here < layers):
                modules.place += 2 if attention[-1] else 1
                here += 1
            layers = layers or here
            if not modules.resamples():
                break
            modules.place += 1
            if "Conv2d_0.weight" in modules.at():
                pyramid, modules.place = True, modules.place + 1
        found = first.shape[1], tuple(widths), layers, tuple(attention)
        return cls(*found, pyramid, fourier)

    def section(self) -> dict[str, Any]:
        """The section `score` of a configuration; `fit` is a stand-in."""
        told: dict[str, Any] = {"prediction": "noise", "time_scale": 999.0}
        if self.fourier:
            told = {"prediction": "score", "time_scale": 0.5}
        return {
            "widths": self.widths,
            "layers": self.layers,
            "attention": self.attention,
            "blocks": "ncsn++" if self.pyramid else "ddpm++",
            "embedding": "fourier" if self.fourier else "positional",
            "fit": {"steps": 1},
            **told,
        }


def _names(model: nn.Module, layout: _Layout) -> Iterator[tuple[str, str]]:
    """The name of each weight in the checkpoint, and in our network, in the published order."""
    own = {module: name for name, module in model.named_modules()}
    for place, (module, parts) in enumerate(_order(model, layout)):
        for name, _ in model.get_submodule(own[module]).named_parameters():
            owner, _, kind = name.rpartition(".")
            part = parts.get(owner, owner)
            kind = {"weight": "W", "bias": "b"}[kind] if part.startswith("NIN") else kind
            kind = "W" if layout.fourier and place == 0 else kind
            key = f"{_MODULES}.{place}.{part}.{kind}" if part else f"{_MODULES}.{place}.{kind}"
            yield key, f"{own[module]}.{name}"


def _order(model: Any, layout: _Layout) -> Iterator[tuple[nn.Module, dict[str, str]]]:
    """Our modules in the published order, each with the published names of its parts."""
    block = {own: name for name, own in _BLOCK.items()}
    attention = {own: name for name, own in _ATTENTION.items()}
    whole: dict[str, str] = {}
    if layout.fourier:
        yield model.time_proj, whole
    yield model.time_embedding.linear_1, whole
    yield model.time_embedding.linear_2, whole
    yield model.conv_in, whole
    down: DownLevel
    for down in model.down_blocks:
        for resnet, attends in zip(down.resnets, down.attentions, strict=True):
            yield resnet, block
            if not isinstance(attends, nn.Identity):
                yield attends, attention
        if down.resnet_down is not None:
            yield down.resnet_down, block
            if layout.pyramid and down.skip_conv is not None:
                yield down.skip_conv, whole
    first, last = model.mid_block.resnets
    yield first, block
    yield model.mid_block.attentions[0], attention
    yield last, block
    up: UpLevel
    for up in model.up_blocks:
        for resnet in up.resnets:
            yield resnet, block
        if not isinstance(up.attention, nn.Identity):
            yield up.attention, attention
        if up.resnet_up is not None:
            yield up.resnet_up, block
    yield model.conv_norm_out, whole
    yield model.conv_out, whole


def _turned(key: str, value: Tensor) -> Tensor:
    """A weight as our layers hold it: theirs of attention map rows to columns."""
    return value.T.contiguous() if ".NIN_" in key and key.endswith(".W") else value.clone()
