"""Denoising score matching (DSM), the objective of the score model."""

import torch
from torch import Tensor

from fewlabel.batch import UNLABELLED, Batch
from fewlabel.objectives.perturbation import Weight, perturb, score_matching
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel, score_weight

__all__ = ["DenoisingScoreMatching"]


class DenoisingScoreMatching(Term):
    """λ(t)/D · ½‖s_θ(x_t, t) + z/σ‖², a mean over the D dimensions.

    Vincent 2011, "A Connection Between Score Matching and Denoising Autoencoders"; Song et al.
    2021, arXiv 2011.13456. The minimiser is ∇_x log p_t(x).

    Given labels, the model is conditional and the minimiser is ∇_x log p_t(x | y). Where labels
    are dropped at random, one network learns both scores, for classifier-free guidance (Ho &
    Salimans 2022, arXiv 2207.12598).

    Args:
        score_model: the model that is trained.
        dropout: the probability that a label is hidden from the network, in [0, 1]; None for an
            unconditional network, which gets no labels.
        times: the distribution of training times; None for that of the process, `default_times`.
        weight: λ(t); see `score_matching`.
    """

    def __init__(
        self,
        score_model: ScoreModel,
        dropout: float | None = None,
        times: Times | None = None,
        weight: Weight = score_weight,
    ) -> None:
        super().__init__()
        self.score_model = score_model
        self.dropout = dropout
        self.times, self.weight = times or default_times(score_model.process), weight

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,)."""
        model = self.score_model
        noisy = perturb(model.process, self.times, batch.x, random)
        y = None
        if self.dropout is not None:
            dropped = random.quantiles_like(batch.x) < self.dropout
            y = torch.where(dropped, UNLABELLED, batch.y)
        score = model(noisy.x, noisy.t, y)
        return score_matching(score, noisy, model.process, model.sigma_data, self.weight)
