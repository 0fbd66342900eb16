import math

import pytest
import torch
from mixtures import three_classes
from objective_cases import (
    PROCESS,
    SIGMA_DATA,
    TIMES,
    Record,
    every_process,
    exact_classifier,
    exact_draws,
    gradient_in_standard_errors,
    mlp_classifier,
    points,
)
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives import JointEnergy
from fewlabel.process import Process
from fewlabel.randomness import StepRandom


class Flat(nn.Module):
    """Logits that add nothing to the quadratic energy, or a multiple of ‖u‖²."""

    def __init__(self, growth: float = 0.0) -> None:
        super().__init__()
        self.growth = nn.Parameter(torch.tensor(growth, dtype=torch.float64))

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        return self.growth * u.square().sum(1, keepdim=True)


def gaussian_chains(n: int, steps: int, rate: float, process: Process = PROCESS) -> JointEnergy:
    """Chains of N(0, (α² σ_d² + σ²) I) in 4 dimensions, which start from it."""
    model = NoisyClassifier(Flat(), process, SIGMA_DATA, "quadratic")
    return JointEnergy(model, (4,), n, steps, rate, restart=0.0, times=TIMES).double()


def run(term: JointEnergy, n: int, step: int = 0) -> Tensor:
    """A step on n rows of zeros."""
    x = torch.zeros(n, *term.chain_x.shape[1:], dtype=torch.float64)
    return term(Batch(x, torch.zeros(n).long()), StepRandom(0, step))


# The chains


@every_process
@pytest.mark.parametrize(("rate", "steps"), [(0.3, 20), (1.0, 8), (1.6, 8), (1.6, 1)])
def test_langevin_steps_have_the_variance_that_theory_gives(
    rate: float, steps: int, process: Process
) -> None:
    """x ← (1 − a) x + η z with a = η²/(2v): V_k = V + (v − V)(1 − a)^{2k}, V = v/(1 − η²/(4v))."""
    n = 6000
    term = gaussian_chains(n, steps, rate, process)
    run(term, n)
    alpha, sigma = process.alpha(term.chain_t), process.sigma(term.chain_t)
    v = alpha**2 * SIGMA_DATA**2 + sigma**2
    eta = rate * sigma
    stationary = v / (1 - eta**2 / (4 * v))
    expected = stationary + (v - stationary) * (1 - eta**2 / (2 * v)) ** (2 * steps)
    ratio = (term.chain_x.square().mean(1) / expected).mean().item()
    standard_error = math.sqrt(2 / (4 * n))
    assert abs(ratio - 1) < 4 * standard_error
    if rate < 0.5:  # and that is p_t, nearly
        assert (expected / v - 1).max() < 0.03
    else:  # large steps show that the theory is measured and not the start
        assert (expected / v).mean() > 1 + 4 * standard_error
        assert abs((term.chain_x.square().mean(1) / v).mean().item() - 1) > 3 * standard_error


@every_process
def test_chains_come_to_the_density_of_the_energy(process: Process) -> None:
    """From the wide Gaussian they start with to a mixture: moments of p_t at each noise level."""
    n = 6000
    model = exact_classifier("scaled", three_classes(), process)
    term = JointEnergy(model, (2,), n, steps=60, rate=0.5, restart=0.0, times=TIMES).double()
    run(term, n)
    weights, means = three_classes().weights, three_classes().means
    strong = process.noise_ratio(term.chain_t) > 1  # where the classes mix in 60 steps
    x, t = term.chain_x[strong], term.chain_t[strong, None]
    centre = weights @ means
    spread = (weights[:, None] * (means - centre) ** 2).sum(
        0
    ) + weights @ three_classes().stds ** 2
    std = torch.sqrt(process.alpha(t) ** 2 * spread + process.sigma(t) ** 2)
    standard = (x - process.alpha(t) * centre) / std
    count = len(standard)
    assert count > 1000
    assert standard.mean(0).abs().max() < 4 / math.sqrt(count)
    assert (standard.square().mean(0) - 1).abs().max() < 0.06 + 4 * math.sqrt(2 / count)
    wide = (process.alpha(t) * centre / std).mean(0).abs()
    assert wide.max() > 8 / math.sqrt(count)  # started around 0, which is elsewhere


class ShortChains(JointEnergy):
    """Its chains start as exact draws of the data's density and do their steps from there."""

    def _start(self, x: Tensor, t: Tensor, random: StepRandom) -> tuple[Tensor, Tensor]:
        t = self.times.quantile(random.quantiles_like(x), PROCESS)
        return exact_draws(three_classes(), t, random), t


def test_the_right_energy_has_no_gradient_with_langevin_steps() -> None:
    """They leave p_t where it is; a wrong energy drives the chains, and they pull it back."""
    model = exact_classifier("scaled", three_classes())
    term = ShortChains(model, (2,), 512, steps=12, rate=0.5, times=TIMES).double()
    at_truth = gradient_in_standard_errors(term, batches=50, size=512)
    assert at_truth.abs().max() < 4
    model.network.perturbed(0.8)
    elsewhere = gradient_in_standard_errors(term, batches=50, size=512)
    assert elsewhere.abs().max() > 10


# The loss


