import math

import pytest
import torch
from mixtures import MEANS, PROCESS_NAMES, PROCESSES, STDS, WEIGHTS, places, three_classes
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, Process

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)


def scipy_log_joint(x: Tensor, t: Tensor, process: Process) -> Tensor:
    """(B, K) by scipy alone."""
    alpha, sigma = process.alpha(t).numpy(), process.sigma(t).numpy()
    rows = []
    for i, point in enumerate(x.numpy()):
        rows.append([])
        for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
            scaled = [alpha[i] * m for m in mean]
            normal = multivariate_normal(scaled, (alpha[i] * std) ** 2 + sigma[i] ** 2)
            rows[-1].append(math.log(weight) + normal.logpdf(point))
    return torch.tensor(rows, dtype=torch.float64)


@every_process
def test_density_and_posterior_are_those_of_scipy(process: Process) -> None:
    x, t, _ = places(process)
    joint = scipy_log_joint(x, t, process)
    density = torch.from_numpy(logsumexp(joint.numpy(), axis=1))
    mixture = three_classes()
    torch.testing.assert_close(mixture.log_joint(process)(x, t), joint, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mixture.log_density(process)(x, t), density, rtol=1e-10, atol=1e-10)
    posterior = mixture.log_posterior(process)(x, t)
    torch.testing.assert_close(posterior, joint - density[:, None], rtol=1e-10, atol=1e-10)


def gradient(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@every_process
def test_scores_are_the_gradients_of_the_densities(process: Process) -> None:
    x, t, y = places(process)
    mixture, rows = three_classes(), torch.arange(len(y))
    joint, density = mixture.log_joint(process), mixture.log_density(process)
    posterior = mixture.log_posterior(process)
    pairs = [
        (mixture.score(process)(x, t), gradient(lambda x: density(x, t), x)),
        (mixture.class_score(process)(x, t, y), gradient(lambda x: joint(x, t)[rows, y], x)),
        (
            mixture.likelihood_score(process)(x, t, y),
            gradient(lambda x: posterior(x, t)[rows, y], x),
        ),
    ]
    for closed_form, automatic in pairs:
        torch.testing.assert_close(closed_form, automatic, rtol=1e-10, atol=1e-10)


@every_process
def test_one_time_for_all_is_the_same_as_one_time_each(process: Process) -> None:
    x, t, y = places(process)
    mixture, level = three_classes(), t[len(t) // 2]
    each = level.expand(len(x))
    score, likelihood = mixture.score(process), mixture.likelihood_score(process)
    assert torch.equal(score(x, level), score(x, each))
    assert torch.equal(likelihood(x, level, y), likelihood(x, each, y))
    assert torch.equal(likelihood(x, level, torch.tensor(1)), likelihood(x, each, 0 * y + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_tails_stay_finite(dtype: torch.dtype) -> None:
    process, mixture = EDM(0.01, 20.0), three_classes(dtype)
    x = 1000 * torch.tensor([[1, 0], [-1, 0], [0, 1], [0.6, -0.8]], dtype=dtype)
    for level in (0.01, 1.0, 20.0):
        t = torch.tensor(level, dtype=dtype)
        posterior = mixture.log_posterior(process)(x, t)
        torch.testing.assert_close(posterior.exp().sum(1), torch.ones(4, dtype=dtype))
        exact = three_classes().score(process)(x.double(), t.double())
        torch.testing.assert_close(mixture.score(process)(x, t).double(), exact, rtol=1e-4, atol=0)
        if level <= 1:  # far out the widest class (1) is the only one
            assert torch.equal(posterior[:, 1], torch.zeros(4, dtype=dtype))
            alone = (mixture.means[1] - x) / (mixture.stds[1] ** 2 + level**2)
            torch.testing.assert_close(mixture.score(process)(x, t), alone)
        for y in range(3):
            assert mixture.likelihood_score(process)(x, t, torch.tensor(y)).isfinite().all()


def test_samples_have_the_shares_and_moments_of_the_mixture() -> None:
    mixture, n = three_classes(), 20_000
    x, y = mixture.sample(n, torch.Generator().manual_seed(0))
    for k, (weight, mean, std) in enumerate(zip(WEIGHTS, MEANS, STDS, strict=True)):
        of_class, count = x[y == k], int((y == k).sum())
        assert abs(count / n - weight) < 4 * (weight * (1 - weight) / n) ** 0.5
        error = of_class.mean(0) - torch.tensor(mean)
        assert error.abs().max() < 4 * std / count**0.5
        spread = of_class.std(0) / std - 1
        assert spread.abs().max() < 4 / (2 * count) ** 0.5
        correlation = torch.corrcoef(of_class.T)[0, 1]
        assert abs(correlation) < 4 / count**0.5


def test_a_mixture_of_points_has_the_score_of_their_kernels() -> None:
    points = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    mixture = GaussianMixture(torch.ones(2).double(), points, torch.zeros(2).double())
    x = torch.linspace(-4, 5, 19, dtype=torch.float64)[:, None]
    sigma = 0.7
    second = 1 / (1 + torch.exp(((x - 2) ** 2 - (x + 1) ** 2) / (2 * sigma**2)))  # p(2 | x)
    mean = 2 * second - (1 - second)
    score = mixture.score(EDM(0.01, 5.0))(x, torch.tensor(sigma, dtype=torch.float64))
    torch.testing.assert_close(score, (mean - x) / sigma**2, rtol=1e-12, atol=1e-12)


def test_weights_are_normalised() -> None:
    one = GaussianMixture(torch.tensor([1, 3]), torch.zeros(2, 1), torch.ones(2))
    other = GaussianMixture(torch.tensor([0.25, 0.75]), torch.zeros(2, 1), torch.ones(2))
    x, t = torch.randn(5, 1), torch.tensor(0.5)
    torch.testing.assert_close(one.log_joint(VE())(x, t), other.log_joint(VE())(x, t))


@pytest.mark.parametrize(
    ("weights", "means", "stds", "message"),
    [
        ([1.0, 1.0], [[0.0], [1.0], [2.0]], [1.0, 1.0], r"weights \(2,\), means \(3, 1\)"),
        ([1.0, 1.0], [0.0, 1.0], [1.0, 1.0], r"means \(2,\)"),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0], r"stds \(1,\) do not fit"),
        ([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0], "weights must be positive"),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0, -1.0], "stds not negative"),
    ],
)
def test_refuses_what_is_no_mixture(weights: list, means: list, stds: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GaussianMixture(torch.tensor(weights), torch.tensor(means), torch.tensor(stds))
