"""What holds for every loss: its gradient, its minimiser, its rows."""

from collections.abc import Callable

import pytest
import torch
from mixtures import ExactDenoiser, MixtureParameters, SmoothNetwork, three_classes
from objective_cases import (
    PROCESS,
    SIGMA_DATA,
    conv_classifier,
    exact_classifier,
    exact_draws,
    gradient_in_standard_errors,
    images,
    mlp_classifier,
    points,
    slopes,
)
from torch import Tensor

from fewlabel.batch import UNLABELLED, Batch
from fewlabel.networks.perceptron import Perceptron
from fewlabel.objectives import (
    AdversarialCrossEntropy,
    CrossEntropy,
    DenoisingScoreMatching,
    JacobianPenalty,
    JointEnergy,
    LikelihoodScoreMatching,
    SelfCalibration,
    Term,
)
from fewlabel.oracle import GaussianMixture
from fewlabel.process import broadcast
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel


class ExactChains(JointEnergy):
    """Its chains end as exact draws of the density that its energy has."""

    @torch.no_grad()
    def _langevin(self, x: Tensor, t: Tensor, random: StepRandom) -> Tensor:
        network = self.classifier.network
        of_energy = network.log_weights.softmax(0), network.means, network.log_stds.exp()
        return exact_draws(GaussianMixture(*of_energy), t, random)


class FixedAttack(AdversarialCrossEntropy):
    """Its δ does not depend on the classifier."""

    def _attack(self, noisy, y: Tensor) -> Tensor:
        return 0.3 * broadcast(noisy.t, noisy.x) * torch.cos(noisy.x)


def own_score(x: Tensor, t: Tensor) -> Tensor:
    """Some score function, smooth and wrong."""
    return -torch.tanh(x) / (1 + broadcast(t, x) ** 2)


def conditional_model(dropout: float) -> DenoisingScoreMatching:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Perceptron(2, 2, 8, 2, classes=3)
    return DenoisingScoreMatching(ScoreModel(network, PROCESS, SIGMA_DATA).double(), dropout)


