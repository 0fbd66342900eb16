"""Euclidean distances between many samples, a block at a time.

‖a − b‖² = ‖a‖² + ‖b‖² − 2aᵀb in float64, kept in the precision of the samples. The memory is that
of two blocks of samples and of the distances between them, however many samples there are.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["between", "blocks", "smallest", "to_neighbour"]

_ROWS = 1024


def blocks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive rows of x, (N, F), and where they are; float64."""
    for begin in range(0, len(x), _ROWS):
        rows = slice(begin, min(begin + _ROWS, len(x)))
        yield rows, x[rows].double()


def between(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """The distances between the rows of two blocks, (n, m), for a (n, F) and b (m, F).

    Their error is about 1e-16 ‖a‖²/‖a − b‖: far neighbours are exact, copies only nearly.

    Args:
        a: a block, float64.
        b: another, float64.
        dtype: the precision of the samples, in which distances are compared.
    """
    squares = torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1)[:, None])
    kept = squares.clamp_min_(0.0).to(dtype)
    np.sqrt(kept.numpy(), out=kept.numpy())  # correctly rounded, as torch.sqrt is not
    return kept


def smallest(kept: Tensor, values: Tensor) -> Tensor:
    """The k smallest of each row of kept (n, k) and values (n, m) together, in order."""
    k = kept.shape[1]
    candidates = values.topk(min(k, values.shape[1]), largest=False, sorted=False).values
    return torch.cat([kept, candidates], 1).topk(k, largest=False).values


def to_neighbour(x: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """The distance of each sample of x, (N, F), to its k-th nearest other one, (N,)."""
    nearest = torch.full((len(x), k), torch.inf, dtype=dtype)
    for rows, a in blocks(x):
        for columns, b in blocks(x[: rows.stop]):  # the other half is its mirror image
            distances = between(a, b, dtype)
            if columns == rows:
                nearest[rows] = smallest(nearest[rows], distances.fill_diagonal_(torch.inf))
            else:
                nearest[rows] = smallest(nearest[rows], distances)
                nearest[columns] = smallest(nearest[columns], distances.T)
    return nearest[:, -1]
