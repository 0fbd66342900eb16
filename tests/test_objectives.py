import math
from collections.abc import Callable

import pytest
import torch
from mixtures import ExactDenoiser, ExactEnergy, SmoothNetwork, three_classes
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED, Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.objectives import (
    CrossEntropy,
    DenoisingScoreMatching,
    Objective,
    SelfCalibration,
    Term,
)
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel

PROCESS = EDM(0.02, 20.0, p_mean=-0.4, p_std=1.2)
SIGMA_DATA = 1.6


def images(n: int, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 8, 8, generator=generator, dtype=dtype)
    return Batch(x, torch.arange(n) % 3)


def points(n: int, seed: int = 0) -> Batch:
    return Batch(*three_classes().sample(n, torch.Generator().manual_seed(seed)))


def conv_classifier(dtype: torch.dtype = torch.float64) -> NoisyClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = ConvClassifier(1, 3, (8, 16), 1)
    return NoisyClassifier(network, PROCESS, 1.0).to(dtype)


def mlp_classifier() -> NoisyClassifier:
    return NoisyClassifier(SmoothNetwork(2, 3), PROCESS, SIGMA_DATA).double()


# The gradient of the loss against central differences


def slopes(term: Term, batch: Batch, directions: int) -> list[tuple[float, float]]:
    """Slope of the mean loss in random directions of its parameters: autograd, differences."""
    parameters = list(term.parameters())
    generator = torch.Generator().manual_seed(9)

    def loss() -> Tensor:
        return term(batch, StepRandom(0, 0)).mean()

    gradients = torch.autograd.grad(loss(), parameters)
    pairs = []
    for _ in range(directions):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        automatic = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        start = [p.detach().clone() for p in parameters]

        def along(step: float, start: list[Tensor] = start, d: list[Tensor] = direction) -> float:
            for p, origin, towards in zip(parameters, start, d, strict=True):
                p.data = origin + step * towards
            return loss().item()

        h = 1e-4  # the five-point rule, exact to h⁴
        difference = 8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))
        along(0.0)
        pairs.append((float(automatic), difference / (12 * h)))
    return pairs


@pytest.mark.parametrize(
    ("term", "batch"),
    [
        (SelfCalibration(mlp_classifier()), points(32)),
        (SelfCalibration(conv_classifier()), images(4)),
        (CrossEntropy(conv_classifier()), images(4)),
        (
            DenoisingScoreMatching(ScoreModel(SmoothNetwork(2, 2).double(), PROCESS, SIGMA_DATA)),
            points(32),
        ),
    ],
    ids=["sc-mlp", "sc-conv", "ce-conv", "dsm-mlp"],
)
def test_gradients_agree_with_central_differences(term: Term, batch: Batch) -> None:
    pairs = slopes(term, batch, directions=5)
    scale = max(abs(automatic) for automatic, _ in pairs)
    assert scale > 1e-3
    for automatic, difference in pairs:
        assert automatic == pytest.approx(difference, abs=1e-7 * scale)


# The minimiser is the truth


def exact_classifier(energy: str, mixture: GaussianMixture) -> NoisyClassifier:
    network = ExactEnergy(mixture, SIGMA_DATA, energy)
    return NoisyClassifier(network, PROCESS, SIGMA_DATA, energy)  # type: ignore[arg-type]


TERMS: dict[str, Callable[[GaussianMixture], Term]] = {
    "sc-scaled": lambda mixture: SelfCalibration(exact_classifier("scaled", mixture)),
    "sc-plain": lambda mixture: SelfCalibration(exact_classifier("plain", mixture)),
    "ce": lambda mixture: CrossEntropy(exact_classifier("scaled", mixture)),
    "dsm": lambda mixture: DenoisingScoreMatching(
        ScoreModel(ExactDenoiser(mixture, SIGMA_DATA), PROCESS, SIGMA_DATA)
    ),
}
every_term = pytest.mark.parametrize("name", TERMS)


def gradient_in_standard_errors(term: Term, batches: int = 120, size: int = 256) -> Tensor:
    """The mean gradient of each parameter, in standard errors estimated between batches."""
    parameters, rows = list(term.parameters()), []
    for step in range(batches):
        loss = term(points(size, seed=1000 + step), StepRandom(0, step)).mean()
        gradients = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    table = torch.stack(rows)
    return table.mean(0) / (table.std(0) / math.sqrt(batches))


