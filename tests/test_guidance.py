import math

import pytest
import torch
from mixtures import PROCESS_NAMES, PROCESSES, SmoothNetwork, places, three_classes
from torch import Tensor

from fewlabel import guidance
from fewlabel.classifier import NoisyClassifier
from fewlabel.errors import UserError
from fewlabel.process import EDM, VE, Process
from fewlabel.score import ScoreFunction

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


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


def test_an_unknown_kind_is_refused() -> None:
    """It would be no guidance at all."""
    with pytest.raises(UserError, match="guidance 'classifer' is unknown; choose one of none, cl"):
        guidance.of_kind("classifer", lambda x, t: -x, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [3, 5])
def test_labels_for_other_samples_are_refused(labels: int) -> None:
    process, mixture = VE(), three_classes()
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    guided = guidance.classifier(score, likelihood, torch.zeros(labels).long())
    with pytest.raises(UserError, match=rf"labels of shape \({labels},\) for 4 samples"):
        guided(torch.zeros(4, 2).double(), torch.tensor(0.5).double())


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


def test_guidance_of_guidance_is_a_score_like_any_other() -> None:
    process, mixture = VE(), three_classes()
    x, t, y = places(process)
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    half = guidance.classifier(score, likelihood, y, 0.5)
    twice = guidance.classifier(half, likelihood, y, 0.5)(x, t)
    once = guidance.classifier(score, likelihood, y, 1.0)(x, t)
    torch.testing.assert_close(twice, once, rtol=1e-10, atol=1e-10)


# Every kind: classifier, classifier-free, auto


class CountingScore:
    """A score function, of a class or not, that counts how often it is asked."""

    def __init__(self, score) -> None:
        self.score, self.calls = score, 0

    def __call__(self, *arguments: Tensor) -> Tensor:
        self.calls += 1
        return self.score(*arguments)


class Kind:
    """A kind of guidance of a mixture with its parts, the direction being the last of them."""

    def __init__(self, name: str, process: Process, dtype: torch.dtype = torch.float64) -> None:
        mixture = three_classes(dtype)
        self.name = name
        self.base = CountingScore(mixture.score(process))
        parts = {
            "classifier": mixture.likelihood_score(process),
            "classifier-free": mixture.class_score(process),
            "auto": lambda x, t: 0.6 * mixture.score(process)(x, t) - 0.1 * torch.tanh(x),
        }
        self.other = CountingScore(parts[name])

    def guided(self, y: int | Tensor, *options) -> ScoreFunction:
        if self.name == "auto":
            return guidance.auto(self.base, self.other, *options)
        kinds = {"classifier": guidance.classifier, "classifier-free": guidance.classifier_free}
        return kinds[self.name](self.base, self.other, y, *options)

    @property
    def calls(self) -> tuple[int, int]:
        return self.base.calls, self.other.calls


KINDS = ["classifier", "classifier-free", "auto"]
every_kind = pytest.mark.parametrize("name", KINDS)


@every_process
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["32", "64"]
)
def test_classifier_and_classifier_free_guidance_agree_on_the_oracle(
    process: Process, dtype: torch.dtype, tolerance: float
) -> None:
    """At scale 1 both are the class score, and at other scales they are still one another."""
    mixture, exact = three_classes(dtype), three_classes()
    x, t, y = places(process, dtype=dtype)
    parts = mixture.score(process), mixture.class_score(process)
    size = (parts[0](x, t).abs() + parts[1](x, t, y).abs()).double()
    for scale in (1.0, 3.0):
        free = guidance.classifier_free(*parts, y, scale)(x, t)
        by_classifier = guidance.classifier(parts[0], mixture.likelihood_score(process), y, scale)(
            x, t
        )
        assert free.dtype == dtype
        assert ((free - by_classifier).abs() <= scale * tolerance * size).all()
        if scale == 1:
            expected = exact.class_score(process)(x.double(), t.double(), y)
            assert ((free - expected).abs() <= tolerance * size).all()
            assert ((parts[0](x, t) - expected).abs() > 100 * tolerance * size).any()


@every_process
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_classifier_free_guidance_is_its_formula_with_one_call_of_each(
    process: Process, scale: float
) -> None:
    x, t, y = places(process)
    kind, mixture = Kind("classifier-free", process), three_classes()
    found = kind.guided(y, scale)(x, t)
    assert kind.calls == (1, 1)
    without, of_class = mixture.score(process)(x, t), mixture.class_score(process)(x, t, y)
    expected = without + scale * (of_class - without)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    papers = (1 + (scale - 1)) * of_class - (scale - 1) * without  # Ho & Salimans, eq. 6
    torch.testing.assert_close(found, papers, rtol=1e-9, atol=1e-9)


