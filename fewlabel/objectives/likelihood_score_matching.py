"""Denoising likelihood score matching (DLSM): the classifier's gradient is fitted to the score."""

import torch
from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives.perturbation import Weight, perturb, score_matching
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreFunction, score_weight

__all__ = ["LikelihoodScoreMatching"]


class LikelihoodScoreMatching(Term):
    """λ(t)/D · ½‖g_φ(x_t, t, y) + s_θ(x_t, t) + z/σ‖² with g_φ = ∇_x log p_φ(y | x_t, t).

    Chao et al. 2022, "Denoising Likelihood Score Matching for Conditional Score-based Data
    Generation", arXiv 2203.14206. Where s_θ is the true score, the minimiser is the true
    likelihood score ∇_x log p_t(y | x_t). D is the number of dimensions; their
    code takes the mean over dimensions, too. Of a teacher's probabilities y is drawn.

    Args:
        classifier: the classifier that is trained.
        score: the unconditional score function s_θ; it is not trained.
        times: the distribution of training times; None for that of the process, `default_times`.
        weight: λ(t); see `score_matching`.
    """

    double_backward = True

    def __init__(
        self,
        classifier: NoisyClassifier,
        score: ScoreFunction,
        times: Times | None = None,
        weight: Weight = score_weight,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.times, self.weight = times or default_times(classifier.process), weight
        self._score = (score,)  # in a tuple: a frozen model is no part of what is trained

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); every example needs a label or a teacher's."""
        classifier = self.classifier
        noisy = perturb(classifier.process, self.times, batch.x, random)
        y = batch.y if batch.q is None else _drawn(batch.q, random.quantiles_like(batch.q))
        likelihood_score = classifier.likelihood_score(noisy.x, noisy.t, y, create_graph=True)
        with torch.no_grad():
            score = self._score[0](noisy.x, noisy.t)
        joint, process = likelihood_score + score, classifier.process
        return score_matching(joint, noisy, process, classifier.sigma_data, self.weight)


def _drawn(q: Tensor, quantiles: Tensor) -> Tensor:
    """A class for each row of probabilities q, (B, K), by inversion of their sums; (B,)."""
    return (q.cumsum(1) < quantiles[:, None]).sum(1).clamp_max(q.shape[1] - 1)
