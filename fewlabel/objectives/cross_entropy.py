"""Cross-entropy of a noise-conditional classifier."""

from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier, chosen_log_prob
from fewlabel.objectives.perturbation import perturb
from fewlabel.objectives.term import Term
from fewlabel.randomness import StepRandom

__all__ = ["CrossEntropy"]


class CrossEntropy(Term):
    """−log p_φ(y | x_t, t).

    Dhariwal & Nichol 2021, arXiv 2105.05233. The minimiser is p_t(y | x_t).

    Args:
        classifier: the classifier that is trained.
    """

    def __init__(self, classifier: NoisyClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); every example needs a label."""
        noisy = perturb(self.classifier.process, batch.x, random)
        return -chosen_log_prob(self.classifier(noisy.x, noisy.t), batch.y)
