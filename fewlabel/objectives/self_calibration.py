"""Self-calibration: the classifier's own energy is fitted to the data's score."""

from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives.perturbation import Weight, perturb, score_matching
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.randomness import StepRandom
from fewlabel.score import score_weight

__all__ = ["SelfCalibration"]


class SelfCalibration(Term):
    """λ(t)/D · ½‖s_φ(x_t, t) + z/σ‖² with the internal score s_φ = ∇_x logsumexp_y f_φ(x, t)_y.

    Huang, Chen & Lin 2023, arXiv 2307.04081. It needs no labels: on labelled and unlabelled data
    alike it regularises the classifier through the weights that score and classes share. D
    is the number of dimensions: a weight w of this loss is w/D on the sum over
    dimensions, as the paper writes it.

    Args:
        classifier: the classifier that is trained.
        times: the distribution of training times; None for that of the process, `default_times`.
        weight: λ(t); see `score_matching`.
    """

    double_backward = True

    def __init__(
        self,
        classifier: NoisyClassifier,
        times: Times | None = None,
        weight: Weight = score_weight,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.times, self.weight = times or default_times(classifier.process), weight

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); labels are not used."""
        classifier = self.classifier
        noisy = perturb(classifier.process, self.times, batch.x, random)
        internal_score = classifier.internal_score(noisy.x, noisy.t, create_graph=True)
        process, sigma_data = classifier.process, classifier.sigma_data
        return score_matching(internal_score, noisy, process, sigma_data, self.weight)
