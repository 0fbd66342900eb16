"""From a configuration to the two models of a run."""

from typing import TypeVar

import torch
from torch import nn

from fewlabel import process as processes
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import Config
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.unet import UNet
from fewlabel.randomness import generator_for
from fewlabel.score import ScoreModel

Model = TypeVar("Model", bound=nn.Module)

__all__ = ["build_classifier", "build_score_model"]


def build_score_model(config: Config) -> ScoreModel:
    """The untrained score model; its weights are a function of config.seed."""
    _seed_weights(config, "score")
    score = config.score
    network = UNet(config.shape[0], score.widths, score.layers, score.attention, score.patch)
    model = ScoreModel(network, processes.from_config(config.process), config.sigma_data)
    return _channels_last(model)


def build_classifier(config: Config, n_classes: int) -> NoisyClassifier:
    """The untrained classifier; its weights are a function of config.seed."""
    _seed_weights(config, "classifier")
    section = config.classifier
    network = ConvClassifier(
        config.shape[0], n_classes, section.widths, section.layers, section.patch
    )
    process = processes.from_config(config.process)
    model = NoisyClassifier(network, process, config.sigma_data, section.energy)
    return _channels_last(model)


def _channels_last(model: Model) -> Model:
    """The memory format in which convolutions are fastest, on CPUs and GPUs alike."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _seed_weights(config: Config, stage: str) -> None:
    torch.manual_seed(generator_for("weights", config.seed, stage).initial_seed())
