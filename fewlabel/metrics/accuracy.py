"""Generation accuracy: whether generated images look like the class that was asked for."""

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array

__all__ = ["generation_accuracy", "generation_hits"]


def generation_hits(log_prob: Array, labels: Array) -> Tensor:
    """Whether an independent classifier calls each generated image what was asked for.

    hit_i = [argmax_k log p(k|x_i) = y_i]. The judge must not be the classifier that guided the
    sampling: take one that was trained on the full labelled set. `proportion` of the hits gives
    the accuracy with its interval.

    Args:
        log_prob: (N, K) log-probabilities or logits of the judge.
        labels: (N,) the class asked for, integers in 0..K−1.

    Returns:
        (N,) booleans.

    Raises:
        UserError: shapes that do not fit, no samples, a NaN, or a label outside 0..K−1.
    """
    scores, y = torch.as_tensor(log_prob).detach(), torch.as_tensor(labels)
    if scores.ndim != 2 or y.shape != scores.shape[:1]:
        raise UserError(
            f"log_prob has shape {tuple(scores.shape)} and labels {tuple(y.shape)}: "
            "give (N, K) and (N,)"
        )
    if scores.numel() == 0:
        raise UserError("there are no generated samples to judge: generate some first")
    if scores.isnan().any():
        raise UserError("log_prob holds NaN: check the classifier and the generated images")
    if y.min() < 0 or y.max() >= scores.shape[1]:
        raise UserError(
            f"labels go from {int(y.min())} to {int(y.max())}, the classifier knows "
            f"0..{scores.shape[1] - 1}: use the classifier of this dataset"
        )
    return scores.argmax(1) == y.to(scores.device)


def generation_accuracy(log_prob: Array, labels: Array) -> float:
    """The share of generated images that an independent classifier calls what was asked for.

    (1/N) Σ_i [argmax_k log p(k|x_i) = y_i], the accuracy of Huang, Chen & Lin 2023, arXiv
    2307.04081. The classification accuracy score (CAS) of Ravuri & Vinyals 2019, arXiv
    1905.10887, is another thing: it trains on generated images and is tested on real ones.

    Args:
        log_prob: (N, K) log-probabilities or logits of the judge; see `generation_hits`.
        labels: (N,) the class asked for, integers in 0..K−1.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        UserError: as `generation_hits`.
    """
    return generation_hits(log_prob, labels).double().mean().item()