@every_process
def test_the_loss_against_its_formula_with_its_own_chains(process: Process) -> None:
    """Value and gradient are those of lse f(x̃) − lse f(x_t) with both held."""
    model, n = mlp_classifier(), 512
    model.process = process
    term, batch, record = JointEnergy(model, (2,), n, steps=3).double(), points(n), Record(model)
    values = term(batch, StepRandom(0, 0))
    (chain, t), (x_t, same_t) = record.calls[-2:]
    assert torch.equal(t, same_t)
    assert torch.equal(term.chain_t.sort().values, t.sort().values)
    assert torch.equal(term.chain_x.sort(0).values, chain.sort(0).values)
    expected = (model(chain, t).exp().sum(1) / model(x_t, t).exp().sum(1)).log()
    torch.testing.assert_close(values, expected, rtol=1e-8, atol=1e-8)
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(v.mean(), parameters) for v in (values, expected))
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    noise = (x_t - process.alpha(t)[:, None] * batch.x) / process.sigma(t)[:, None]
    assert abs(noise.square().mean().item() - 1) < 4 * math.sqrt(2 / noise.numel())


# The replay buffer


def filled(chains: int, steps: int = 0, restart: float = 0.0) -> JointEnergy:
    """Chains that stand at recognisable places."""
    term = JointEnergy(mlp_classifier(), (2,), chains, steps, restart=restart).double()
    term.chain_x.copy_(torch.linspace(0.1, 1, 2 * chains).reshape(chains, 2))
    term.chain_t.fill_(0.7)
    return term


@pytest.mark.parametrize("restart", [0.0, 0.05, 1.0])
def test_the_share_of_chains_that_start_anew(restart: float) -> None:
    n = 100
    term = filled(n, restart=restart)
    before = term.chain_x.clone(), term.chain_t.clone()
    term(points(n), StepRandom(0, 0))
    anew = term.chain_t != before[1]
    assert anew.sum() == round(restart * n)
    assert torch.equal(anew, (term.chain_x != before[0]).any(1))


def test_each_chain_goes_on_from_where_it_was() -> None:
    """A chain of 2 steps twice is one of 4 steps: the buffer keeps places and noise levels."""
    n = 4000
    twice, once = gaussian_chains(n, 2, 1.6), gaussian_chains(n, 4, 1.6)
    run(twice, n)
    middle_t = twice.chain_t.clone()
    run(twice, n, step=1)
    run(once, n)
    assert torch.equal(twice.chain_t, middle_t)
    sizes = [
        (t.chain_x / torch.sqrt(SIGMA_DATA**2 + t.chain_t[:, None] ** 2)).square().mean().item()
        for t in (twice, once)
    ]
    assert sizes[1] > 1.1
    assert sizes[0] == pytest.approx(sizes[1], abs=4 * math.sqrt(2) * sizes[1] / (2 * n) ** 0.5)


def test_a_small_batch_visits_every_chain_in_time() -> None:
    term = filled(64)
    for step in range(80):
        before = term.chain_t.clone()
        term.chain_t.fill_(0.5)
        term.restart = 1.0
        term(points(8), StepRandom(0, step))
        visited = term.chain_t != 0.5
        assert visited.sum() == 8
        term.chain_t.copy_(torch.where(visited, -1.0, before))
    assert (term.chain_t == -1).all()


# Divergence


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e4, 1e200])
def test_a_chain_that_is_lost_does_not_count_and_starts_anew(broken: float) -> None:
    n = 32
    whole, partly = filled(n), filled(n)
    partly.chain_x[::2] = broken
    record = Record(partly.classifier)
    values, expected = (term(points(n), StepRandom(0, 0)) for term in (partly, whole))
    lost = (record.calls[-2][0] == record.calls[-1][0]).all(1)
    assert lost.sum() == n // 2
    assert (values[lost] == 0).all()
    assert torch.equal(values[~lost], expected[~lost])
    gradients = torch.autograd.grad(values.sum(), list(partly.parameters()))
    wanted = torch.autograd.grad(expected[~lost].sum(), list(whole.parameters()))
    for found, of_whole in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, of_whole, rtol=1e-9, atol=1e-12)
    assert torch.equal(partly.chain_t[::2], torch.zeros(n // 2, dtype=torch.float64))
    assert partly.chain_x.isfinite().all()
    again = partly(points(n), StepRandom(0, 1))
    assert again.isfinite().all()
    assert (partly.chain_t > 0).all()
    assert (again != 0).all()


@pytest.mark.parametrize("growth", [60.0, 1e6])
def test_an_energy_that_drives_chains_away_does_not_enter_the_loss(growth: float) -> None:
    """The score grows with distance: each step multiplies, and there is no way back."""
    n = 64
    model = NoisyClassifier(Flat(growth), PROCESS, SIGMA_DATA, "quadratic")
    term = JointEnergy(model, (2,), n, steps=400, restart=0.0, times=TIMES).double()
    values = term(points(n), StepRandom(0, 0))
    assert values.isfinite().all()
    lost = values == 0
    assert lost.sum() > n // 2
    assert lost.sum() == (term.chain_t == 0).sum()
    (gradient,) = torch.autograd.grad(values.mean(), list(term.parameters()))
    assert gradient.isfinite()
