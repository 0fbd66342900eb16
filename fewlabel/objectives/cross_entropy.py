"""Cross-entropy of a noise-conditional classifier: with labels, a teacher's, adversarial."""

import torch
from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier, chosen_log_prob, input_grad
from fewlabel.objectives.perturbation import Perturbed, perturb
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.process import broadcast
from fewlabel.randomness import StepRandom

__all__ = ["AdversarialCrossEntropy", "CrossEntropy", "TaughtCrossEntropy"]


class CrossEntropy(Term):
    """−Σ_k q_k log p_φ(k | x_t, t) with q = (1 − ε) onehot(y) + ε/K.

    With ε = 0 it is −log p_φ(y | x_t, t), whose minimiser is p_t(y | x_t) (Dhariwal & Nichol 2021,
    arXiv 2105.05233); otherwise label smoothing (Szegedy et al. 2016, "Rethinking the Inception
    Architecture for Computer Vision", arXiv 1512.00567).

    Args:
        classifier: the classifier that is trained.
        smoothing: ε in [0, 1).
        times: the distribution of training times; None for that of the process, `default_times`.
    """

    def __init__(
        self, classifier: NoisyClassifier, smoothing: float = 0.0, times: Times | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.smoothing = smoothing
        self.times = times or default_times(classifier.process)

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); every example needs a label."""
        noisy = perturb(self.classifier.process, self.times, batch.x, random)
        logits = self.classifier(noisy.x, noisy.t)
        uniform = logits.log_softmax(-1).mean(-1)
        chosen = chosen_log_prob(logits, batch.y)
        return -((1 - self.smoothing) * chosen + self.smoothing * uniform)


class TaughtCrossEntropy(Term):
    """−Σ_k q_k log p_φ(k | x_t, t) with the class probabilities q(k | x0) of a teacher.

    Its minimiser is Σ_x0 p(x0 | x_t) q(k | x0), the expectation of the teacher's probabilities
    over what the noisy sample may have been: where q(k | x0) = p(k | x0) that is p_t(k | x_t), at
    every noise level, and the gradient of its logarithm is the likelihood score. So all data
    train the classifier, though few have a label.

    Args:
        classifier: the classifier that is trained.
        times: the distribution of training times; None for that of the process, `default_times`.
    """

    def __init__(self, classifier: NoisyClassifier, times: Times | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.times = times or default_times(classifier.process)

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,).

        Raises:
            ValueError: without a teacher's probabilities in the batch.
        """
        if batch.q is None:
            raise ValueError("no probabilities of a teacher in the batch")
        noisy = perturb(self.classifier.process, self.times, batch.x, random)
        return -(batch.q * self.classifier(noisy.x, noisy.t).log_softmax(-1)).sum(-1)


class AdversarialCrossEntropy(Term):
    """−log p_φ(y | x_t + δ, t) with the δ of a ball that projected gradient ascent finds worst.

    δ ← project(δ + η ∇/‖∇‖), ‖δ‖ ≤ ρ √D σ(t). Kawar, Ganz & Elad 2022, "Enhancing Diffusion-Based
    Image Synthesis with Robust Classifier Guidance", arXiv 2208.08664; the radius grows with the
    noise, so that it means the same at every level.

    Args:
        classifier: the classifier that is trained.
        radius: ρ, greater than 0.
        steps: ascent steps, each of size η = 2ρ√D σ/steps.
        times: the distribution of training times; None for that of the process, `default_times`.
    """

    def __init__(
        self,
        classifier: NoisyClassifier,
        radius: float = 0.2,
        steps: int = 3,
        times: Times | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.times = times or default_times(classifier.process)
        self.radius, self.steps = radius, steps

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); every example needs a label."""
        noisy = perturb(self.classifier.process, self.times, batch.x, random)
        worst = noisy.x + self._attack(noisy, batch.y)
        return -chosen_log_prob(self.classifier(worst, noisy.t), batch.y)

    def _attack(self, noisy: Perturbed, y: Tensor) -> Tensor:
        size = self.radius * noisy.x[0].numel() ** 0.5
        limit = broadcast(size * self.classifier.process.sigma(noisy.t), noisy.x)
        delta = torch.zeros_like(noisy.x)
        for _ in range(self.steps):
            gradient = input_grad(
                lambda x: self.classifier(x, noisy.t),
                lambda f: _log_odds_against(f, y),
                noisy.x + delta,
            )
            delta = delta + 2 * limit / self.steps * gradient / _norms(gradient)
            delta = delta * torch.clamp(limit / _norms(delta), max=1)
        return delta.detach()


def _log_odds_against(logits: Tensor, y: Tensor) -> Tensor:
    """The log of the odds against y, log Σ_{k≠y} exp f_k − f_y, (B,).

    −log p_y is its softplus and grows in the same direction, but where p_y is near 1 the gradient
    of −log p_y is a difference that has lost its digits.
    """
    others = logits.scatter(-1, y[:, None], -torch.inf).logsumexp(-1)
    return others - logits.gather(-1, y[:, None]).squeeze(-1)


def _norms(x: Tensor) -> Tensor:
    """‖x_b‖ of each sample, not below the smallest normal number, shaped to divide x."""
    norms = x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    return broadcast(norms, x)
