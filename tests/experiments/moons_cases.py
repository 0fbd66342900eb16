"""Exact answers for some points of the moons, in the place of trained models."""

import math

import torch
from torch import Tensor

from fewlabel.experiments.moons import moons_mixture
from fewlabel.oracle import GaussianMixture, point_cloud
from fewlabel.process import Process


def few_moons(every: int) -> GaussianMixture:
    """Every so many-th point of the moons."""
    moons = moons_mixture()
    return point_cloud(moons.means[::every], moons.classes[::every])


class ExactScores:
    """The exact scores in the place of a conditional score model."""

    def __init__(self, mixture: GaussianMixture, process: Process) -> None:
        self.process = process
        self.prior, self.of_class = mixture.score(process), mixture.class_score(process)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.prior(x, t) if y is None else self.of_class(x, t, y)


class ExactClassifier:
    """The exact posterior in the place of a classifier."""

    def __init__(self, mixture: GaussianMixture, process: Process) -> None:
        self.log_prob = mixture.log_posterior(process)
        self.likelihood_score = mixture.likelihood_score(process)


class SureClassifier:
    """Sure of class 0 everywhere, so that it guides nowhere."""

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tensor([0.0, -math.inf]).expand(len(x), 2)

    def likelihood_score(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(x)