@every_term
def test_the_gradient_vanishes_at_the_truth_and_only_there(name: str) -> None:
    term = TERMS[name](three_classes())
    at_truth = gradient_in_standard_errors(term)
    assert at_truth.shape == (12,)
    assert at_truth.abs().max() < 4
    for module in term.modules():
        if isinstance(module, ExactEnergy | ExactDenoiser):
            module.perturbed(0.3)
    elsewhere = gradient_in_standard_errors(term)
    assert elsewhere.abs().max() > 10


@every_term
def test_the_loss_is_smallest_at_the_truth(name: str) -> None:
    """With the same noise on both sides."""
    truth, other = TERMS[name](three_classes()), TERMS[name](three_classes())
    for module in other.modules():
        if isinstance(module, ExactEnergy | ExactDenoiser):
            module.perturbed(0.3)
    excess = []
    with torch.no_grad():
        for step in range(40):
            batch = points(512, seed=step)
            values = [term(batch, StepRandom(0, step)).mean() for term in (other, truth)]
            excess.append(values[0] - values[1])
    table = torch.stack(excess)
    assert table.mean() > 5 * table.std() / math.sqrt(len(table))


# The values, one a sample


class Record:
    """The noisy inputs and the times at which a model was evaluated."""

    def __init__(self, model: nn.Module) -> None:
        model.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        self.x, self.t = args[0].detach(), args[1].detach()


def test_cross_entropy_against_torch() -> None:
    model, batch = conv_classifier(), images(16)
    record = Record(model)
    values = CrossEntropy(model)(batch, StepRandom(0, 0))
    x, t = record.x, record.t
    expected = nn.functional.cross_entropy(model(x, t), batch.y, reduction="none")
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    # and the inputs were perturbed as the process says: what is left is standard normal
    noise = (x - batch.x) / t[:, None, None, None]
    assert abs(noise.mean().item()) < 4 / math.sqrt(noise.numel())
    assert abs(noise.std().item() - 1) < 4 / math.sqrt(2 * noise.numel())


@pytest.mark.parametrize("process", [PROCESS, VE(0.02, 20.0)], ids=["edm", "ve"])
def test_self_calibration_against_its_formula(process: EDM | VE) -> None:
    """λ/D · ½‖∇ logsumexp f + z/σ‖² with λ = σ² (1 + σ²/σ_d²), sample by sample."""
    model, batch = mlp_classifier(), points(20)
    model.process = process
    record = Record(model)
    values = SelfCalibration(model)(batch, StepRandom(0, 0))
    times, noisy = record.t, record.x
    for i, value in enumerate(values.tolist()):
        x = noisy[i : i + 1].clone().requires_grad_()
        (score,) = torch.autograd.grad(model(x, times[i]).exp().sum().log(), x)
        sigma = process.sigma(times[i])
        noise = (noisy[i] - batch.x[i]) / sigma
        weight = sigma**2 * (1 + (sigma / SIGMA_DATA) ** 2)
        expected = weight * (score[0] + noise / sigma).square().mean() / 2
        assert value == pytest.approx(expected.item(), rel=1e-9)


def test_denoising_score_matching_against_its_formula() -> None:
    model = ScoreModel(SmoothNetwork(2, 2).double(), PROCESS, SIGMA_DATA)
    batch, record = points(20), Record(model)
    values = DenoisingScoreMatching(model)(batch, StepRandom(0, 0))
    x, sigma = record.x, record.t[:, None]
    noise = (x - batch.x) / sigma
    weight = sigma**2 * (1 + (sigma / SIGMA_DATA) ** 2)
    expected = (weight * (model(x, record.t) + noise / sigma) ** 2 / 2).mean(1)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)


class Gaussian(nn.Module):
    """Logits that add nothing to the quadratic energy."""

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        return 0 * u[:, :1]


