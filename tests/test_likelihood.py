import math

import pytest
import torch
from mixtures import ExactEnergy, SmoothNetwork, three_classes
from torch import Tensor

from fewlabel import guidance
from fewlabel.classifier import NoisyClassifier, vector_jacobian
from fewlabel.errors import UserError
from fewlabel.likelihood import bits_per_dimension, log_likelihood
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, VP, Process, SubVP
from fewlabel.score import ScoreModel

# the prior is N(0, σ²), not p_{t_max}: far enough out that the difference is below 0.005 bits
PROCESSES = [VE(0.01, 1000.0), VP(beta_max=30.0), SubVP(beta_max=30.0), EDM(0.002, 1000.0)]
every_process = pytest.mark.parametrize(
    "process", PROCESSES, ids=[process.name for process in PROCESSES]
)


def mixture_in(dims: int, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """The three classes of `mixtures` in the plane, or three others in more dimensions."""
    if dims == 2:
        return three_classes(dtype)
    means = torch.randn(3, dims, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return GaussianMixture(
        torch.tensor([0.5, 0.2, 0.3], dtype=dtype),
        means,
        torch.tensor([0.6, 0.3, 0.1], dtype=dtype),
    )


def data(process: Process, mixture: GaussianMixture, n: int = 12) -> Tensor:
    """Samples of p_{t_min}."""
    generator = torch.Generator().manual_seed(1)
    x0, _ = mixture.sample(n, generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    return process.perturb(x0, torch.full((n,), process.t_min, dtype=x0.dtype), noise)


@every_process
@pytest.mark.parametrize("dims", [2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_likelihood_is_that_of_the_mixture(
    process: Process, dims: int, dtype: torch.dtype
) -> None:
    mixture = mixture_in(dims, dtype)
    x = data(process, mixture)
    found = log_likelihood(mixture.score(process), process, x, probes="exact")
    exact = mixture.log_density(process)(x, torch.tensor(process.t_min, dtype=dtype))
    assert found.shape == exact.shape
    assert found.dtype == dtype
    error = bits_per_dimension(found, dims) - bits_per_dimension(exact, dims)
    assert error.abs().max() < 1e-2


def test_the_likelihood_of_images_is_that_of_their_pixels() -> None:
    process, mixture = VP(beta_max=30.0), mixture_in(8)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return mixture.score(process)(x.flatten(1), t).reshape(x.shape)

    pixels = data(process, mixture, 4)
    found = log_likelihood(score, process, pixels.reshape(4, 2, 1, 4), probes="exact")
    exact = mixture.log_density(process)(pixels, torch.tensor(process.t_min))
    assert (bits_per_dimension(found, 8) - bits_per_dimension(exact, 8)).abs().max() < 1e-2


@pytest.mark.parametrize("process", PROCESSES[:2], ids=["ve", "vp"])
def test_the_solver_is_as_exact_as_its_tolerance(process: Process) -> None:
    """With the prior in place of p_{t_max} taken out: one Gaussian about 0 of the same spread."""
    std = 0.4
    mixture = GaussianMixture(
        torch.ones(1), torch.zeros(1, 3).double(), torch.tensor([std], dtype=torch.float64)
    )
    x = data(process, mixture)
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    alpha, sigma = process.alpha(ends), process.sigma(ends)
    spread = torch.sqrt(alpha**2 * std**2 + sigma**2)
    at_the_prior = process.prior_log_density(x * spread[1] / spread[0])
    exact = at_the_prior + 3 * torch.log(spread[1] / spread[0])
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = log_likelihood(
            mixture.score(process), process, x, probes="exact", rtol=tolerance, atol=tolerance
        )
        errors.append((found - exact).abs().max().item())
    assert errors[1] < 2e-3
    assert errors[2] < 2e-5
    assert errors == sorted(errors, reverse=True)


def test_the_mean_over_probes_is_the_exact_trace() -> None:
    """One point many times: each copy has probes of its own."""
    process = VE(0.05, 50.0)
    mixture = mixture_in(8)
    x = data(process, mixture, 2)
    exact = log_likelihood(mixture.score(process), process, x, probes="exact")
    copies = x.repeat_interleave(300, 0)
    estimates = log_likelihood(mixture.score(process), process, copies, seed=5).reshape(2, 300)
    error = estimates.std(1) / math.sqrt(300)
    assert (error > 1e-4).all()  # it is an estimate at all
    assert ((estimates.mean(1) - exact).abs() < 4 * error + 1e-3).all()
    better = log_likelihood(mixture.score(process), process, copies, probes=9, seed=6)
    gain = estimates.std(1) / better.reshape(2, 300).std(1)
    assert gain.tolist() == pytest.approx([3, 3], rel=0.25)  # √9


def test_an_estimate_depends_on_seed_and_index_alone() -> None:
    process, mixture = VE(0.05, 50.0), mixture_in(8)
    x, score = data(process, mixture, 5), mixture.score(process)
    whole = log_likelihood(score, process, x, seed=3)
    parts = [log_likelihood(score, process, x[i : i + 2], seed=3, first=i) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-3)
    other = log_likelihood(score, process, x, seed=4)
    assert ((other - whole).abs() > 1e-2).any()


def test_the_likelihood_of_a_guided_score_is_that_of_the_class() -> None:
    """Scale 1 is Bayes' rule; the divergence has the classifier's part."""
    process, mixture = VE(0.05, 500.0), three_classes()
    classifier = NoisyClassifier(ExactEnergy(mixture, 1.5, "quadratic"), process, 1.5, "quadratic")
    score = guidance.classifier(mixture.score(process), classifier.likelihood_score, 2)
    of_class = GaussianMixture(torch.ones(1), mixture.means[2:], mixture.stds[2:])
    x = data(process, of_class, 6)
    found = log_likelihood(score, process, x, probes="exact")
    exact = of_class.log_density(process)(x, torch.tensor(process.t_min))
    assert (bits_per_dimension(found, 2) - bits_per_dimension(exact, 2)).abs().max() < 1e-2
    assert not found.requires_grad


def test_images_and_trained_models() -> None:
    """A network of any shape: the estimate is finite and near the exact trace."""
    process = EDM(0.05, 20.0)
    network = SmoothNetwork(8, 8)
    model = ScoreModel(lambda u, c: network(u, c).reshape(u.shape), process, 1.0)
    x = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    exact = log_likelihood(model, process, x, probes="exact")
    estimate = log_likelihood(model, process, x, probes=50)
    assert exact.shape == estimate.shape == (3,)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.5)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_vector_jacobian_products() -> None:
    network = SmoothNetwork(3, 3).double()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = torch.zeros(4, dtype=torch.float64)
    vectors = torch.eye(3).double()[:, None].expand(3, 4, 3)
    value, products = vector_jacobian(lambda x: network(x, c), x, vectors)
    assert torch.equal(value, network(x, c).detach())
    assert not products.requires_grad
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: network(x[None], c[:1])[0]))(x)
    torch.testing.assert_close(products.transpose(0, 1), jacobians)


def test_bits_per_dimension() -> None:
    """A uniform density on [−1, 1]^D is 2^−D: one bit a dimension."""
    log_density = torch.tensor([-5 * math.log(2.0), -10 * math.log(2.0)])
    torch.testing.assert_close(bits_per_dimension(log_density, 5), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("probes", [0, -1])
def test_an_estimate_needs_a_probe(probes: int) -> None:
    process, mixture = VE(0.05, 50.0), mixture_in(2)
    with pytest.raises(UserError, match="give 1 or more"):
        log_likelihood(mixture.score(process), process, torch.zeros(1, 2), probes=probes)
