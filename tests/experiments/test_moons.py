"""Scores and classifiers of an entry, against the exact mixture."""

import pytest
import torch
from moons_cases import ExactScores, few_moons

from fewlabel.experiments.moons import (
    Entry,
    class_probabilities,
    draw_points,
    estimated_fields,
)
from fewlabel.metrics.score_error import exact_fields, noisy_points
from fewlabel.oracle import GaussianMixture
from fewlabel.process import VE

PROCESS = VE(0.1, 20.0)


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return few_moons(20)


@pytest.fixture(scope="module")
def entry(mixture: GaussianMixture) -> Entry:
    return Entry(ExactScores(mixture, PROCESS), None, "classifier-free")  # type: ignore[arg-type]


@pytest.mark.parametrize(("sigma", "off"), [(3.0, 2.0), (7.5, 0.3)])
def test_the_classifier_that_exact_scores_imply_is_the_posterior(
    mixture: GaussianMixture, entry: Entry, sigma: float, off: float
) -> None:
    """But for a constant in the logit: the balance of 500 points is not that of all."""
    x, _ = noisy_points(mixture, PROCESS, sigma, 500, torch.Generator().manual_seed(0))
    t = PROCESS.time_at(torch.tensor(sigma))
    exact = mixture.log_posterior(PROCESS)(x, t).exp()
    found = class_probabilities(entry, sigma, x)
    assert found.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=1e-4)  # the classes balance
    open_ = (exact.min(1).values > 1e-3) & (found.min(1).values > 1e-3)
    shift = (torch.logit(found) - torch.logit(exact))[open_, 1]
    assert shift.std() < 0.01
    assert shift.mean().abs() < off


def test_classifier_free_fields_are_the_exact_ones(mixture: GaussianMixture, entry: Entry) -> None:
    x, y = noisy_points(mixture, PROCESS, 2.0, 50, torch.Generator().manual_seed(1))
    found, exact = estimated_fields(entry, 2.0, x, y), exact_fields(mixture, PROCESS, 2.0, x, y)
    torch.testing.assert_close(found.posterior, exact.posterior, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.likelihood, exact.likelihood, rtol=1e-4, atol=1e-5)


def test_points_are_drawn_from_their_own_class(mixture: GaussianMixture, entry: Entry) -> None:
    labels = torch.tensor([0, 1]).repeat(20)
    x = draw_points(entry, labels, 1.0, "heun", 24, seed=0)
    nearest = torch.cdist(x, mixture.means).argmin(1)
    assert (mixture.classes[nearest] == labels).float().mean() > 0.95