def test_the_quadratic_energy_alone_has_a_loss_of_one_half() -> None:
    """Its internal score is exact for N(0, σ_d² I): per dimension E λ½(s + z/σ)² = ½."""
    n, dimensions = 8000, 4
    generator = torch.Generator().manual_seed(0)
    x = SIGMA_DATA * torch.randn(n, dimensions, generator=generator, dtype=torch.float64)
    term = SelfCalibration(NoisyClassifier(Gaussian(), PROCESS, SIGMA_DATA))
    values = term(Batch(x, torch.zeros(n, dtype=torch.long)), StepRandom(0, 0))
    standard_error = math.sqrt(1 / 2 / dimensions / n)
    assert abs(values.mean().item() - 1 / 2) < 4 * standard_error


@pytest.mark.parametrize(
    "term",
    [
        SelfCalibration(conv_classifier()),
        CrossEntropy(conv_classifier()),
    ],
    ids=["sc", "ce"],
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_row_depends_on_itself_alone(term: Term, training: bool) -> None:
    term.train(training)
    batch = images(6)
    before = term(batch, StepRandom(0, 0))
    changed = batch.x.clone()
    changed[2] = 5 * changed[2].flip(-1) + 1
    labels = batch.y.clone()
    labels[2] = (labels[2] + 1) % 3
    after = term(Batch(changed, labels), StepRandom(0, 0))
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(after[others], before[others], rtol=1e-12, atol=1e-12)
    assert abs(after[2] - before[2]).item() > 1e-3


@pytest.mark.parametrize("name", ["sc-scaled", "dsm"])
def test_labels_are_not_used(name: str) -> None:
    batch, term = points(16), TERMS[name](three_classes())
    unlabelled = Batch(batch.x, torch.full_like(batch.y, UNLABELLED))
    assert torch.equal(term(batch, StepRandom(0, 0)), term(unlabelled, StepRandom(0, 0)))


@every_term
def test_a_loss_can_be_evaluated_without_gradients(name: str) -> None:
    batch, term = points(16), TERMS[name](three_classes())
    expected = term(batch, StepRandom(0, 0))
    with torch.no_grad():
        values = term(batch, StepRandom(0, 0))
    assert torch.equal(values, expected)
    assert expected.requires_grad
    assert not values.requires_grad


# The sum of the terms


class Feature(Term):
    """Each example's mean, times a parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return self.factor * batch.x.mean(1)


def test_the_total_is_the_weighted_sum_of_means_each_on_its_part() -> None:
    objective = Objective(
        {"a": Feature(1.0), "b": Feature(10.0)},
        {"a": "labelled", "b": "all"},
        {"a": 0.5, "b": 3.0},
    )
    labelled = Batch(torch.tensor([[1.0, 3.0], [4.0, 6.0]]), torch.tensor([0, 1]))
    everything = Batch(torch.tensor([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]), -torch.ones(3).long())
    values = objective({"labelled": labelled, "all": everything}, StepRandom(0, 0))
    assert values["a"].tolist() == [2.0, 5.0]
    assert values["b"].tolist() == [10.0, 20.0, 60.0]
    total = objective.total(values)
    assert total.item() == pytest.approx(0.5 * 3.5 + 3.0 * 30.0)
    slope_a, slope_b = torch.autograd.grad(total, list(objective.parameters()))
    assert slope_a.item() == pytest.approx(0.5 * 3.5)
    assert slope_b.item() == pytest.approx(3.0 * 3.0)


def test_terms_that_share_a_model_add_their_gradients() -> None:
    model, batch = mlp_classifier(), points(16)
    terms = {"ce": CrossEntropy(model), "sc": SelfCalibration(model)}
    weights = {"ce": 1.0, "sc": 0.3}
    objective = Objective(terms, {"ce": "labelled", "sc": "all"}, weights)
    parameters = list(model.parameters())
    assert len(list(objective.parameters())) == len(parameters)

    def values() -> dict[str, Tensor]:
        return objective({"labelled": batch, "all": batch}, StepRandom(0, 0))

    together = torch.autograd.grad(objective.total(values()), parameters)
    apart = [
        torch.autograd.grad(weights[name] * values()[name].mean(), parameters) for name in terms
    ]
    for sum_, ce, sc in zip(together, *apart, strict=True):
        torch.testing.assert_close(sum_, ce + sc, rtol=1e-10, atol=1e-12)
