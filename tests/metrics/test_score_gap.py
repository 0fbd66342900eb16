import math
from dataclasses import dataclass

import pytest
import torch
from mixtures import PROCESS_NAMES, PROCESSES, ExactEnergy, three_classes
from torch import Tensor

from fewlabel.classifier import NoisyClassifier
from fewlabel.errors import UserError
from fewlabel.metrics import internal_score_gap
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, Process


@dataclass(frozen=True)
class Shifted:
    """A classifier whose internal score is the exact one plus a vector."""

    process: Process
    shift: tuple[float, float]

    def internal_score(self, x: Tensor, t: Tensor) -> Tensor:
        return three_classes().score(self.process)(x, t) + torch.tensor(self.shift)


def data(n: int = 700) -> Tensor:
    return three_classes().sample(n, torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_a_shifted_score_has_the_closed_form(process: Process, sigma: float) -> None:
    """σ(t)² ‖v‖² / D, the same at every point, so the interval has no width."""
    exact = three_classes().score(process)
    assert internal_score_gap(Shifted(process, (0.0, 0.0)), exact, data(), sigma).value == 0
    of_time = process.sigma(process.time_at(torch.tensor(sigma, dtype=torch.float64))).item()
    gap = internal_score_gap(Shifted(process, (0.3, -0.4)), exact, data(), sigma)
    expected = of_time**2 * 0.25 / 2
    assert (gap.value, gap.low, gap.high) == pytest.approx((expected,) * 3, rel=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
def test_a_classifier_that_holds_the_density_has_no_gap(process: Process) -> None:
    classifier = NoisyClassifier(ExactEnergy(three_classes(), 1.7, "scaled"), process, 1.7)
    gap = internal_score_gap(classifier, three_classes().score(process), data(), 0.7)
    assert gap.high < 1e-20


def test_no_score_at_all_against_that_of_a_normal() -> None:
    """x0 of variance v in D dimensions: E σ² ‖x_t/(v+σ²)‖² / D = σ²/(v+σ²)."""
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 3), torch.full((1,), math.sqrt(2.0)))
    process = EDM(0.01, 20.0)

    class Silent:
        def __init__(self) -> None:
            self.process: Process = process

        def internal_score(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.zeros_like(x)

    x0, _ = normal.sample(20_000, torch.Generator().manual_seed(1))
    gap = internal_score_gap(Silent(), normal.score(process), x0, 3.0)
    assert gap.low < 9 / 11 < gap.high
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * 9 / 11 * math.sqrt(2 / 60_000), rel=0.05)


def test_the_noise_is_that_of_the_seed() -> None:
    process = EDM(0.01, 20.0)
    classifier = NoisyClassifier(ExactEnergy(three_classes(), 1.7, "plain"), process, 1.7, "plain")
    classifier.network.perturbed(0.3)
    exact = three_classes().score(process)
    first = internal_score_gap(classifier, exact, data(), 1.0, seed=1)
    assert first == internal_score_gap(classifier, exact, data(), 1.0, seed=1)
    other = internal_score_gap(classifier, exact, data(), 1.0, seed=2)
    assert first.value != other.value
    assert first.low < other.high
    assert other.low < first.high


@pytest.mark.parametrize(
    ("x0", "sigma", "message"),
    [
        (torch.zeros(0, 2), 1.0, "x0: empty"),
        (torch.zeros(1, 2), 1.0, r"1 value\(s\)"),
        (torch.full((5, 2), torch.nan), 1.0, "x0: 10 value"),
        (torch.zeros(5, 2), 0.0, "sigma 0: give"),
        (torch.zeros(5, 2), math.nan, "sigma nan: give"),
    ],
)
def test_refuses(x0: Tensor, sigma: float, message: str) -> None:
    process = EDM(0.01, 20.0)
    exact = three_classes().score(process)
    with pytest.raises(UserError, match=message):
        internal_score_gap(Shifted(process, (0.0, 0.0)), exact, x0, sigma)
