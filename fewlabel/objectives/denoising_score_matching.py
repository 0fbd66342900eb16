"""Denoising score matching (DSM), the objective of the score model."""

from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.objectives.term import Term
from fewlabel.process import broadcast
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel, score_weight

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
        process = self.score_model.process
        t = process.training_time(random.quantiles_like(batch.x))
        noise = random.normal_like(batch.x)
        x_t = process.perturb(batch.x, t, noise)
        error = self.score_model(x_t, t) + noise / broadcast(process.sigma(t), noise)
        weight = score_weight(process, t, self.score_model.sigma_data)
        return weight * error.square().flatten(1).mean(1) / 2