@every_process
def test_autoguidance_extrapolates_away_from_the_weak_score(process: Process) -> None:
    x, t, y = places(process)
    score = three_classes().score(process)
    assert torch.equal(guidance.auto(score, score, 3.0)(x, t), score(x, t))
    kind = Kind("auto", process)
    weak = kind.other.score(x, t)
    for scale in (0.5, 1.0, 3.0):
        found = kind.guided(y, scale)(x, t)
        papers = weak + (scale + 1) * (score(x, t) - weak)  # Karras et al., their weight is w + 1
        torch.testing.assert_close(found, papers, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(found, score(x, t), rtol=1e-3, atol=1e-3)


@every_process
@every_kind
def test_every_kind_is_linear_in_its_scale(name: str, process: Process) -> None:
    x, t, y = places(process)
    kind = Kind(name, process)
    at = {scale: kind.guided(y, scale)(x, t) for scale in (0.0, 1.0, 0.5, 4.0)}
    step = at[1.0] - at[0.0]
    assert step.abs().max() > 0.1
    for scale, found in at.items():
        torch.testing.assert_close(found, at[0.0] + scale * step, rtol=1e-9, atol=1e-9)


@every_kind
@pytest.mark.parametrize("level", LEVELS)
def test_every_kind_has_an_interval(name: str, level: float) -> None:
    process, interval = VE(), (0.25, 0.5)
    x, _, y = places(process)
    t, kind = torch.tensor(level, dtype=torch.float64), Kind(name, process)
    limited = kind.guided(y, 2.0, interval)(x, t)
    inside = interval[0] <= level <= interval[1]
    assert kind.calls == (1, int(inside))
    everywhere = kind.guided(y, 2.0)(x, t)
    assert torch.equal(limited, everywhere if inside else kind.base(x, t))
    assert not torch.equal(everywhere, kind.base(x, t))


@every_kind
def test_the_interval_of_every_kind_holds_sample_by_sample(name: str) -> None:
    process = VE()
    x, _, y = places(process, 5)
    t, kind = torch.tensor(LEVELS, dtype=torch.float64), Kind(name, process)
    limited, everywhere = kind.guided(y, 2.0, (0.2, 0.6))(x, t), kind.guided(y, 2.0)(x, t)
    inside = torch.tensor([False, True, True, False, False])
    assert torch.equal(limited[inside], everywhere[inside])
    assert torch.equal(limited[~inside], kind.base(x, t)[~inside])


@every_process
@every_kind
def test_scale_zero_of_every_kind_asks_the_score_alone(name: str, process: Process) -> None:
    x, t, y = places(process)
    kind = Kind(name, process)
    assert torch.equal(kind.guided(y, 0.0)(x, t), three_classes().score(process)(x, t))
    assert kind.calls == (1, 0)


@every_process
@pytest.mark.parametrize("name", ["classifier", "classifier-free", "conditional"])
def test_labels_of_every_kind_are_one_a_sample_or_one_for_all(name: str, process: Process) -> None:
    x, t, y = places(process)

    def guided(label: int | Tensor) -> Tensor:
        if name == "conditional":
            return guidance.conditional(three_classes().class_score(process), label)(x, t)
        return Kind(name, process).guided(label, 1.7)(x, t)

    together = guided(y)
    for k in range(3):
        alone = guided(k)
        assert torch.equal(alone, guided(torch.tensor(k)))
        assert torch.equal(together[y == k], alone[y == k])
        assert not torch.isclose(together[y != k], alone[y != k]).all()


@every_process
def test_conditional_is_the_class_score(process: Process) -> None:
    mixture = three_classes()
    x, t, y = places(process)
    found = guidance.conditional(mixture.class_score(process), y)(x, t)
    assert torch.equal(found, mixture.class_score(process)(x, t, y))


@every_process
def test_the_classifier_alone_is_internal_plus_likelihood_score(process: Process) -> None:
    """∇ f_y = ∇ logsumexp f + ∇ log p(y|x): of a classifier that knows nothing, too."""
    model = NoisyClassifier(SmoothNetwork(2, 3).double(), process, 1.3)
    x, t, y = places(process)
    alone = guidance.conditional(model.class_score, y)(x, t)
    internal, likelihood = model.internal_score(x, t), model.likelihood_score(x, t, y)
    torch.testing.assert_close(alone, internal + likelihood, rtol=1e-10, atol=1e-10)
    assert likelihood.abs().max() > 1e-3
    by_guidance = guidance.classifier(model.internal_score, model.likelihood_score, y)(x, t)
    torch.testing.assert_close(alone, by_guidance, rtol=1e-10, atol=1e-10)


@every_kind
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
def test_every_kind_refuses(
    name: str, scale: float, interval: tuple[float, float] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Kind(name, VE()).guided(0, scale, interval)


def test_what_a_direction_is_outside_the_interval_does_not_matter() -> None:
    """Of samples at times of their own, one inside and one outside."""

    def broken(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t[:, None] > 0.5, torch.nan, torch.ones_like(x))

    guided = guidance.classifier(lambda x, t: -x, broken, 0, 2.0, times=(0.1, 0.5))
    x = torch.ones(2, 3)
    found = guided(x, torch.tensor([0.3, 0.7]))
    assert torch.equal(found, torch.tensor([[1.0] * 3, [-1.0] * 3]))
