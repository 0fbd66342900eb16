"""Guidance: functions that make a score function out of others.

A guided score is a score function like any other, so every sampler takes it unchanged. One
convention holds for every kind: scale 0 is the score itself, without guidance; scale 1 the
conditional one where guidance is toward a class.

Every kind is s(x,t) + w(t) d(x,t) with a direction d of its own. The scale w(t) is w inside the
guidance interval and 0 outside (Kynkäänniemi et al. 2024, arXiv 2404.07724). Where no sample is
inside, d is not evaluated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fewlabel.batch import labels_of
from fewlabel.errors import UserError
from fewlabel.process import broadcast
from fewlabel.score import ScoreFunction

__all__ = [
    "Kind",
    "LabelledScore",
    "auto",
    "classifier",
    "classifier_free",
    "conditional",
    "of_kind",
]

Kind = Literal["none", "classifier", "classifier-free", "conditional"]
"""What joins the models of a method; the last two are of a score model that takes labels."""

LabelledScore = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x: (B, ...), t: () or (B,), y: (B,)) → a score that depends on a class, shaped like x."""

Times = tuple[float, float] | None
"""(t_low, t_high) in the process's own time, or everywhere; `process.time_at` converts a σ/α."""


def check(scale: float, times: Times = None) -> None:
    """Refuse what the kinds of guidance refuse.

    Raises:
        UserError: for a scale that is negative or not finite, or an empty interval.
    """
    if not 0 <= scale < math.inf:  # NaN too
        raise UserError(
            f"guidance scale {scale:g} is not a finite number from 0 up; 0 is unconditional, 1 is "
            "Bayes"
        )
    if times is not None and not times[0] <= times[1]:  # NaN too
        raise UserError(f"guidance interval {times} is empty; give the lower end first")


@dataclass(frozen=True)
class _Guided:
    """s(x,t) + w(t) d(x,t); the direction d gets the value of s, which it may need."""

    score: ScoreFunction
    direction: Callable[[Tensor, Tensor, Tensor], Tensor]
    scale: float
    times: Times

    def __post_init__(self) -> None:
        check(self.scale, self.times)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score = self.score(x, t)
        if self.scale == 0:
            return score
        if self.times is None:  # nothing to look at: a GPU need not be waited for
            return score + self.scale * self.direction(x, t, score)
        low, high = self.times
        inside = (t >= low) & (t <= high)
        if not inside.any():
            return score
        added = self.scale * self.direction(x, t, score)
        return score + torch.where(broadcast(inside, x), added, torch.zeros_like(added))


def classifier(
    score: ScoreFunction,
    likelihood: LabelledScore,
    label: int | Tensor,
    scale: float = 1.0,
    times: Times = None,
) -> ScoreFunction:
    """Classifier guidance: s(x,t) + w(t) ∇_x log p(y|x,t).

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233.

    Args:
        score: the unconditional score function.
        likelihood: (x, t, y) → ∇_x log p(y|x,t), for example `model.likelihood_score` of a
            `NoisyClassifier`.
        label: the class asked for, or one class a sample, (B,).
        scale: w ≥ 0. At 1 the result is Bayes' rule, at 0 the unconditional score.
        times: (t_low, t_high) in the process's own time outside which there is no guidance.

    Raises:
        UserError: for a scale that is negative or not finite, or an empty interval.
    """
    return _Guided(score, lambda x, t, _: likelihood(x, t, labels_of(label, x)), scale, times)


def classifier_free(
    score: ScoreFunction,
    conditional_score: LabelledScore,
    label: int | Tensor,
    scale: float = 1.0,
    times: Times = None,
) -> ScoreFunction:
    """Classifier-free guidance: s(x,t,∅) + w(t) (s(x,t,y) − s(x,t,∅)).

    Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv 2207.12598. Their weight is
    w − 1: here scale 1 is the plain conditional score.

    Args:
        score: the unconditional score function s(x,t,∅).
        conditional_score: (x, t, y) → s(x,t,y).
        label: the class asked for, or one class a sample, (B,).
        scale: w ≥ 0.
        times: (t_low, t_high) in the process's own time outside which there is no guidance.

    Raises:
        UserError: for a scale that is negative or not finite, or an empty interval.
    """
    return _Guided(
        score,
        lambda x, t, base: conditional_score(x, t, labels_of(label, x)) - base,
        scale,
        times,
    )


def auto(
    score: ScoreFunction, weak: ScoreFunction, scale: float = 1.0, times: Times = None
) -> ScoreFunction:
    """Autoguidance: s(x,t) + w(t) (s(x,t) − s_weak(x,t)).

    Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", arXiv
    2406.02507; their weight is w + 1.

    Args:
        score: the score function.
        weak: that of a weaker model, such as an earlier checkpoint.
        scale: w ≥ 0; at 0 the result is `score`.
        times: (t_low, t_high) in the process's own time outside which there is no guidance.

    Raises:
        UserError: for a scale that is negative or not finite, or an empty interval.
    """
    return _Guided(score, lambda x, t, base: base - weak(x, t), scale, times)


def conditional(score: LabelledScore, label: int | Tensor) -> ScoreFunction:
    """The score of one class, s(x,t,y), with no guidance.

    `conditional(model.class_score, label)` of a `NoisyClassifier` is the classifier alone,
    ∇_x f(x,t)_y: the energy-based generator that it contains, a diagnostic.

    Args:
        score: (x, t, y) → the score of class y, from a conditional score model for example.
        label: the class asked for, or one class a sample, (B,).
    """
    return lambda x, t: score(x, t, labels_of(label, x))


def of_kind(
    kind: Kind,
    score: Any,
    likelihood: LabelledScore | None,
    label: int | Tensor,
    scale: float = 1.0,
    times: Times = None,
) -> ScoreFunction:
    """The guided score of a kind, from the models that it needs.

    Args:
        kind: how they are joined.
        score: the score model: s(x, t), and s(x, t, y) if it is conditional.
        likelihood: (x, t, y) → ∇_x log p(y|x,t), for the kind "classifier".
        label: the class asked for, or one class a sample, (B,).
        scale: w ≥ 0, where there is guidance.
        times: (t_low, t_high) in the process's own time outside which there is no guidance.

    Raises:
        UserError: for an unknown kind, a scale that is negative or not finite, an empty interval,
            or the kind "classifier" without a likelihood.
    """
    check(scale, times)
    if kind not in get_args(Kind):
        raise UserError(f"guidance {kind!r} is unknown; choose one of {', '.join(get_args(Kind))}")
    if kind == "classifier":
        if likelihood is None:
            raise UserError("guidance by a classifier needs its likelihood score: give one")
        return classifier(score, likelihood, label, scale, times)
    if kind == "classifier-free":
        return classifier_free(score, score, label, scale, times)
    return conditional(score, label) if kind == "conditional" else score
