import math

import numpy as np
import pytest
import torch
from scipy import stats

from fewlabel.errors import UserError
from fewlabel.metrics import batch_means, bootstrap, over_seeds, proportion
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.table import METRICS, measure


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (1, 1), (45, 50), (311, 1000)])
def test_wilson_interval_agrees_with_scipy(hits: int, n: int) -> None:
    estimate = proportion([True] * hits + [False] * (n - hits))
    judge = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert estimate.value == hits / n
    assert (estimate.low, estimate.high) == pytest.approx((judge.low, judge.high), abs=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_wilson_ends_solve_the_score_equation() -> None:
    """(p − q)² = z² q(1−q)/N at both ends q."""
    estimate = proportion(torch.arange(40) < 31)
    for q in (estimate.low, estimate.high):
        assert (0.775 - q) ** 2 == pytest.approx(1.959963984540054**2 * q * (1 - q) / 40)


def test_proportion_takes_bools_arrays_and_tensors() -> None:
    assert proportion([True, False]) == proportion(np.array([1, 0])) == proportion(torch.eye(2)[0])


@pytest.mark.parametrize("n", [10, 50, 400])
def test_wilson_coverage(n: int) -> None:
    """Averaged over p, exactly: the binomial weight of the outcomes whose interval holds p."""
    estimates = [proportion(torch.arange(n) < k) for k in range(n + 1)]
    low = np.array([e.low for e in estimates])
    high = np.array([e.high for e in estimates])
    coverage = []
    for p in np.linspace(0.001, 0.999, 999):
        weights = stats.binom.pmf(np.arange(n + 1), n, p)
        coverage.append(weights[(low <= p) & (p <= high)].sum())
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)
    assert min(coverage) > 0.84


def test_batch_means_is_the_student_interval() -> None:
    groups = [1.0, 2.0, 4.0, 3.0]
    estimate = batch_means(2.5, groups)
    judge = stats.t.interval(0.95, 3, loc=2.5, scale=np.std(groups, ddof=1) / 2)
    assert (estimate.low, estimate.high) == pytest.approx(judge, rel=1e-12)
    assert estimate.value == 2.5


def test_batch_means_is_centred_on_the_pooled_value() -> None:
    estimate = batch_means(10.0, [14.0, 15.0, 16.0])
    assert (estimate.low + estimate.high) / 2 == pytest.approx(10.0)


@pytest.mark.parametrize("groups", [2, 5, 20])
def test_batch_means_coverage_on_normal_data(groups: int) -> None:
    runs = 4000
    samples = np.random.default_rng(groups).normal(3.0, 2.0, (runs, groups, 8))
    covered = 0
    for sample in samples:
        estimate = batch_means(sample.mean(), sample.mean(axis=1).tolist())
        covered += estimate.low <= 3.0 <= estimate.high
    assert covered / runs == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / runs))


def test_refuses() -> None:
    with pytest.raises(UserError, match="N of at least 1"):
        proportion([])
    with pytest.raises(UserError, match="other than 0 and 1"):
        proportion(np.array([0.5, 1.0]))
    with pytest.raises(UserError, match="1 group value"):
        batch_means(1.0, [1.0])
    with pytest.raises(UserError, match="NaN"):
        batch_means(1.0, [1.0, math.nan])


def test_over_seeds_is_the_student_interval_of_the_mean() -> None:
    values = [0.61, 0.7, 0.66]
    estimate = over_seeds(values)
    judge = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((judge.low, judge.high), rel=1e-12)
    assert estimate.value == pytest.approx(np.mean(values), rel=1e-15)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_over_seeds_coverage_on_normal_data(n: int) -> None:
    runs = 4000
    estimates = [over_seeds(v) for v in np.random.default_rng(n).normal(1.0, 2.0, (runs, n))]
    covered = np.mean([e.low <= 1.0 <= e.high for e in estimates])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / runs))


@pytest.mark.parametrize("law", ["exponential", "normal"])
def test_bootstrap_coverage_of_a_mean(law: str) -> None:
    """100 samples: a little below 95 %, less so for the skewed law."""
    runs, generator = 300, np.random.default_rng(0)
    draws = {"exponential": generator.exponential(1.0, (runs, 100)) - 1}
    draws["normal"] = generator.normal(0.0, 1.0, (runs, 100))
    covered = 0
    for seed, sample in enumerate(torch.as_tensor(draws[law])):
        estimate = bootstrap(
            lambda rows, x=sample: float(x[rows].mean()), 100, resamples=200, seed=seed
        )
        covered += estimate.low <= 0.0 <= estimate.high
    assert covered / runs == pytest.approx(0.94, abs=4 * math.sqrt(0.95 * 0.05 / runs))


def test_bootstrap_has_the_width_of_the_normal_interval() -> None:
    x = torch.as_tensor(np.random.default_rng(1).normal(size=2000))
    estimate = bootstrap(lambda rows: float(x[rows].mean()), 2000, resamples=2000)
    half = 1.96 * float(x.std()) / math.sqrt(2000)
    assert estimate.value == float(x.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.1)
    assert estimate.low < estimate.value < estimate.high
    assert estimate != bootstrap(lambda rows: float(x[rows].mean()), 2000, resamples=2000, seed=1)


def test_bootstrap_is_of_the_seed_and_keeps_to_the_range() -> None:
    hits = torch.arange(50) < 48

    def share(rows: torch.Tensor) -> float:
        return float(hits[rows].double().mean())

    estimate = bootstrap(share, 50, seed=3)
    assert estimate == bootstrap(share, 50, seed=3)
    assert 0 <= estimate.low < 0.96 < estimate.high <= 1


def test_bootstrap_and_over_seeds_refuse() -> None:
    with pytest.raises(UserError, match="1 rows and 1000"):
        bootstrap(lambda rows: 0.0, 1)
    with pytest.raises(UserError, match="99 resamples"):
        bootstrap(lambda rows: 0.0, 5, resamples=99)
    with pytest.raises(UserError, match="NaN"):
        bootstrap(lambda rows: math.nan, 5)
    with pytest.raises(UserError, match=r"1 value\(s\).* over seeds needs 2"):
        over_seeds([0.5])
    with pytest.raises(UserError, match="NaN"):
        over_seeds([0.5, math.inf])


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_end_where_figures_end(metric: str) -> None:
    """Shares in [0, 1], distances and densities from 0, a mean number of classes from 1."""
    distances = {"fid", "intra-fid", "copies-intra-fid", "density", "intra-density"}
    ends = {"is": (1, 9), "kid": (-9, 9), "intra-kid": (-9, 9)} | dict.fromkeys(distances, (0, 9))
    low, high = ends.get(metric, (0, 1))
    assert measure(metric).within_limits(Estimate(1.0, -9.0, 9.0)) == Estimate(1.0, low, high)
    inside = Estimate(1.0, 1.0, 1.0)
    assert measure(metric).within_limits(inside) == inside


def test_intervals_of_a_classifier_are_cut_at_every_noise_level() -> None:
    for metric in ("classifier-accuracy", "classifier-ece@0.5", "ece"):
        cut = measure(metric).within_limits(Estimate(0.5, -1.0, 2.0))
        assert cut == Estimate(0.5, 0.0, 1.0)
