import math
from dataclasses import replace

import pytest
import torch
from mixtures import three_classes
from objective_cases import (
    Record,
    conv_classifier,
    every_process,
    exact_classifier,
    images,
    linear_classifier,
    points,
    slopes,
)
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.objectives import AdversarialCrossEntropy, CrossEntropy, TaughtCrossEntropy
from fewlabel.process import Process, broadcast
from fewlabel.randomness import StepRandom


@every_process
def test_cross_entropy_against_torch(process: Process) -> None:
    model, batch = conv_classifier(), images(16)
    model.process = process
    record = Record(model)
    values = CrossEntropy(model)(batch, StepRandom(0, 0))
    x, t = record.x, record.t
    expected = nn.functional.cross_entropy(model(x, t), batch.y, reduction="none")
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    # and the inputs were perturbed as the process says: what is left is standard normal
    alpha, sigma = (broadcast(scale, x) for scale in (process.alpha(t), process.sigma(t)))
    noise = (x - alpha * batch.x) / sigma
    assert abs(noise.mean().item()) < 4 / math.sqrt(noise.numel())
    assert abs(noise.std().item() - 1) < 4 / math.sqrt(2 * noise.numel())


@pytest.mark.parametrize("smoothing", [0.05, 0.3, 0.9])
def test_smoothed_cross_entropy_against_torch(smoothing: float) -> None:
    model, batch = conv_classifier(), images(16)
    record = Record(model)
    values = CrossEntropy(model, smoothing)(batch, StepRandom(0, 0))
    logits = model(record.x, record.t)
    expected = nn.functional.cross_entropy(
        logits, batch.y, reduction="none", label_smoothing=smoothing
    )
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    plain = nn.functional.cross_entropy(logits, batch.y, reduction="none")
    assert (values - plain).abs().min() > 1e-5


def test_smoothed_cross_entropy_is_least_where_the_classes_have_the_smoothed_share() -> None:
    """Logits that do not see x end at log((1 − ε) share + ε/K)."""
    smoothing, batch = 0.3, points(400)
    share = torch.bincount(batch.y, minlength=3) / len(batch.y)
    target = ((1 - smoothing) * share + smoothing / 3).log()

    def gradient(logits: Tensor) -> Tensor:
        model = linear_classifier(torch.zeros(2, 3, dtype=torch.float64))
        bias = nn.Parameter(logits.double())
        model.network.register_forward_hook(lambda module, args, output: output + bias)
        loss = CrossEntropy(model, smoothing)(batch, StepRandom(0, 0)).mean()
        return torch.autograd.grad(loss, bias)[0]

    assert gradient(target).abs().max() < 1e-7
    assert gradient(share.log()).abs().max() > 0.01


# The attack

TWO = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)
PIXELS = torch.linspace(0, 9, 128, dtype=torch.float64).cos().reshape(2, 64).T / 30
THREE = torch.tensor([[1.0, -0.5, 0.4], [0.3, 0.8, -1.1]], dtype=torch.float64)


