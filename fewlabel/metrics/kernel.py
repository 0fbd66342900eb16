"""The kernel distance between two sets of features.

MMD² = E k(a,a′) + E k(b,b′) − 2 E k(a,b) with k(a,b) = (aᵀb/d + 1)³, for independent a, a′ real
and b, b′ generated. Bińkowski et al. 2018, "Demystifying MMD GANs", arXiv 1801.01401.
"""

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_pair
from fewlabel.metrics.distances import blocks
from fewlabel.metrics.intervals import MeanStd
from fewlabel.randomness import generator_for

__all__ = ["kid"]


def kid(
    real: Array, fake: Array, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> MeanStd:
    """The kernel distance (KID) of Bińkowski et al. 2018, arXiv 1801.01401.

    The unbiased estimate of MMD² with k(a,b) = (aᵀb/d + 1)³ and d = F,

        Σ_{i≠j} k(a_i,a_j)/n(n−1) + Σ_{i≠j} k(b_i,b_j)/m(m−1) − 2 Σ_{i,j} k(a_i,b_j)/nm

    in float64. Unlike FID it has no bias, so it is the figure to take for few samples. Mean and
    standard deviation are over subsets of real and of generated samples, each drawn without
    replacement and of size min(subset_size, N, M). If subset_size is at least N and M, there is
    one subset, all samples (N ≠ M or not): the figure is theirs, and the standard deviation is 0,
    which says nothing of its uncertainty. Nor is the standard deviation an interval otherwise: it
    is the spread of one subset's figure, and subsets overlap.

    Args:
        real: (N, F) features, N ≥ 2.
        fake: (M, F) features of the same extractor, M ≥ 2.
        subsets: how many subsets, at least 1.
        subset_size: samples of either kind in a subset, at least 2.
        seed: the seed of the subsets.

    Returns:
        Mean and standard deviation (1/S) over the S subsets; a little below 0 is possible.

    Raises:
        UserError: not two dimensions, fewer than two samples, values that are not finite,
            different numbers of features, or subsets that are none.
    """
    a, b = checked_pair(real, fake)
    if subsets < 1 or subset_size < 2:
        raise UserError(
            f"{subsets} subsets of {subset_size} samples: give at least 1 of at least 2"
        )
    if subset_size >= max(len(a), len(b)):
        return MeanStd(_unbiased(a.double(), b.double()), 0.0)
    size, generator = min(subset_size, len(a), len(b)), generator_for("kid", seed)
    figures = []
    for _ in range(subsets):
        chosen = (x[torch.randperm(len(x), generator=generator)[:size]].double() for x in (a, b))
        figures.append(_unbiased(*chosen))
    values = torch.tensor(figures, dtype=torch.float64)
    return MeanStd(float(values.mean()), float(values.std(correction=0)))


def _unbiased(a: Tensor, b: Tensor) -> float:
    return _within(a) + _within(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def _within(x: Tensor) -> float:
    """The mean of k over all pairs of different samples."""
    own = (x.square().mean(1) + 1) ** 3
    return (_kernel_sum(x, x) - float(own.sum())) / (len(x) * (len(x) - 1))


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    """Σ_{i,j} k(a_i,b_j), a block at a time."""
    total = 0.0
    for _, rows in blocks(a):
        for _, others in blocks(b):
            base = rows.numpy() @ others.numpy().T  # NumPy sees where it is symmetric
            base *= 1 / a.shape[1]
            base += 1.0
            total += float((base * base * base).sum())
    return total
