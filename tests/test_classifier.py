import math

import pytest
import torch
from mixtures import (
    PROCESS_NAMES,
    PROCESSES,
    ExactEnergy,
    SmoothNetwork,
    places,
    three_classes,
)
from torch import Tensor, nn

from fewlabel.classifier import Energy, NoisyClassifier, chosen_log_prob, input_grad
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, Process

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
every_energy = pytest.mark.parametrize("energy", ["scaled", "quadratic", "plain"])
SIGMA_DATA = 1.3


def smooth(process: Process, energy: Energy) -> NoisyClassifier:
    return NoisyClassifier(SmoothNetwork(2, 3).double(), process, SIGMA_DATA, energy)


def gradient(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@every_process
@every_energy
def test_scores_are_the_gradients_of_the_logits(process: Process, energy: Energy) -> None:
    model = smooth(process, energy)
    x, t, y = places(process)
    rows = torch.arange(len(y))
    of_class = gradient(lambda x: model.log_prob(x, t)[rows, y], x)
    of_energy = gradient(lambda x: model(x, t).exp().sum(1).log(), x)
    torch.testing.assert_close(model.likelihood_score(x, t, y), of_class, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.internal_score(x, t), of_energy, rtol=1e-8, atol=1e-8)


@every_process
@every_energy
def test_likelihood_scores_average_to_zero(process: Process, energy: Energy) -> None:
    """Σ_y p(y|x) ∇ log p(y|x) = ∇ Σ_y p(y|x) = 0, while none of them is."""
    model = smooth(process, energy)
    x, t, _ = places(process)
    probability = model.log_prob(x, t).exp()
    scores = [model.likelihood_score(x, t, torch.full((len(x),), k)) for k in range(3)]
    total = sum(probability[:, k, None] * score for k, score in enumerate(scores))
    size = torch.stack(scores).abs().amax((0, 2))
    assert (size > 1e-6).all()
    assert (total.abs().amax(1) < 1e-12 * size).all()


@every_process
@every_energy
def test_the_internal_score_is_logit_gradient_less_likelihood_score(
    process: Process, energy: Energy
) -> None:
    model = smooth(process, energy)
    x, t, _ = places(process)
    internal = model.internal_score(x, t)
    for k in range(3):
        of_logit = gradient(lambda x, k=k: model(x, t)[:, k], x)
        likelihood = model.likelihood_score(x, t, torch.full((len(x),), k))
        torch.testing.assert_close(of_logit - likelihood, internal, rtol=1e-10, atol=1e-10)


@every_process
@every_energy
def test_the_oracle_fits_into_every_energy(process: Process, energy: Energy) -> None:
    mixture = three_classes()
    network = ExactEnergy(mixture, SIGMA_DATA, energy)
    model = NoisyClassifier(network, process, SIGMA_DATA, energy)
    x, t, y = places(process)
    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(model.log_prob(x, t), mixture.log_posterior(process)(x, t), **close)
    torch.testing.assert_close(
        model.likelihood_score(x, t, y), mixture.likelihood_score(process)(x, t, y), **close
    )
    if process.alpha(t).eq(1).all():  # else it is the density of x/α
        density = model(x, t).logsumexp(1) - math.log(2 * math.pi)
        torch.testing.assert_close(density, mixture.log_density(process)(x, t), **close)
    torch.testing.assert_close(model.internal_score(x, t), mixture.score(process)(x, t), **close)


@every_process
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_divides_the_logits(process: Process, temperature: float) -> None:
    model = smooth(process, "scaled")
    x, t, y = places(process)
    rows = torch.arange(len(y))
    expected = gradient(lambda x: (model(x, t) / temperature).log_softmax(1)[rows, y], x)
    found = model.likelihood_score(x, t, y, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    plain = model.likelihood_score(x, t, y)
    assert torch.allclose(found, plain, rtol=1e-3) == (temperature == 1)


@every_process
def test_a_hot_classifier_pulls_as_one_that_holds_all_classes_equal(process: Process) -> None:
    """T g_T → ∇ (f_y − mean_k f_k) as T → ∞, with an error of order 1/T."""
    model = smooth(process, "plain")
    x, t, y = places(process)
    limit = model.class_score(x, t, y) - gradient(lambda x: model(x, t).mean(1), x)
    errors = [
        (T * model.likelihood_score(x, t, y, T) - limit).abs().max().item() for T in (1e3, 1e4)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.02)
    assert errors[0] < 0.01 * limit.abs().max()


@every_process
@every_energy
def test_the_class_scores_of_the_oracle(process: Process, energy: Energy) -> None:
    mixture = three_classes()
    model = NoisyClassifier(ExactEnergy(mixture, SIGMA_DATA, energy), process, SIGMA_DATA, energy)
    x, t, y = places(process)
    torch.testing.assert_close(
        model.class_score(x, t, y), mixture.class_score(process)(x, t, y), rtol=1e-8, atol=1e-8
    )


class Rescaled(nn.Module):
    """c(r) h, with c of the scaled energy."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        c = torch.sqrt(1 + SIGMA_DATA**2 * torch.exp(-8 * c_noise))
        return c[:, None] * self.network(u, c_noise)


@every_process
def test_the_quadratic_term_cancels_in_the_probabilities(process: Process) -> None:
    network = SmoothNetwork(2, 3).double()
    x, t, y = places(process)
    scaled = NoisyClassifier(network, process, SIGMA_DATA, "scaled")
    quadratic = NoisyClassifier(Rescaled(network), process, SIGMA_DATA, "quadratic")
    plain = NoisyClassifier(Rescaled(network), process, SIGMA_DATA, "plain")
    torch.testing.assert_close(scaled(x, t), quadratic(x, t), rtol=1e-9, atol=1e-9)
    for other in (quadratic, plain):
        torch.testing.assert_close(
            other.log_prob(x, t), scaled.log_prob(x, t), rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(
            other.likelihood_score(x, t, y),
            scaled.likelihood_score(x, t, y),
            rtol=1e-8,
            atol=1e-8,
        )
    # what the term adds to the internal score is the score of a Gaussian with the data's variance
    variance = process.alpha(t) ** 2 * SIGMA_DATA**2 + process.sigma(t) ** 2
    added = quadratic.internal_score(x, t) - plain.internal_score(x, t)
    torch.testing.assert_close(added, -x / variance[:, None], rtol=1e-8, atol=1e-8)


@every_energy
@pytest.mark.parametrize("probability", [1e-4, 1e-9, 1e-14, 1e-30])
def test_the_gradient_is_right_where_the_class_is_improbable(
    energy: Energy, probability: float
) -> None:
    """Two classes at ±1: ∇ log p(2|x) = (1 − p) · 2/v, which an added 1e-8 would kill."""
    std, level = 0.1, 0.2
    variance = std**2 + level**2
    mixture = GaussianMixture(
        torch.ones(2), torch.tensor([[-1.0], [1.0]]), torch.tensor([std, std])
    )
    model = NoisyClassifier(ExactEnergy(mixture, 1.0, energy), EDM(), 1.0, energy)
    log_odds = torch.special.logit(torch.tensor([probability], dtype=torch.float64))
    x = (log_odds * variance / 2)[:, None]
    t, y = torch.tensor(level), torch.tensor([1])
    exact = (1 - probability) * 2 / variance
    score = model.likelihood_score(x.float(), t, y)
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(exact, rel=1e-4)
    assert model.log_prob(x.float(), t)[0, 1].item() == pytest.approx(
        log_odds.item(), rel=1e-4, abs=1e-4
    )


@every_energy
def test_scores_work_where_gradients_are_off(energy: Energy) -> None:
    process = VE(0.02, 20.0)
    model = smooth(process, energy)
    x, t, y = places(process)
    likelihood, internal = model.likelihood_score(x, t, y), model.internal_score(x, t)
    with torch.no_grad():
        assert torch.equal(model.likelihood_score(x, t, y), likelihood)
        assert torch.equal(model.internal_score(x, t), internal)
    assert not likelihood.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_gradient_with_its_graph_is_the_second_derivative() -> None:
    """f = a (x⁴, x²): ∂/∂a of ∇ logsumexp f against central differences in a."""
    x = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]

    def slope(a: Tensor, create_graph: bool = True) -> Tensor:
        return input_grad(
            lambda x: a * torch.cat([x**4, x**2], 1),
            lambda f: f.logsumexp(1),
            x,
            create_graph=create_graph,
        )

    a = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (automatic,) = torch.autograd.grad(slope(a).square().sum(), a)
    h = 1e-5
    difference = (slope(a + h).square().sum() - slope(a - h).square().sum()) / (2 * h)
    assert automatic.item() == pytest.approx(difference.item(), rel=1e-8)
    assert not slope(a, create_graph=False).requires_grad


def test_input_grad_leaves_x_alone() -> None:
    x = torch.ones(2, 1, requires_grad=True)
    input_grad(lambda x: x**2, lambda f: f.sum(1), x * 3)
    assert x.grad is None


def test_chosen_log_prob_against_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (50,), generator=generator)
    expected = -nn.functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(chosen_log_prob(logits, y), expected, rtol=1e-14, atol=1e-14)


def test_refuses_an_unknown_energy() -> None:
    with pytest.raises(UserError, match=r"energy 'cubic' is unknown; choose one of scaled, quad"):
        NoisyClassifier(nn.Identity(), VE(), 1.0, "cubic")  # type: ignore[arg-type]


def test_one_label_stands_for_all_samples_and_other_numbers_are_refused() -> None:
    """Left to indexing, the samples without a label would have no gradient, and no error."""
    model = smooth(VE(), "scaled")
    x, t, _ = places(VE())
    each = torch.full((len(x),), 2)
    for score in (model.likelihood_score, model.class_score):
        expected = score(x, t, each)
        assert torch.equal(score(x, t, torch.tensor(2)), expected)
        assert torch.equal(score(x, t, 2), expected)
        for number in (1, len(x) - 1):
            with pytest.raises(UserError, match=rf"labels of shape \({number},\) for {len(x)} "):
                score(x, t, each[:number])
