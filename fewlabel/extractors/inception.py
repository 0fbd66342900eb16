"""The Inception-v3 network of the published FID, with weights from a file that the user has.

The network is that of Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
Vision", arXiv 1512.00567, as Google released it on 2015-12-05 with weights for 1008 classes. The
FID (Heusel et al. 2017, arXiv 1706.08500) is measured between its 2048 means of the last level.
Three things set it apart from other Inception-v3 networks: its means do not count the padding, its
last block takes maxima where the others take means, and images are resized as TensorFlow 1 did.

The weights were converted once and are known as ``pt_inception-2015-12-05-6726825d.pth``
(pytorch-fid) and ``weights-inception-2015-12-05-6726825d.pth`` (torch-fidelity), one and the same
file. Nothing here downloads it.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.errors import UserError
from fewlabel.extractors.extractor import NetworkExtractor
from fewlabel.networks.weights_key import weights_key
from fewlabel.regular_file import regular

__all__ = ["SHA256", "Inception", "inception_extractor", "resize_tf1"]

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the file of weights, whose usual names end with its first eight digits."""

_FILE = "pt_inception-2015-12-05-6726825d.pth"
_SIDE = 299
_CLASSES = 1008

_Kernel = int | tuple[int, int]
_Layers = Sequence[tuple[int, _Kernel]]  # outputs and kernel of each
_Pool = Literal["mean", "max", "halve"]

_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # a maximum over 3 × 3 that halves the size follows


