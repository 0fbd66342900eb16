import math

import pytest
import torch
from mixtures import PROCESS_NAMES, PROCESSES, places, three_classes
from torch import Tensor

from fewlabel import guidance
from fewlabel.errors import UserError
from fewlabel.guidance import LabelledScore
from fewlabel.process import EDM, VE, Process

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Counting:
    """A likelihood score that counts how often it is asked."""

    def __init__(self, likelihood: LabelledScore) -> None:
        self.likelihood, self.calls = likelihood, 0

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return self.likelihood(x, t, y)


@every_process
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["32", "64"]
)
def test_scale_one_is_bayes_rule(process: Process, dtype: torch.dtype, tolerance: float) -> None:
    mixture, exact = three_classes(dtype), three_classes(torch.float64)
    x, t, y = places(process, dtype=dtype)
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    guided = guidance.classifier(score, likelihood, label=y, scale=1.0)(x, t)
    assert guided.dtype == dtype
    expected = exact.class_score(process)(x.double(), t.double(), y)
    # the sizes of what is added: the error of the sum is relative to them
    size = (score(x, t).abs() + likelihood(x, t, y).abs()).double()
    assert ((guided - expected).abs() <= tolerance * size).all()
    assert ((score(x, t) - expected).abs() > 100 * tolerance * size).any()


@every_process
def test_scale_zero_is_the_unconditional_score(process: Process) -> None:
    mixture = three_classes()
    x, t, y = places(process)
    likelihood = Counting(mixture.likelihood_score(process))
    guided = guidance.classifier(mixture.score(process), likelihood, label=y, scale=0)
    assert torch.equal(guided(x, t), mixture.score(process)(x, t))
    assert likelihood.calls == 0


@every_process
def test_one_label_a_sample_is_one_call_a_label(process: Process) -> None:
    mixture = three_classes()
    x, t, y = places(process)
    parts = mixture.score(process), mixture.likelihood_score(process)
    together = guidance.classifier(*parts, label=y, scale=1.7)(x, t)
    for k in range(3):
        alone = guidance.classifier(*parts, label=k, scale=1.7)(x, t)
        assert torch.equal(together[y == k], alone[y == k])
        assert not torch.isclose(together[y != k], alone[y != k]).all()


@every_process
def test_the_guided_score_is_linear_in_the_scale(process: Process) -> None:
    mixture = three_classes()
    x, t, y = places(process)
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    for scale in (0.5, 1.0, 3.0):
        guided = guidance.classifier(score, likelihood, label=y, scale=scale)(x, t)
        expected = score(x, t) + scale * mixture.class_score(process)(x, t, y)
        expected = expected - scale * score(x, t)
        torch.testing.assert_close(guided, expected, rtol=1e-9, atol=1e-9)


def test_a_scale_sharpens_the_guided_density() -> None:
    """The guided score is the gradient of log p(x) + w log p(y|x)."""
    process, mixture = EDM(0.01, 20.0), three_classes()
    x, t, y = places(process)
    guided = guidance.classifier(
        mixture.score(process), mixture.likelihood_score(process), label=y, scale=2.5
    )
    x = x.requires_grad_()
    posterior = mixture.log_posterior(process)(x, t)[torch.arange(len(y)), y]
    (expected,) = torch.autograd.grad(
        (mixture.log_density(process)(x, t) + 2.5 * posterior).sum(), x
    )
    torch.testing.assert_close(guided(x.detach(), t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_outside_the_interval_the_classifier_is_not_asked(level: float) -> None:
    process, mixture, interval = VE(), three_classes(), (0.25, 0.5)
    x, _, y = places(process)
    score = mixture.score(process)
    likelihood = Counting(mixture.likelihood_score(process))
    t = torch.tensor(level, dtype=torch.float64)
    limited = guidance.classifier(score, likelihood, y, 2.0, interval)(x, t)
    inside = interval[0] <= level <= interval[1]
    assert likelihood.calls == inside
    everywhere = guidance.classifier(score, likelihood, y, 2.0)(x, t)
    assert torch.equal(limited, everywhere if inside else score(x, t))
    assert not torch.equal(everywhere, score(x, t))


def test_the_interval_holds_sample_by_sample() -> None:
    process, mixture = VE(), three_classes()
    x, _, y = places(process, 5)
    t = torch.tensor(LEVELS, dtype=torch.float64)
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    limited = guidance.classifier(score, likelihood, y, 2.0, (0.2, 0.6))(x, t)
    everywhere = guidance.classifier(score, likelihood, y, 2.0)(x, t)
    inside = torch.tensor([False, True, True, False, False])
    assert torch.equal(limited[inside], everywhere[inside])
    assert torch.equal(limited[~inside], score(x, t)[~inside])


def test_guidance_of_guidance_is_a_score_like_any_other() -> None:
    process, mixture = VE(), three_classes()
    x, t, y = places(process)
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    half = guidance.classifier(score, likelihood, y, 0.5)
    twice = guidance.classifier(half, likelihood, y, 0.5)(x, t)
    once = guidance.classifier(score, likelihood, y, 1.0)(x, t)
    torch.testing.assert_close(twice, once, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("scale", "interval", "message"),
    [
        (-0.5, None, r"scale -0\.5 is not a finite number from 0 up"),
        (math.inf, None, "scale inf is not a finite number"),
        (math.nan, None, "scale nan is not a finite number"),
        (1.0, (math.nan, 0.5), r"interval \(nan, 0\.5\) is empty"),
        (1.0, (0.6, 0.5), r"interval \(0\.6, 0\.5\) is empty"),
    ],
)
def test_refuses(scale: float, interval: tuple[float, float] | None, message: str) -> None:
    mixture = three_classes()
    with pytest.raises(UserError, match=message):
        guidance.classifier(
            mixture.score(VE()), mixture.likelihood_score(VE()), 0, scale, interval
        )
