"""Jacobian regularisation of a classifier."""

from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier, input_grad
from fewlabel.objectives.perturbation import perturb
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.process import broadcast
from fewlabel.randomness import StepRandom

__all__ = ["JacobianPenalty"]


class JacobianPenalty(Term):
    """σ(t)² ‖∂(f − mean_k f)/∂x‖_F², estimated without bias by one random projection.

    ‖J‖_F² = K E‖vᵀJ‖² for v uniform on the unit sphere of R^K. Hoffman, Roberts & Yaida 2019,
    "Robust Learning with Jacobian Regularization", arXiv 1908.02729. The logits are centred,
    since what all classes share does not guide; σ² makes the penalty of one size at every noise
    level.

    Args:
        classifier: the classifier that is trained.
        times: the distribution of training times; None for that of the process, `default_times`.
    """

    double_backward = True

    def __init__(self, classifier: NoisyClassifier, times: Times | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.times = times or default_times(classifier.process)

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The penalty of each example, (B,); labels are not used."""
        process = self.classifier.process
        noisy = perturb(process, self.times, batch.x, random)

        def projected(f: Tensor) -> Tensor:
            """√K vᵀ(f − mean_k f)."""
            v = random.normal_like(f)
            v = v / v.norm(dim=1, keepdim=True)
            return f.shape[1] ** 0.5 * ((f - f.mean(1, keepdim=True)) * v).sum(1)

        gradient = input_grad(
            lambda x: self.classifier(x, noisy.t), projected, noisy.x, create_graph=True
        )
        scaled = gradient * broadcast(process.sigma(noisy.t), gradient)
        return scaled.square().flatten(1).sum(1)