def inception_extractor(path: str | Path, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The features of the published FID, (N, 2048), and log-probabilities (N, 1008).

    The log-probabilities leave the bias out, as the published inception score does (Salimans et
    al. 2016, arXiv 1606.03498).

    Args:
        path: the file of weights. A ``.pth`` is opened only if its SHA-256 is the known one. A
            ``.safetensors`` with the same tensors serves too; it has no known hash, so the
            extractor is then named after the hash of its tensors.
        device: where to compute.

    Raises:
        UserError: if the file cannot be read or holds anything else.
    """
    path = Path(path).expanduser()
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"weights {path} cannot be read ({error.strerror}): give the path of {_FILE}"
        ) from None
    network = Inception()
    safe = path.suffix == ".safetensors"
    try:
        network.load_state_dict(load(content) if safe else _checked(content, path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"weights {path} are not those of the FID Inception network "
            f"({str(error).splitlines()[0]}): give the path of {_FILE}"
        ) from None
    network.to(device).eval().requires_grad_(False)
    key = weights_key(network)
    return NetworkExtractor(f"inception-{key[:8] if safe else SHA256[:8]}", key, network, device)


def _checked(content: bytes, path: Path) -> dict[str, Tensor]:
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise UserError(
            f"weights {path} are not {_FILE}: the SHA-256 begins with {found[:8]} and should with "
            f"{SHA256[:8]}; fetch the file again"
        )
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def resize_tf1(images: Tensor, side: int) -> Tensor:
    """Bilinear, as TensorFlow 1 did for the published FID.

    Pixel i of the result lies at i·(n/side) of the n pixels before: neither are corners aligned
    nor are pixels taken at their centres, and no filter goes before. So the result is shifted by
    up to half a pixel against what other libraries do.

    Args:
        images: (N, C, H, W).
        side: height and width of the result.
    """
    down, across = (_interpolation(n, side, images) for n in images.shape[-2:])
    return down @ images @ across.T


def _interpolation(n: int, side: int, like: Tensor) -> Tensor:
    """(side, n): the weight of each pixel before in each pixel after."""
    place = torch.arange(side, dtype=torch.float64) * (n / side)
    low = place.long()
    high = (low + 1).clamp(max=n - 1)
    part = (place - low)[:, None]
    pixels = torch.eye(n, dtype=torch.float64)
    return ((1 - part) * pixels[low] + part * pixels[high]).to(like)


class Inception(nn.Module):
    """Images (n, 1 or 3, H, W) in [−1, 1] → features (n, 2048) and log-probabilities (n, 1008).

    Images are rounded to 8 bits, as files hold them, made 299 × 299 and scaled to (v − 128)/128.
    The names of the parts are those of the converted weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        self.Mixed_5b = _level_35(192, pooled=32)
        self.Mixed_5c = _level_35(256, pooled=64)
        self.Mixed_5d = _level_35(288, pooled=64)
        twice: _Layers = [(64, 1), (96, 3), (96, 3)]
        self.Mixed_6a = _Block(288, {"branch3x3": [(384, 3)], "branch3x3dbl": twice}, "halve")
        self.Mixed_6b = _level_17(128)
        self.Mixed_6c = _level_17(160)
        self.Mixed_6d = _level_17(160)
        self.Mixed_6e = _level_17(192)
        once: _Layers = [(192, 1), (320, 3)]
        long: _Layers = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
        self.Mixed_7a = _Block(768, {"branch3x3": once, "branch7x7x3": long}, "halve")
        self.Mixed_7b = _level_8(1280, "mean")
        self.Mixed_7c = _level_8(2048, "max")
        self.fc = nn.Linear(2048, _CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1 or 3, H, W) → (n, 2048) and (n, 1008)."""
        levels = ((x + 1) * 127.5).round().clamp(0, 255)
        rgb = levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels
        hidden = (resize_tf1(rgb, _SIDE) - 128) / 128
        for name, block in [*self.named_children()][:-1]:  # the last is fc
            hidden = block(hidden)
            if name in _POOLED:
                hidden = functional.max_pool2d(hidden, 3, 2)
        features = hidden.mean((2, 3))
        return features, functional.linear(features, self.fc.weight).log_softmax(-1)


class _Convolution(nn.Module):
    """Convolution, batch norm and ReLU; with stride 1 and padding the size stays."""

    def __init__(
        self, inputs: int, outputs: int, kernel: _Kernel, stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Towers of convolutions side by side, and a pooled input beside them.

    Args:
        inputs: channels.
        towers: the layers of each tower. They are called TOWER_1, TOWER_2, … or, if there is only
            one, TOWER.
        pool: means or maxima over 3 × 3; "halve" is a maximum that halves the size, as the last
            layer of each tower then does.
        pooled: outputs of a convolution of the pooled input; 0 for none.
        forked: towers that end in two more layers side by side, of 384 outputs each.
    """

    def __init__(
        self,
        inputs: int,
        towers: Mapping[str, _Layers],
        pool: _Pool,
        pooled: int = 0,
        forked: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.pool, self.pooled = pool, pooled
        self.towers: list[list[Sequence[str]]] = []
        for tower, layers in towers.items():
            names: list[Sequence[str]] = []
            width = inputs
            for index, (outputs, kernel) in enumerate(layers, 1):
                name = f"{tower}_{index}" if len(layers) > 1 or tower in forked else tower
                stride = 2 if pool == "halve" and index == len(layers) else 1
                self.add_module(name, _Convolution(width, outputs, kernel, stride))
                names.append([name])
                width = outputs
            if tower in forked:
                ends = [f"{tower}_{len(layers) + 1}{letter}" for letter in "ab"]
                for name, kernel in zip(ends, ((1, 3), (3, 1)), strict=True):
                    self.add_module(name, _Convolution(width, 384, kernel))
                names.append(ends)
            self.towers.append(names)
        if pooled:
            self.branch_pool = _Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        beside = _pooled(x, self.pool)
        if self.pooled:
            beside = self.branch_pool(beside)
        return torch.cat([*(self._end(x, tower) for tower in self.towers), beside], 1)

    def _end(self, x: Tensor, tower: list[Sequence[str]]) -> Tensor:
        for names in tower:
            x = torch.cat([self.get_submodule(name)(x) for name in names], 1)
        return x


def _pooled(x: Tensor, pool: _Pool) -> Tensor:
    if pool == "mean":
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return functional.max_pool2d(x, 3, 2 if pool == "halve" else 1, 0 if pool == "halve" else 1)


def _level_35(inputs: int, pooled: int) -> _Block:
    towers: dict[str, _Layers] = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return _Block(inputs, towers, "mean", pooled)


def _level_17(width: int) -> _Block:
    row, column = (1, 7), (7, 1)
    towers: dict[str, _Layers] = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(width, 1), (width, row), (192, column)],
        "branch7x7dbl": [
            (width, 1),
            (width, column),
            (width, row),
            (width, column),
            (192, row),
        ],
    }
    return _Block(768, towers, "mean", 192)


def _level_8(inputs: int, pool: _Pool) -> _Block:
    towers: dict[str, _Layers] = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1)],
        "branch3x3dbl": [(448, 1), (384, 3)],
    }
    return _Block(inputs, towers, pool, 192, forked=("branch3x3", "branch3x3dbl"))
