import math

import pytest
import torch
from mixtures import MEANS, PROCESS_NAMES, PROCESSES, STDS, WEIGHTS, places, three_classes
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from fewlabel import oracle
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture, point_cloud
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


def test_a_label_of_no_class_is_refused() -> None:
    """As −1, which stands for none; the score of a class without components is none."""
    process = VE()
    x, t, y = places(process)
    score = three_classes().class_score(process)
    with pytest.raises(UserError, match="no class of the mixture"):
        score(x, t, torch.where(y == y[0], -1, y))


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (5, 2, 1)])
def test_points_of_other_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    """By themselves they would be spread over those of the means."""
    score = three_classes().score(VE())
    with pytest.raises(UserError, match="means have 2 dimensions; give"):
        score(torch.zeros(shape).double(), torch.tensor(0.5).double())


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
        ([1.0, 1.0], [[0.0], [1.0]], [1.0, math.nan], "stds not negative"),
        ([1.0, math.inf], [[0.0], [1.0]], [1.0, 1.0], "positive and finite"),
        ([], [], [], r"weights \(0,\)"),
    ],
)
def test_refuses_what_is_no_mixture(weights: list, means: list, stds: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GaussianMixture(torch.tensor(weights), torch.tensor(means), torch.tensor(stds))


CLASSES = (1, 0, 1)
"""Two classes, one of which is two of the three components."""


def two_classes() -> GaussianMixture:
    mixture = three_classes()
    return GaussianMixture(
        mixture.weights, mixture.means, mixture.stds, classes=torch.tensor(CLASSES)
    )


@every_process
def test_classes_of_several_components_are_sums_over_them(process: Process) -> None:
    x, t, _ = places(process)
    of_components = scipy_log_joint(x, t, process).numpy()
    members = [[c for c, k in enumerate(CLASSES) if k == y] for y in range(2)]
    sums = [torch.from_numpy(logsumexp(of_components[:, c], axis=1)) for c in members]
    mixture = two_classes()
    assert mixture.n_classes == 2
    joint = mixture.log_joint(process)(x, t)
    torch.testing.assert_close(joint, torch.stack(sums, 1), rtol=1e-10, atol=1e-10)


@every_process
def test_class_scores_of_several_components_are_gradients(process: Process) -> None:
    x, t, y = places(process)
    y = y.clamp_max(1)
    mixture, rows = two_classes(), torch.arange(len(y))
    joint, posterior = mixture.log_joint(process), mixture.log_posterior(process)
    score = gradient(lambda x: joint(x, t)[rows, y], x)
    torch.testing.assert_close(mixture.class_score(process)(x, t, y), score, rtol=1e-9, atol=1e-9)
    likelihood = gradient(lambda x: posterior(x, t)[rows, y], x)
    found = mixture.likelihood_score(process)(x, t, y)
    torch.testing.assert_close(found, likelihood, rtol=1e-9, atol=1e-9)


def test_components_may_come_in_any_order_of_the_classes() -> None:
    order = torch.tensor([2, 0, 1])
    first = three_classes()
    other = GaussianMixture(
        first.weights[order], first.means[order], first.stds[order], classes=order
    )
    x, t, y = places(EDM(0.01, 20.0))
    for name in ("log_joint", "log_posterior"):
        one, two = (getattr(m, name)(EDM(0.01, 20.0))(x, t) for m in (first, other))
        torch.testing.assert_close(one, two)
    one, two = (m.class_score(EDM(0.01, 20.0))(x, t, y) for m in (first, other))
    torch.testing.assert_close(one, two)


def test_a_point_cloud_is_a_brute_force_sum_in_chunks_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    labels = torch.arange(300) % 3
    x = 2 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    y, sigma, process = torch.arange(50) % 3, 0.3, EDM(0.01, 5.0)
    kernel = torch.exp(-(x[:, None] - points).square().sum(-1) / (2 * sigma**2))
    pulls = kernel[..., None] * (points - x[:, None]) / sigma**2
    own = (labels == y[:, None]).double()
    of_class = (pulls * own[..., None]).sum(1) / (kernel * own).sum(1, keepdim=True)
    of_all = pulls.sum(1) / kernel.sum(1, keepdim=True)
    cloud, t = point_cloud(points, labels), torch.tensor(sigma, dtype=torch.float64)
    for chunk in (2**21, 1300):
        monkeypatch.setattr(oracle, "_CHUNK", chunk)
        torch.testing.assert_close(cloud.score(process)(x, t), of_all)
        torch.testing.assert_close(cloud.class_score(process)(x, t, y), of_class)
        torch.testing.assert_close(cloud.likelihood_score(process)(x, t, y), of_class - of_all)


def test_a_sampled_point_cloud_gives_its_points_and_their_labels() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    x, y = point_cloud(points, torch.tensor([0, 1, 1, 0])).sample(200)
    assert set(x[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert torch.equal(y, ((x[:, 0] > 0) & (x[:, 0] < 3)).long())


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 1], r"classes \(2,\)"),
        ([0.0, 1.0, 1.0], "give one integer"),
        ([0, 2, 2], "at least one component"),
        ([-1, 0, 1], "must be 0..K−1"),
    ],
)
def test_refuses_classes_that_do_not_fit(classes: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GaussianMixture(
            torch.ones(3), torch.zeros(3, 1), torch.ones(3), classes=torch.tensor(classes)
        )
