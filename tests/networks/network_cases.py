"""Small networks in float64, one of each kind, and inputs for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.encoder import EncoderClassifier
from fewlabel.networks.perceptron import Perceptron
from fewlabel.networks.unet import Blocks, Embedding, UNet

Build = Callable[..., nn.Module]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with weights of ordinary size, whatever it begins with in training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build()
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return network.double()


def unet(
    channels: int = 1,
    levels: int = 2,
    classes: int = 0,
    blocks: Blocks = "plain",
    embedding: Embedding = "positional",
) -> UNet:
    widths, attention = (8, 32, 32)[:levels], (False,) * (levels - 1) + (True,)
    of_blocks = {"blocks": blocks, "embedding": embedding}
    return seeded(lambda: UNet(channels, widths, 1, attention, classes=classes, **of_blocks))  # type: ignore


def ddpmpp(channels: int = 1, levels: int = 2, classes: int = 0) -> UNet:
    return unet(channels, levels, classes, "ddpm++")


def ncsnpp(channels: int = 1, levels: int = 2, classes: int = 0) -> UNet:
    return unet(channels, levels, classes, "ncsn++", "fourier")


def conv_classifier(channels: int = 1, levels: int = 2, layers: int = 1) -> ConvClassifier:
    widths = (8, 16, 24)[:levels]
    return seeded(lambda: ConvClassifier(channels, 3, widths, (layers,) * levels))  # type: ignore


def resnet(channels: int = 1, levels: int = 4) -> ConvClassifier:
    """As deep as a ResNet-18."""
    widths = (8, 16, 24, 32)[:levels]
    return seeded(lambda: ConvClassifier(channels, 3, widths, (2, 2, 2, 2)[:levels]))  # type: ignore


def encoder(channels: int = 1, levels: int = 2, build: Build = unet) -> EncoderClassifier:
    return seeded(lambda: EncoderClassifier(build(channels, levels), 3))  # type: ignore


def fourier_encoder(channels: int = 1, levels: int = 2) -> EncoderClassifier:
    return encoder(channels, levels, ncsnpp)


def perceptron(outputs: int = 3, classes: int = 0) -> Perceptron:
    return seeded(lambda: Perceptron(4, outputs, 16, 2, classes))  # type: ignore


def inputs(n: int, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return u, torch.linspace(-1.2, 0.8, n, dtype=torch.float64)


def vectors(n: int) -> tuple[Tensor, Tensor, Tensor]:
    u, c_noise = inputs(n, (1, 2, 2))
    return u.flatten(1), c_noise, torch.arange(n) % 3


UNETS = {"unet": unet, "ddpm++": ddpmpp, "ncsn++": ncsnpp}
CLASSIFIERS = {
    "conv": conv_classifier,
    "resnet": resnet,
    "encoder": encoder,
    "fourier-encoder": fourier_encoder,
}


def each(builders: dict[str, Build]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("build", builders.values(), ids=builders.keys())
