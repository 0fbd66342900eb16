"""What metrics accept, and the errors for what they cannot judge."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.errors import UserError

__all__ = [
    "Array",
    "checked_features",
    "checked_pair",
    "checked_scores",
    "finite",
    "refuse_other_width",
]

Array = Tensor | NDArray[Any]
"""What a metric accepts: a tensor on any device, or a NumPy array."""


def checked_features(features: Array, name: str, least: int = 2) -> Tensor:
    """Features (N, F) as a float32 or float64 tensor on the CPU.

    Args:
        features: (N, F) numbers; other than float32 they become float64.
        name: "real" or "fake", for the message.
        least: how many samples are needed.

    Raises:
        UserError: not two dimensions, fewer samples or no features, NaN or infinite values.
    """
    rows = torch.as_tensor(features).detach().cpu()
    if rows.ndim != 2:
        raise UserError(f"{name} features have shape {tuple(rows.shape)}: give (N, F)")
    if len(rows) < least or not rows.shape[1]:
        raise UserError(
            f"{name} features: {len(rows)} sample(s) of {rows.shape[1]} dimensions: "
            f"give at least {least} of at least 1"
        )
    return finite(rows if rows.dtype == torch.float32 else rows.double(), f"{name} features")


def checked_pair(
    real: Array, fake: Array, least: int = 2, least_fake: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features of real and of generated samples, from one extractor; see `checked_features`."""
    rows = checked_features(real, "real", least)
    others = checked_features(fake, "fake", least if least_fake is None else least_fake)
    refuse_other_width(rows.shape[1], others.shape[1])
    return rows, others


def refuse_other_width(real: int, fake: int) -> None:
    """Raise a `UserError` if the numbers of features differ."""
    if real != fake:
        raise UserError(
            f"real features have {real} dimensions and fake ones {fake}: "
            "use the same feature extractor for both"
        )


def checked_scores(log_prob: Array) -> Tensor:
    """A judge's log-probabilities or logits, (N, K), normalised: float64 on the CPU.

    Raises:
        UserError: not two dimensions, no samples, probabilities, or rows that are no logits.
    """
    scores = torch.as_tensor(log_prob).detach().to("cpu", torch.float64)
    if scores.ndim != 2 or not scores.numel():
        raise UserError(f"log_prob has shape {tuple(scores.shape)}: give (N, K)")
    if (scores >= 0).all() and ((scores.sum(1) - 1).abs() < 1e-3).all():
        raise UserError("log_prob holds probabilities: give their logarithms, or logits")
    normalised = scores.log_softmax(1)
    if normalised.isnan().any():  # −inf is a probability of 0; NaN, +inf or all −inf is not
        raise UserError("log_prob holds NaN: check the classifier and the generated images")
    return normalised


def finite(values: Tensor, name: str) -> Tensor:
    """The values, if there are any and none is NaN or infinite; otherwise a `UserError`."""
    if not values.numel():
        raise UserError(f"{name}: empty, shape {tuple(values.shape)}: give values")
    low, high = values.aminmax()  # faster than isfinite, and NaN goes through
    if not (low.isfinite() and high.isfinite()):
        bad = int((~values.isfinite()).sum())
        raise UserError(f"{name}: {bad} value(s) are NaN or infinite: check images and extractor")
    return values
