"""95 % confidence intervals for reported figures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array
from fewlabel.randomness import generator_for

__all__ = ["Estimate", "MeanStd", "batch_means", "bootstrap", "over_seeds", "proportion"]

UPPER = 0.975
"""The quantile above which 2.5 % remain: the intervals are two-sided and hold 95 %."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval.

    Attributes:
        value: the figure itself.
        low: the lower end of the interval.
        high: the upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MeanStd:
    """The mean of a figure over parts of the samples and its spread: no confidence interval.

    Attributes:
        mean: over the parts.
        std: the standard deviation between parts.
    """

    mean: float
    std: float


def proportion(hits: Sequence[bool] | Array) -> Estimate:
    """A share of N trials with the Wilson score interval.

    With p the share and z the normal quantile 1.96, the ends are
    (p + z²/2N ± z √(p(1−p)/N + z²/4N²)) / (1 + z²/N). (Wilson 1927, "Probable inference, the law
    of succession, and statistical inference".)

    It assumes that the trials are independent and, as for one trained model, that they are all
    that is random: what another training seed or another choice of labels would change is not in
    it. From N = 10 on, the coverage is within half a point of 95 % on average over p; at a single
    p close to 0 or 1 it can fall to 84 %.

    Args:
        hits: (N,) booleans, or zeros and ones.

    Returns:
        The share in [0, 1] and its interval, which lies in [0, 1] and contains the share.

    Raises:
        UserError: no trials, more than one dimension, or values other than 0 and 1.
    """
    trials = torch.as_tensor(hits)
    if trials.ndim != 1 or len(trials) == 0:
        raise UserError(f"hits have shape {tuple(trials.shape)}: give (N,) with N of at least 1")
    if ((trials != 0) & (trials != 1)).any():
        raise UserError("hits hold values other than 0 and 1: give booleans")
    n = len(trials)
    share = int(trials.sum()) / n
    z = NormalDist().inv_cdf(UPPER)
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    shrink = 1 + z**2 / n
    low = 0.0 if share == 0 else (centre - half) / shrink
    high = 1.0 if share == 1 else (centre + half) / shrink
    return Estimate(share, low, high)


def batch_means(value: float, group_values: Sequence[float]) -> Estimate:
    """A figure on pooled samples with an interval from its spread over groups of them.

    value ± t_{0.975, R−1} · sd / √R, where sd (with R−1) is over the R groups. (The method of
    batch means; Schmeiser 1982, "Batch size effects in the analysis of simulation output".)

    It assumes that the groups are disjoint, equally large and independent, and so large that the
    figure is about normal with a variance that falls as 1/samples: then sd/√R is the standard
    error of the pooled figure. The groups give the width alone; the interval is centred on
    `value`. So a bias that depends on the number of samples, as that of the Fréchet distance,
    which is larger in each group than in the pool, does not shift it; nor is the bias that the
    pooled figure still has accounted for. Groups that share something, such as the real images or
    one trained model, say nothing about its share of the uncertainty.

    Args:
        value: the figure on all samples.
        group_values: the same figure on each of R ≥ 2 groups.

    Returns:
        The figure and its interval; neither end is clipped to the figure's range.

    Raises:
        UserError: fewer than two groups, or values that are not finite.
    """
    from scipy.special import stdtrit  # takes long to import

    groups = len(group_values)
    if groups < 2:
        raise UserError(f"{groups} group value(s): an interval needs 2 or more groups")
    if not all(math.isfinite(v) for v in (value, *group_values)):
        raise UserError("a group or pooled value is NaN or infinite: check the figure's inputs")
    half = float(stdtrit(groups - 1, UPPER)) * stdev(map(float, group_values)) / math.sqrt(groups)
    return Estimate(float(value), float(value) - half, float(value) + half)


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of a figure over n ≥ 2 independent seeds or draws, with Student's interval.

    mean ± t_{0.975, n−1} · sd / √n, with sd (n−1) over the values (Student 1908, "The probable
    error of a mean"). It holds 95 % if the values are independent and about normal; with 3 seeds
    t is 4.3, so the interval is wide. What the seeds share is not in it.

    Args:
        values: the figure of each seed.

    Returns:
        The mean and its interval; neither end is clipped to the figure's range.

    Raises:
        UserError: fewer than two values, or values that are not finite.
    """
    if len(values) < 2:
        raise UserError(f"{len(values)} value(s): an interval over seeds needs 2 or more")
    return batch_means(fmean(values), values)


def bootstrap(
    statistic: Callable[[Tensor], float], n: int, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """A figure of n samples with its percentile bootstrap interval.

    The figure is computed anew on n rows drawn with replacement, again and again; the ends are
    the 2.5 % and 97.5 % quantiles of what comes out (Efron 1979, "Bootstrap methods: another look
    at the jackknife"). The interval keeps to the figure's range and, where the figure is a mean or
    a smooth function of means, holds about 95 %; with fewer than some 20 samples clearly less.

    It is wrong for figures that repeated rows distort: the Fréchet distance, whose bias grows, the
    kernel distance and nearest neighbours, where a row meets itself. Their interval may even miss
    the figure; use `batch_means` for them. What all samples share is not in it.

    Args:
        statistic: the figure of the rows at the indices (n,), repeated ones included.
        n: the number of rows, at least 2.
        resamples: at least 100.
        seed: the seed of the draws.

    Returns:
        The figure on all rows and its interval.

    Raises:
        UserError: too few rows or resamples, or a figure that is not finite.
    """
    if n < 2 or resamples < 100:
        raise UserError(f"{n} rows and {resamples} resamples: give at least 2 and 100")
    generator, value = generator_for("bootstrap", seed), float(statistic(torch.arange(n)))
    figures = torch.tensor(
        [float(statistic(torch.randint(n, (n,), generator=generator))) for _ in range(resamples)],
        dtype=torch.float64,
    )
    if not (math.isfinite(value) and figures.isfinite().all()):
        raise UserError("the figure of a resample is NaN or infinite: check the figure's inputs")
    low, high = figures.quantile(torch.tensor([1 - UPPER, UPPER], dtype=torch.float64)).tolist()
    return Estimate(value, low, high)
