"""From a configuration to the two models of a run."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from fewlabel import process as processes
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import ClassifierConfig, Config, ScoreConfig
from fewlabel.errors import UserError
from fewlabel.limits import max_bytes, raise_it
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.encoder import EncoderClassifier
from fewlabel.networks.perceptron import Perceptron
from fewlabel.networks.unet import DiffusersUNet, UNet
from fewlabel.objectives.times import Times, times_from_config
from fewlabel.randomness import seed_of, seeded
from fewlabel.score import ScoreModel

Model = TypeVar("Model", bound=nn.Module)
Stage = Literal["score", "classifier"]

_FLOAT = 4  # bytes
_OF_RESNET = 6  # layers of its deepest level

__all__ = [
    "CLASSIFIERS",
    "build_classifier",
    "build_score_model",
    "classifier_network",
    "compile_model",
    "score_network",
    "training_times",
]


def score_network(shape: tuple[int, ...], section: ScoreConfig, classes: int = 0) -> nn.Module:
    """A score network for examples of a shape; conditional if `classes` is not 0.

    Raises:
        UserError: if `section.unet` describes no network for such images.
    """
    if len(shape) == 1:
        return Perceptron(shape[0], shape[0], section.widths[0], section.layers, classes)
    if section.unet is not None:
        return _imported(shape, section)
    as_published = section.prediction != "preconditioned"
    return _unet(shape[0], section, classes, section.dropout, as_published)


def classifier_network(
    shape: tuple[int, ...], classes: int, section: ClassifierConfig, score: ScoreConfig
) -> nn.Module:
    """A classifier network for examples of a shape, with `features` under its last layer `head`.

    Args:
        shape: (C, H, W), or (D,) for which there is a perceptron alone.
        classes: K.
        section: the classifier's settings.
        score: the score network's, which are those of an encoder too.
    """
    if len(shape) == 1:
        return Perceptron(shape[0], classes, section.widths[0], section.layers)
    return CLASSIFIERS[section.network](shape[0], classes, section, score)


Builder = Callable[[int, int, ClassifierConfig, ScoreConfig], nn.Module]


def _conv(channels: int, classes: int, section: ClassifierConfig, score: ScoreConfig) -> nn.Module:
    layers = (section.layers,) * len(section.widths)
    return ConvClassifier(channels, classes, section.widths, layers, section.patch)


def _resnet(*layers: int) -> Builder:
    return lambda channels, classes, section, score: ConvClassifier(
        channels, classes, section.widths, layers, section.patch
    )


def _encoder(
    channels: int, classes: int, section: ClassifierConfig, score: ScoreConfig
) -> nn.Module:
    if score.unet is not None:
        raise UserError(
            "classifier.network=encoder: the imported score model has another network than those "
            "of this package; choose conv, resnet18 or resnet34"
        )
    return EncoderClassifier(_unet(channels, score), classes)


CLASSIFIERS: dict[str, Builder] = {
    "conv": _conv,
    "resnet18": _resnet(2, 2, 2, 2),
    "resnet34": _resnet(3, 4, 6, 3),
    "encoder": _encoder,
}
"""Classifier networks for images by name: (channels, classes, their section, score section)."""


def build_score_model(config: Config, classes: int = 0) -> ScoreModel:
    """The untrained score model; its weights are a function of config.seed."""
    _check_memory("score", lambda: score_network(config.shape, config.score, classes), config)
    with _seeded_weights(config, "score"):
        network = score_network(config.shape, config.score, classes)
    process, section = processes.from_config(config.process), config.score
    model = ScoreModel(network, process, config.sigma_data, section.prediction, section.time_scale)
    return _channels_last(model)


def build_classifier(config: Config, classes: int) -> NoisyClassifier:
    """The untrained classifier; its weights are a function of config.seed."""
    section: ClassifierConfig = config.classifier

    def build() -> nn.Module:
        return classifier_network(config.shape, classes, section, config.score)

    _check_memory("classifier", build, config)
    with _seeded_weights(config, "classifier"):
        network = build()
    process = processes.from_config(config.process)
    model = NoisyClassifier(network, process, config.sigma_data, section.energy)
    return _channels_last(model)


def training_times(config: Config, stage: Stage) -> Times:
    """The distribution of training times of a stage.

    Raises:
        UserError: if the configuration names none.
    """
    named, own = config.score.times, config.classifier.times
    if stage == "classifier" and own:
        named = own if "name" in own else named | own
    return times_from_config(named, processes.from_config(config.process))


def compile_model(model: nn.Module, device: torch.device) -> None:
    """Compile a frozen model in place.

    Not one that trains: torch.compile cannot differentiate twice, and its gradients for the
    weights of the score network were wrong (all zero, torch 2.13 on a CPU).

    Raises:
        UserError: if there is no C++ compiler, which compiling for a CPU needs.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UserError("compiling for a CPU needs a C++ compiler such as g++; leave it out")
    model.compile(dynamic=False)


def _imported(shape: tuple[int, ...], section: ScoreConfig) -> DiffusersUNet:
    """The UNet2DModel that a configuration describes."""
    settings = section.unet or {}
    try:
        network = DiffusersUNet(settings, unit=section.prediction == "score")
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"score.unet: {reason}; give a UNet2DModel's settings") from None
    made: Any = network.model.config
    for key in ("in_channels", "out_channels"):
        if made[key] != shape[0]:
            raise UserError(
                f"score.unet: {key} is {made[key]}, the images have {shape[0]}; give a network "
                "for such images"
            )
    return network


def _check_memory(stage: Stage, build: Callable[[], nn.Module], config: Config) -> None:
    """Refuse a network whose weights would take more memory than the limit, before they do.

    Its weights are counted on the meta device, unless a bound from its settings is small enough:
    a level of L layers and width W with I inputs has fewer than 100 (L + 4) W (W + I) weights.
    """
    layers, widths = _layers_and_widths(stage, config)
    inputs = config.shape[0] * max(config.score.patch, config.classifier.patch) ** 2
    widest = max(widths, default=0)
    at_most = 100 * len(widths) * (layers + 4) * widest * (widest + inputs)
    if widths and _FLOAT * at_most <= max_bytes():
        return
    with torch.device("meta"):
        n_bytes = _FLOAT * sum(weights.numel() for weights in build().parameters())
    if n_bytes > max_bytes():
        raise UserError(
            f"configuration: {stage}: {n_bytes // _FLOAT:,} weights would take "
            f"{raise_it(n_bytes)}; or choose smaller widths"
        )


def _layers_and_widths(stage: Stage, config: Config) -> tuple[int, tuple[int, ...]]:
    """Those of all networks that a stage may have; no widths where they are told otherwise."""
    score, classifier = config.score, config.classifier
    if stage == "score" or classifier.network == "encoder":
        return score.layers, () if score.unet is not None else score.widths
    return max(classifier.layers, _OF_RESNET), classifier.widths


def _unet(
    channels: int,
    section: ScoreConfig,
    classes: int = 0,
    dropout: float = 0.0,
    as_published: bool = False,
) -> UNet:
    return UNet(
        channels,
        section.widths,
        section.layers,
        section.attention,
        patch=section.patch,
        classes=classes,
        blocks=section.blocks,
        embedding=section.embedding,
        dropout=dropout,
        as_published=as_published,
    )


def _channels_last(model: Model) -> Model:
    """The memory format in which convolutions are fastest, on CPUs and GPUs alike."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _seeded_weights(config: Config, stage: str) -> AbstractContextManager[None]:
    return seeded(seed_of("weights", config.seed, stage))