GRADIENTS: dict[str, tuple[Callable[[], Term], Batch]] = {
    "sc-mlp": (lambda: SelfCalibration(mlp_classifier()), points(32)),
    "sc-conv": (lambda: SelfCalibration(conv_classifier()), images(4)),
    "ce-conv": (lambda: CrossEntropy(conv_classifier()), images(4)),
    "ls-conv": (lambda: CrossEntropy(conv_classifier(), 0.2), images(4)),
    "at-mlp": (lambda: FixedAttack(mlp_classifier()), points(32)),
    "jr-mlp": (lambda: JacobianPenalty(mlp_classifier()), points(32)),
    "jr-conv": (lambda: JacobianPenalty(conv_classifier()), images(4)),
    "dlsm-mlp": (lambda: LikelihoodScoreMatching(mlp_classifier(), own_score), points(32)),
    "dlsm-conv": (lambda: LikelihoodScoreMatching(conv_classifier(), own_score), images(4)),
    # with no steps the chains are what they start from, whatever the parameters
    "jem-mlp": (lambda: JointEnergy(mlp_classifier(), (2,), 64, steps=0).double(), points(32)),
    "jem-conv": (
        lambda: JointEnergy(conv_classifier(), (1, 8, 8), 8, steps=0).double(),
        images(4),
    ),
    "dsm-mlp": (
        lambda: DenoisingScoreMatching(
            ScoreModel(SmoothNetwork(2, 2).double(), PROCESS, SIGMA_DATA)
        ),
        points(32),
    ),
    "dsm-conditional": (lambda: conditional_model(0.2), points(32)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_agree_with_central_differences(name: str) -> None:
    build, batch = GRADIENTS[name]
    pairs = slopes(build(), batch)
    scale = max(abs(automatic) for automatic, _ in pairs)
    assert scale > 1e-3
    for automatic, difference in pairs:
        assert automatic == pytest.approx(difference, abs=1e-7 * scale)


def denoising(mixture: GaussianMixture, dropout: float | None) -> DenoisingScoreMatching:
    model = ScoreModel(ExactDenoiser(mixture, SIGMA_DATA), PROCESS, SIGMA_DATA)
    if dropout == 0:  # then the weights of the classes do not matter
        model.network.log_weights.requires_grad_(False)
    return DenoisingScoreMatching(model, dropout)


TERMS: dict[str, Callable[[GaussianMixture], Term]] = {
    "sc-scaled": lambda mixture: SelfCalibration(exact_classifier("scaled", mixture)),
    "sc-plain": lambda mixture: SelfCalibration(exact_classifier("plain", mixture)),
    "ce": lambda mixture: CrossEntropy(exact_classifier("scaled", mixture)),
    "dlsm": lambda mixture: LikelihoodScoreMatching(
        exact_classifier("scaled", mixture), three_classes().score(PROCESS)
    ),
    "jem": lambda mixture: ExactChains(
        exact_classifier("scaled", mixture), (2,), 512, steps=1
    ).double(),
    "dsm": lambda mixture: denoising(mixture, None),
    "dsm-conditional": lambda mixture: denoising(mixture, 0.0),
    "dsm-dropout": lambda mixture: denoising(mixture, 0.25),
}
every_term = pytest.mark.parametrize("name", TERMS)


def spoil(term: Term) -> None:
    for module in term.modules():
        if isinstance(module, MixtureParameters):
            module.perturbed(0.3)


@every_term
def test_the_gradient_vanishes_at_the_truth_and_only_there(name: str) -> None:
    term = TERMS[name](three_classes())
    at_truth = gradient_in_standard_errors(term)
    assert at_truth.shape == (9 if name == "dsm-conditional" else 12,)
    assert at_truth.abs().max() < 4
    spoil(term)
    elsewhere = gradient_in_standard_errors(term)
    assert elsewhere.abs().max() > 10


@pytest.mark.parametrize("name", [name for name in TERMS if name != "jem"])
def test_the_loss_is_smallest_at_the_truth(name: str) -> None:
    """With the same noise on both sides. (The value of JEM's loss is no likelihood.)"""
    truth, other = TERMS[name](three_classes()), TERMS[name](three_classes())
    spoil(other)
    excess = []
    with torch.no_grad():
        for step in range(40):
            batch = points(512, seed=step)
            values = [term(batch, StepRandom(0, step)).mean() for term in (other, truth)]
            excess.append(values[0] - values[1])
    table = torch.stack(excess)
    assert table.mean() > 5 * table.std() / len(table) ** 0.5


ROWS: dict[str, Callable[[], Term]] = {
    "sc": lambda: SelfCalibration(conv_classifier()),
    "ce": lambda: CrossEntropy(conv_classifier()),
    "ls": lambda: CrossEntropy(conv_classifier(), 0.2),
    "at": lambda: AdversarialCrossEntropy(conv_classifier()),
    "jr": lambda: JacobianPenalty(conv_classifier()),
    "dlsm": lambda: LikelihoodScoreMatching(conv_classifier(), own_score),
    "jem": lambda: JointEnergy(conv_classifier(), (1, 8, 8), 12, steps=2).double(),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_row_depends_on_itself_alone(name: str, training: bool) -> None:
    batch = images(6)
    changed = batch.x.clone()
    changed[2] = 5 * changed[2].flip(-1) + 1
    labels = batch.y.clone()
    labels[2] = (labels[2] + 1) % 3
    before, after = (
        ROWS[name]().train(training)(of_batch, StepRandom(0, 0))
        for of_batch in (batch, Batch(changed, labels))
    )
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(after[others], before[others], rtol=1e-12, atol=1e-12)
    assert abs(after[2] - before[2]).item() > 1e-3


@pytest.mark.parametrize("name", ["sc-scaled", "dsm", "jem"])
def test_labels_are_not_used(name: str) -> None:
    batch = points(16)
    unlabelled = Batch(batch.x, torch.full_like(batch.y, UNLABELLED))
    ours, theirs = (
        TERMS[name](three_classes())(of_batch, StepRandom(0, 0))
        for of_batch in (batch, unlabelled)
    )
    assert torch.equal(ours, theirs)


@every_term
def test_a_loss_can_be_evaluated_without_gradients(name: str) -> None:
    batch = points(16)
    expected = TERMS[name](three_classes())(batch, StepRandom(0, 0))
    with torch.no_grad():
        values = TERMS[name](three_classes())(batch, StepRandom(0, 0))
    assert torch.equal(values, expected)
    assert expected.requires_grad
    assert not values.requires_grad
