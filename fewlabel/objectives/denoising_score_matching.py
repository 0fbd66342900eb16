"""Denoising score matching (DSM), the objective of the score model."""

from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.objectives.perturbation import perturb, score_matching
from fewlabel.objectives.term import Term
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel

__all__ = ["DenoisingScoreMatching"]


class DenoisingScoreMatching(Term):
    """λ(t)/D · ½‖s_θ(x_t, t) + z/σ‖², a mean over the D dimensions.

    Vincent 2011, "A Connection Between Score Matching and Denoising Autoencoders"; Song et al.
    2021, arXiv 2011.13456. λ is `score_weight`. The minimiser is ∇_x log p_t(x).

    Args:
        score_model: the model that is trained.
    """

    def __init__(self, score_model: ScoreModel) -> None:
        super().__init__()
        self.score_model = score_model

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); labels are not used."""
        model = self.score_model
        noisy = perturb(model.process, batch.x, random)
        score = model(noisy.x, noisy.t)
        loss = score_matching(score, noisy, model.process, model.sigma_data)
        return loss / batch.x[0].numel()
