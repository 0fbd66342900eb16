"""From a configuration to the two models of a run."""

from typing import TypeVar

import torch
from torch import nn

from fewlabel import process as processes
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import ClassifierConfig, Config, ScoreConfig
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.perceptron import Perceptron
from fewlabel.networks.unet import UNet
from fewlabel.randomness import generator_for
from fewlabel.score import ScoreModel

Model = TypeVar("Model", bound=nn.Module)

__all__ = ["build_classifier", "build_score_model", "classifier_network", "score_network"]


def score_network(shape: tuple[int, ...], section: ScoreConfig, classes: int = 0) -> nn.Module:
    """A score network for examples of a shape; conditional if `classes` is not 0."""
    if len(shape) == 1:
        return Perceptron(shape[0], shape[0], section.widths[0], section.layers, classes)
    levels = section.widths, section.layers, section.attention, section.patch
    return UNet(shape[0], *levels, classes)


def classifier_network(
    shape: tuple[int, ...], classes: int, widths: tuple[int, ...], layers: int, patch: int = 1
) -> ConvClassifier | Perceptron:
    """A classifier network for examples of a shape."""
    if len(shape) == 1:
        return Perceptron(shape[0], classes, widths[0], layers)
    return ConvClassifier(shape[0], classes, widths, layers, patch)


def build_score_model(config: Config, classes: int = 0) -> ScoreModel:
    """The untrained score model; its weights are a function of config.seed."""
    _seed_weights(config, "score")
    network = score_network(config.shape, config.score, classes)
    model = ScoreModel(network, processes.from_config(config.process), config.sigma_data)
    return _channels_last(model)


def build_classifier(config: Config, classes: int) -> NoisyClassifier:
    """The untrained classifier; its weights are a function of config.seed."""
    _seed_weights(config, "classifier")
    section: ClassifierConfig = config.classifier
    network = classifier_network(
        config.shape, classes, section.widths, section.layers, section.patch
    )
    process = processes.from_config(config.process | section.process)
    model = NoisyClassifier(network, process, config.sigma_data, section.energy)
    return _channels_last(model)


def _channels_last(model: Model) -> Model:
    """The memory format in which convolutions are fastest, on CPUs and GPUs alike."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _seed_weights(config: Config, stage: str) -> None:
    torch.manual_seed(generator_for("weights", config.seed, stage).initial_seed())
