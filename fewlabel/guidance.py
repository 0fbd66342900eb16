"""Guidance: functions that make a score function out of others.

A guided score is a score function like any other, so every sampler takes it unchanged. One
convention holds for every kind: scale 0 is the unconditional score, scale 1 the conditional one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process import broadcast
from fewlabel.score import ScoreFunction

__all__ = ["ClassifierGuidance", "LikelihoodScore", "classifier"]

LikelihoodScore = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x: (B, ...), t: () or (B,), y: (B,)) → ∇_x log p(y|x,t), shaped like x."""


@dataclass(frozen=True)
class ClassifierGuidance:
    """The score function that `classifier` returns."""

    score: ScoreFunction
    likelihood: LikelihoodScore
    label: int | Tensor
    scale: float
    interval: tuple[float, float] | None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided score at x (B, ...) and t, () or (B,)."""
        score = self.score(x, t)
        weight = torch.full_like(t, self.scale)
        if self.interval is not None:
            low, high = self.interval
            weight = torch.where((t >= low) & (t <= high), weight, 0.0)
        if not weight.any():
            return score
        y = torch.as_tensor(self.label, device=x.device).expand(len(x))
        return score + broadcast(weight, x) * self.likelihood(x, t, y)


def classifier(
    score: ScoreFunction,
    likelihood: LikelihoodScore,
    label: int | Tensor,
    scale: float = 1.0,
    interval: tuple[float, float] | None = None,
) -> ClassifierGuidance:
    """Classifier guidance: s(x,t) + w(t) ∇_x log p(y|x,t).

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233. The
    interval, outside which w = 0 and the classifier is not evaluated, is that of Kynkäänniemi et
    al. 2024, arXiv 2404.07724.

    Args:
        score: the unconditional score function.
        likelihood: (x, t, y) → ∇_x log p(y|x,t), for example `NoisyClassifier.likelihood_score`.
        label: the class asked for, or one class a sample, (B,).
        scale: w ≥ 0. At 1 the result is Bayes' rule, at 0 the unconditional score.
        interval: (t_low, t_high) in the process's own time; `process.time_at` converts a σ.

    Raises:
        UserError: for a negative or infinite scale or an empty interval.
    """
    if not 0 <= scale < math.inf:  # NaN too
        raise UserError(
            f"guidance scale {scale:g} is not a finite number from 0 up; 0 is unconditional, "
            f"1 is Bayes"
        )
    if interval is not None and not interval[0] <= interval[1]:
        raise UserError(f"guidance interval {interval} is empty; give the lower end first")
    return ClassifierGuidance(score, likelihood, label, scale, interval)
