"""Whether generated samples are copies of training samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_pair
from fewlabel.metrics.distances import between, blocks
from fewlabel.metrics.intervals import Estimate, proportion

__all__ = ["Nearest", "memorised", "nearest"]


@dataclass(frozen=True)
class Nearest:
    """The nearest training sample of each of M generated ones; each (M,).

    Attributes:
        distance: Euclidean distance to it, float64.
        index: its row among the training samples.
        ratio: the distance divided by that to the second nearest, in [0, 1]; 0 for a copy.
    """

    distance: Tensor
    index: Tensor
    ratio: Tensor


def nearest(real: Array, fake: Array) -> Nearest:
    """For each generated sample the nearest training sample, in the space of the features.

    d_i = min_j ‖g_i − x_j‖. Candidates are found a block at a time; their distances are then
    computed from the differences, so that a copy is at distance 0 exactly.

    Args:
        real: (N, F) features or pixels of the training samples, N ≥ 2.
        fake: (M, F) the same of generated samples, M ≥ 1.

    Returns:
        Distances, indices and ratios, in the order of the generated samples.

    Raises:
        UserError: not two dimensions, too few samples, values that are not finite, or different
            numbers of features.
    """
    rows, others = checked_pair(real, fake, 2, 1)
    distances, indices = [], []
    for _, a in blocks(others):
        found, index = _two_nearest(a, rows)
        distances.append(found)
        indices.append(index)
    near, index = torch.cat(distances), torch.cat(indices)
    ratio = torch.where(near[:, 1] > 0, near[:, 0] / near[:, 1], 0.0)
    return Nearest(near[:, 0], index[:, 0], ratio)


def memorised(found: Nearest, threshold: float = 1 / 3) -> Estimate:
    """The share of generated samples that are much nearer to one training sample than to others.

    The share with d_1/d_2 < 1/3, where d_1 and d_2 are the distances to the nearest and to the
    second nearest training sample. Yoon et al. 2023, "Diffusion Probabilistic Models Generalize
    when They Fail to Memorize"; Gu et al. 2023, "On Memorization in Diffusion Models", arXiv
    2310.02664, who measure distances between pixels. A training sample with a near duplicate can
    be copied without being counted, and in few dimensions (2, say) the ratio is often small by
    chance: held-out real samples in the place of generated ones give the level to compare with.

    Args:
        found: what `nearest` returns.
        threshold: in (0, 1].

    Returns:
        The share in [0, 1] with Wilson's interval; see `proportion`.

    Raises:
        UserError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold {threshold:g}: give a ratio in (0, 1]")
    return proportion(found.ratio < threshold)


def _two_nearest(a: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to the two nearest rows of real and their indices, in order; each (m, 2)."""
    found_distances, indices = [], []
    for part, b in blocks(real):
        distances = between(a, b, torch.float64)
        found = distances.topk(min(2, len(b)), largest=False)
        found_distances.append(found.values)
        indices.append(found.indices + part.start)
    best = torch.cat(found_distances, 1).topk(2, largest=False).indices
    index = torch.cat(indices, 1).gather(1, best)
    exact = torch.stack([(a - real[index[:, i]]).norm(dim=1) for i in range(2)], 1)
    near, order = exact.sort(dim=1, stable=True)
    return near, index.gather(1, order)
