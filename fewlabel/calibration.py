"""Calibration of a classifier: does it hit as often as it is sure?

In each of B equal bins of confidence, with the share w_b of the examples, the mean confidence and
the accuracy are compared; the expected calibration error is

    ECE = Σ_b w_b |accuracy_b − confidence_b|

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabel.errors import UserError

__all__ = ["Reliability", "ece", "reliability"]

BINS = 15
_TOLERANCE = 1e-4  # of a sum of probabilities from one


@dataclass(frozen=True)
class Reliability:
    """The bins that hold any example, in order of confidence; each (b,), float64.

    Attributes:
        confidence: mean probability of the predicted class, in [0, 1].
        accuracy: share of right predictions, in [0, 1].
        share: share of the examples, in (0, 1]; the sum is 1.
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor

    @property
    def ece(self) -> float:
        """Σ_b w_b |accuracy_b − confidence_b|, in [0, 1]."""
        return float((self.share * (self.accuracy - self.confidence).abs()).sum())


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Confidence and accuracy by bins of confidence, ((b−1)/B, b/B].

    Args:
        probabilities: of each class, (N, K), on any device; the rows sum to one within 1e-4,
            as a softmax in float32 does.
        labels: the true classes, (N,), in 0..K−1.
        bins: B, at least 1.

    Raises:
        UserError: for other shapes, no examples, rows that are no probabilities, or labels of no
            class.
    """
    p, y = probabilities.detach().cpu().double(), labels.cpu()
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(p) or bins < 1:
        raise UserError(
            f"probabilities {tuple(p.shape)}, labels {tuple(y.shape)} and {bins} bins do not fit: "
            "give (N, K), (N,) and at least one bin"
        )
    if not (p.min() >= 0 and (p.sum(1) - 1).abs().max() < _TOLERANCE):  # NaN too
        raise UserError("rows of probabilities do not sum to one: give a softmax")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise UserError(
            f"labels go from {int(y.min())} to {int(y.max())}, the classes from 0 to "
            f"{p.shape[1] - 1}: leave out what has no label"
        )
    confidence, predicted = p.max(1)
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    counts, sums, hits = (
        bin_of.bincount(values, minlength=bins)
        for values in (torch.ones_like(confidence), confidence, (predicted == y).double())
    )
    filled = counts > 0
    counts, sums, hits = counts[filled], sums[filled], hits[filled]
    return Reliability(sums / counts, hits / counts, counts / len(p))


def ece(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """The expected calibration error, in [0, 1]; see `reliability` for the arguments."""
    return reliability(probabilities, labels, bins).ece
