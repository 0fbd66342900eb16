"""How far a classifier's confidence is from its accuracy."""

import torch
from torch import Tensor

__all__ = ["ece"]


def ece(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The expected calibration error Σ_b |B_b|/N · |accuracy(B_b) − confidence(B_b)|, in [0, 1].

    B_b holds the examples whose confidence, the largest probability, lies in ((b−1)/bins, b/bins].
    Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, after Naeini et
    al. 2015. With few examples a bin it is biased upwards.

    Args:
        probabilities: (N, K), each row with sum 1; N ≥ 1.
        labels: the classes, (N,).
        bins: how many bins of equal width.
    """
    confidence, predicted = probabilities.double().max(-1)
    excess = (predicted == labels).double() - confidence
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=excess.dtype, device=excess.device).index_add(0, index, excess)
    return float(gaps.abs().sum() / len(labels))