def attacked(
    weights: Tensor, radius: float, steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss, the clean and the attacked points, the labels, and the radius of each ball."""
    model, batch = linear_classifier(weights), points(64)
    record = Record(model)
    CrossEntropy(model)(batch, StepRandom(0, 0))
    clean = record.x
    values = AdversarialCrossEntropy(model, radius, steps)(batch, StepRandom(0, 0))
    ball = radius * math.sqrt(2) * model.process.sigma(record.t)
    return values.detach(), clean, record.x, batch.y % weights.shape[1], ball


def cross_entropy(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(x @ weights, y, reduction="none")


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("radius", [0.05, 0.2, 1.0])
def test_the_attack_stays_in_its_ball_and_never_helps(radius: float, steps: int) -> None:
    """The loss of a linear classifier is convex in x: no projected ascent step lowers it."""
    values, clean, worst, y, ball = attacked(THREE, radius, steps)
    distance = (worst - clean).norm(dim=1)
    assert (distance <= ball * (1 + 1e-9)).all()
    assert (distance > 0.5 * ball).all()
    torch.testing.assert_close(values, cross_entropy(THREE, worst, y), rtol=1e-9, atol=1e-9)
    assert (values > cross_entropy(THREE, clean, y)).all()


def test_the_attack_of_three_classes_comes_close_to_the_worst_of_the_ball() -> None:
    """The maximum of a convex function on a disc is on its edge; found there by trying it."""
    angles = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    edge = torch.stack([angles.cos(), angles.sin()], 1)
    lost = {}
    for steps in (3, 50):
        values, clean, _, y, ball = attacked(THREE, 0.2, steps)
        tried = clean[:, None] + ball[:, None, None] * edge
        losses = -(tried @ THREE).log_softmax(-1)
        highest = losses[torch.arange(len(y)), :, y].amax(1)
        assert (values <= highest * (1 + 1e-4)).all()
        gain = highest - cross_entropy(THREE, clean, y)
        lost[steps] = ((highest - values) / gain).max().item()
    assert lost[50] < 0.01
    assert lost[3] < 0.2


@every_process
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("weights", "batch"),
    [(TWO, points(64)), (4 * TWO, points(64)), (PIXELS, images(16))],
    ids=["points", "sure of points", "images"],
)
def test_the_attack_of_two_classes_is_the_closed_form(
    weights: Tensor, batch: Batch, steps: int, process: Process
) -> None:
    """−log p_y = softplus(−m), m = (w_y − w_other)·x/α, which δ lowers by r‖w_y − w_other‖/α."""
    model, batch = linear_classifier(weights), replace(batch, y=batch.y % 2)
    model.process = process
    record = Record(model)
    values = AdversarialCrossEntropy(model, 0.2, steps)(batch, StepRandom(0, 0))
    CrossEntropy(model)(batch, StepRandom(0, 0))
    ball = 0.2 * math.sqrt(len(weights)) * process.sigma(record.t)
    towards = weights.T[batch.y] - weights.T[1 - batch.y]
    margin = (towards * record.x.flatten(1)).sum(1) - ball * towards.norm(dim=1)
    expected = nn.functional.softplus(-margin / process.alpha(record.t))
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)


def test_the_gradient_of_the_attacked_loss_is_that_of_the_worst_case() -> None:
    """By the envelope theorem, where the worst δ is found exactly: two classes, linear."""
    batch = points(64)
    batch.y.remainder_(2)
    pairs = slopes(AdversarialCrossEntropy(linear_classifier(TWO)), batch)
    scale = max(abs(automatic) for automatic, _ in pairs)
    assert scale > 1e-2
    for automatic, difference in pairs:
        assert automatic == pytest.approx(difference, abs=1e-6 * scale)


def test_an_attack_without_a_gradient_goes_nowhere() -> None:
    """Saturated: every class score is the same everywhere, and nothing becomes NaN."""
    model, batch = linear_classifier(torch.zeros(2, 3, dtype=torch.float64)), points(8)
    values = AdversarialCrossEntropy(model)(batch, StepRandom(0, 0))
    torch.testing.assert_close(values, torch.full_like(values, math.log(3)))


# A teacher's probabilities


def test_cross_entropy_with_a_teacher_against_torch() -> None:
    model, batch = conv_classifier(), images(16)
    q = torch.rand(16, 3, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    record = Record(model)
    values = TaughtCrossEntropy(model)(replace(batch, q=q), StepRandom(0, 0))
    logits = model(record.x, record.t)
    expected = nn.functional.cross_entropy(logits, q, reduction="none")
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="teacher"):
        TaughtCrossEntropy(model)(batch, StepRandom(0, 0))


def test_a_sure_teacher_is_a_label() -> None:
    model, batch = conv_classifier(), images(16)
    certain = replace(batch, q=nn.functional.one_hot(batch.y, 3).double())
    taught = TaughtCrossEntropy(model)(certain, StepRandom(0, 3))
    torch.testing.assert_close(taught, CrossEntropy(model)(batch, StepRandom(0, 3)))


@every_process
def test_the_posterior_of_noisy_points_is_learned_from_that_of_clean_ones(
    process: Process,
) -> None:
    """With q = p(y|x0) the exact p_t(y|x_t) is stationary, whatever way its logits are moved."""
    n, exact = 40_000, exact_classifier("plain", three_classes(), process)
    clean = process.time_at(torch.tensor(1e-4, dtype=torch.float64))
    batch = points(n)
    batch = replace(batch, q=exact.log_prob(batch.x, clean).exp().detach())
    moved = torch.zeros(n, 3, dtype=torch.float64, requires_grad=True)
    exact.network.register_forward_hook(lambda module, args, output: output + moved)
    record = Record(exact)
    loss = TaughtCrossEntropy(exact)(batch, StepRandom(0, 0)).sum()
    (slopes,) = torch.autograd.grad(loss, moved)
    x, level = record.x.detach(), process.noise_ratio(record.t).log()
    for way in (torch.ones(n), x[:, 0].tanh(), x[:, 1].cos(), level.sin() * x[:, 0].tanh()):
        along = slopes * way[:, None]
        error = along.std(0) / n**0.5
        assert ((along.mean(0) / error).abs() < 4).all()
    blind = (batch.q.mean(0) - batch.q) * x[:, :1].tanh()  # of a classifier that sees nothing
    assert ((blind.mean(0) / blind.std(0)).abs() * n**0.5 > 8).all()
