"""The presets for CIFAR: as large as published, and each trains."""

import math
from typing import Any

import pytest
import torch

from fewlabel import methods
from fewlabel.batch import Batch, Part
from fewlabel.config import Config, validated
from fewlabel.models import CLASSIFIERS, build_classifier, build_score_model
from fewlabel.presets import preset_values
from fewlabel.randomness import StepRandom

PUBLISHED = {"ddpm": 35_746_307, "ddpm++": 61_804_419, "ncsn++": 107_587_075}
"""Weights of the networks for CIFAR-10 of Ho et al. 2020, as google/ddpm-cifar10-32 has them, and
of Song et al. 2021: 2, 4 and 8 blocks a level."""


def resolved(preset: str, **classifier: Any) -> Config:
    values = preset_values(preset, 0.5)
    values = values | {"classifier": values["classifier"] | classifier}
    of_run = {"data": "x", "method": "cg", "preset": preset, "shape": (3, 32, 32)}
    return validated(values | of_run | {"sigma_data": 0.5}, "test", Config)


def small(preset: str, network: str) -> Config:
    """As deep as the preset, and narrow."""
    config = resolved(preset, network=network, widths=(8, 8, 16, 16))
    score = config.score.model_copy(update={"widths": (8, 16, 16, 16)})
    return config.model_copy(update={"score": score, "shape": (3, 16, 16)})


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_score_network_has_as_many_weights_as_published(preset: str) -> None:
    with torch.device("meta"):
        model = build_score_model(resolved(preset))
    assert sum(weight.numel() for weight in model.parameters()) == PUBLISHED[preset]


@pytest.mark.parametrize(("network", "blocks"), [("resnet18", 8), ("resnet34", 16)])
def test_a_resnet_has_its_depth(network: str, blocks: int) -> None:
    """A convolution, two a block, and the last layer: 18 or 34."""
    with torch.device("meta"):
        classifier = build_classifier(resolved("ncsn++", network=network), 100)
    convolutions = [
        m
        for m in classifier.modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert len(convolutions) + 1 == 2 * blocks + 2
    assert convolutions[-1].out_channels == 512


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.parametrize("network", CLASSIFIERS)
def test_a_preset_takes_a_step_with_every_classifier(preset: str, network: str) -> None:
    """The loss of self-calibration, and of the score model, reaches the weights."""
    config = small(preset, network)
    batch = Batch(torch.rand(2, 3, 16, 16) * 2 - 1, torch.tensor([0, 2]))
    batches: dict[Part, Batch] = {"labelled": batch, "all": batch}
    row = methods.find_method("cg-sc-all")
    score, classifier = build_score_model(config), build_classifier(config, 3)
    held = methods.Models(config.shape, score, classifier)
    for losses, model in ((row.score, score), (row.classifier, classifier)):
        weights = {name: loss.weight for name, loss in losses.items()}
        objective = methods.objective(losses, held, weights)
        values = objective(batches, StepRandom(0, 0))
        total = objective.total(values)
        total.backward()
        assert math.isfinite(total.item())
        norms = [w.grad.norm() for w in model.parameters() if w.requires_grad]
        assert all(norm.isfinite() for norm in norms)
        assert sum(norm > 0 for norm in norms) > 0.9 * len(norms)
