"""Precision, recall, density and coverage of generated samples, by nearest neighbours."""

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.frechet import Array

__all__ = ["prdc"]

_BLOCK = 2**24
"""Distances held at a time: 128 MB."""


def prdc(real: Array, fake: Array, k: int) -> dict[str, float]:
    """How far generated samples lie among real ones, and real among generated.

    Let B(x) be the open ball around x that reaches its k-th nearest neighbour in its own set.

        precision  share of fake samples in at least one B(real)
        recall     share of real samples in at least one B(fake)
        density    mean number of the B(real) that hold a fake sample, divided by k
        coverage   share of the B(real) that hold at least one fake sample

    Precision and recall: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for
    Assessing Generative Models", arXiv 1904.06991. Density and coverage: Naeem et al. 2020,
    "Reliable Fidelity and Diversity Metrics for Generative Models", arXiv 2002.09797. All but
    density lie in [0, 1]; all depend on the numbers of samples.

    Args:
        real: features of real samples, (N, F).
        fake: features of generated samples, (M, F).
        k: the neighbour that sets the radius, at least 1 and less than N and M.

    Returns:
        The four figures by name.

    Raises:
        UserError: for shapes that do not fit, values that are not finite, or too few samples.
    """
    real, fake = (torch.as_tensor(v).double() for v in (real, fake))
    _check(real, fake, k)
    of_real, of_fake = _radii(real, k), _radii(fake, k)
    in_real, in_fake, holds = [], [], torch.zeros(len(real), dtype=torch.bool)
    for block in fake.split(_rows(real)):
        inside = torch.cdist(block, real) < of_real
        in_real.append(inside.sum(1))
        holds |= inside.any(0).cpu()
    for block in real.split(_rows(fake)):
        in_fake.append((torch.cdist(block, fake) < of_fake).any(1))
    counts, covered = torch.cat(in_real).double(), torch.cat(in_fake).double()
    return {
        "precision": float((counts > 0).double().mean()),
        "recall": float(covered.mean()),
        "density": float(counts.mean()) / k,
        "coverage": float(holds.double().mean()),
    }


def _radii(x: Tensor, k: int) -> Tensor:
    """The distance of each sample to its k-th nearest neighbour, (N,)."""
    blocks = [torch.cdist(block, x).kthvalue(k + 1).values for block in x.split(_rows(x))]
    return torch.cat(blocks)  # k + 1: each sample is its own nearest neighbour


def _rows(x: Tensor) -> int:
    return max(1, _BLOCK // len(x))


def _check(real: Tensor, fake: Tensor, k: int) -> None:
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        raise UserError(
            f"features have shapes {tuple(real.shape)} and {tuple(fake.shape)}: "
            "give (N, F) and (M, F)"
        )
    if not 1 <= k < min(len(real), len(fake)):
        raise UserError(
            f"k={k} with {len(real)} real and {len(fake)} generated samples: "
            "give at least 1, and more samples than k of both"
        )
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise UserError("features hold values that are not finite: check the samples")
