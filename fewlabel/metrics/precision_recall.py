"""Precision, recall, density and coverage of generated samples, by nearest neighbours."""

import torch

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_pair
from fewlabel.metrics.distances import between, blocks, to_neighbour

__all__ = ["prdc"]


def prdc(real: Array, fake: Array, k: int) -> dict[str, float]:
    """How far generated samples lie among real ones, and real among generated.

    Let B(x) be the open ball around x that reaches its k-th nearest neighbour in its own set, as
    in the code of Naeem et al.; more than k equal samples have radius 0, and hold nothing.

        precision  share of fake samples in at least one B(real)
        recall     share of real samples in at least one B(fake)
        density    mean number of the B(real) that hold a fake sample, divided by k
        coverage   share of the B(real) that hold at least one fake sample

    Precision and recall: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for
    Assessing Generative Models", arXiv 1904.06991. Density and coverage: Naeem et al. 2020,
    "Reliable Fidelity and Diversity Metrics for Generative Models", arXiv 2002.09797. All but
    density lie in [0, 1]; all depend on the numbers of samples. Distances are computed in float64,
    a block at a time, and compared in the precision of the features.

    Args:
        real: features of real samples, (N, F).
        fake: features of generated samples, (M, F).
        k: the neighbour that sets the radius, at least 1 and less than N and M.

    Returns:
        The four figures by name.

    Raises:
        UserError: for shapes that do not fit, values that are not finite, or too few samples.
    """
    rows, others = checked_pair(real, fake)
    if not 1 <= k < min(len(rows), len(others)):
        raise UserError(
            f"k={k} with {len(rows)} real and {len(others)} generated samples: "
            "give at least 1, and more samples than k of both"
        )
    dtype = torch.promote_types(rows.dtype, others.dtype)
    of_real, of_fake = to_neighbour(rows, k, dtype), to_neighbour(others, k, dtype)
    holding = torch.zeros(len(others), dtype=torch.long)  # the B(real) that hold a fake sample
    held = torch.zeros(len(rows), dtype=torch.bool)  # the B(real) that hold any
    covered = torch.zeros(len(rows), dtype=torch.bool)  # the real samples in any B(fake)
    for part, a in blocks(others):
        for columns, b in blocks(rows):
            distances = between(a, b, dtype)
            inside = distances < of_real[columns]
            holding[part] += inside.sum(1)
            held[columns] |= inside.any(0)
            covered[columns] |= (distances < of_fake[part, None]).any(0)
    return {
        "precision": float((holding > 0).double().mean()),
        "recall": float(covered.double().mean()),
        "density": 1 / k * float(holding.double().mean()),
        "coverage": float(held.double().mean()),
    }
