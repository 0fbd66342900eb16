"""The table of methods against the one of docs: which loss trains which model on which data."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from mixtures import SmoothNetwork
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED, Batch, Part
from fewlabel.classifier import NoisyClassifier
from fewlabel.errors import UserError
from fewlabel.methods import CE, DEFAULT, METHODS, Models, find_method, objective
from fewlabel.objectives import (
    AdversarialCrossEntropy,
    CrossEntropy,
    DenoisingScoreMatching,
    JacobianPenalty,
    JointEnergy,
    LikelihoodScoreMatching,
    Objective,
    SelfCalibration,
    TaughtCrossEntropy,
    Term,
)
from fewlabel.process import EDM
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel


class Row(NamedTuple):
    """A row of the published table: stages in order, losses with their part, what joins them."""

    stages: tuple[str, ...]
    score: tuple[float | None, Part]  # dropout of labels, part
    classifier: Mapping[type[Term], Part]
    guidance: str
    teacher: str | None = None


def _guided(**classifier: Part) -> Row:
    kinds = {
        "ce": CrossEntropy,
        "jr": JacobianPenalty,
        "at": AdversarialCrossEntropy,
        "jem": JointEnergy,
        "dlsm": LikelihoodScoreMatching,
        "sc": SelfCalibration,
    }
    losses: dict[type[Term], Part] = {kinds[name]: part for name, part in classifier.items()}
    return Row(("score", "classifier"), (None, "all"), losses, "classifier")


ROWS = {
    "uncond": Row(("score",), (None, "all"), {}, "none"),
    "cond": Row(("score",), (0.0, "labelled"), {}, "conditional"),
    "cfg-labeled": Row(("score",), (0.1, "labelled"), {}, "classifier-free"),
    "cfg-all": Row(("score",), (0.1, "all"), {}, "classifier-free"),
    "cg": _guided(ce="labelled"),
    "cg-ls": _guided(ce="labelled"),
    "cg-jr": _guided(ce="labelled", jr="labelled"),
    "cg-at": _guided(at="labelled"),
    "cg-jem": _guided(ce="labelled", jem="all"),
    "cg-dlsm": _guided(ce="labelled", dlsm="labelled"),
    "cg-sc-labeled": _guided(ce="labelled", sc="labelled"),
    "cg-sc-all": _guided(ce="labelled", sc="all"),
    # its part is "labelled" because by then all examples have a (pseudo-)label
    "dpt": Row(
        ("classifier", "score"),
        (0.1, "labelled"),
        {CrossEntropy: "labelled"},
        "classifier-free",
        "classifier",
    ),
    "dpt-lp": Row(("score",), (0.1, "labelled"), {}, "classifier-free", "propagation"),
    "lpg-dlsm": Row(
        ("score", "classifier"),
        (None, "all"),
        {TaughtCrossEntropy: "all", LikelihoodScoreMatching: "all"},
        "classifier",
        "propagation",
    ),
    "lpg": Row(
        ("score", "classifier"),
        (None, "all"),
        {TaughtCrossEntropy: "all"},
        "classifier",
        "propagation",
    ),
}
every_row = pytest.mark.parametrize("name", ROWS)


class Shown(nn.Module):
    """A score network that keeps what labels it is shown."""

    def forward(self, u: Tensor, c_noise: Tensor, *labels: Tensor) -> Tensor:
        self.labels = labels
        return 0 * u


def models() -> Models:
    process = EDM(0.02, 20.0)
    classifier = NoisyClassifier(SmoothNetwork(2, 3).double(), process, 1.0)
    return Models((2,), ScoreModel(Shown(), process, 1.0), classifier)


def built(name: str, stage: Any, of: Models) -> Objective:
    losses = METHODS[name].losses(stage)
    weights = {key: loss.weight for key, loss in losses.items()}
    return objective(losses, of, weights).double()


def test_the_default_and_every_row_of_the_papers_are_there() -> None:
    assert METHODS.keys() >= ROWS.keys()
    assert DEFAULT in METHODS


@every_row
def test_a_row_trains_what_the_papers_train_on_the_data_they_train_it_on(name: str) -> None:
    row, method, of = ROWS[name], METHODS[name], models()
    assert method.stages == row.stages
    assert method.guidance == row.guidance
    assert method.teacher == row.teacher

    (key, score), *others = built(name, "score", of).terms.items()
    assert others == []
    assert type(score) is DenoisingScoreMatching
    assert score.score_model is of.score
    assert (score.dropout, method.score[key].part) == row.score

    found = built(name, "classifier", of)
    assert {type(loss.term): loss.part for loss in found.losses.values()} == row.classifier
    for term in found.terms.values():
        assert term.classifier is of.classifier
        smoothing = 0.1 if name == "cg-ls" else 0.0
        assert getattr(term, "smoothing", smoothing) == smoothing
    assert all(loss.weight > 0 for loss in found.losses.values())


@every_row
def test_the_losses_of_a_row_train_the_classifier_or_the_score_model_alone(name: str) -> None:
    """And each of the weights counts: the classifier's gradient is their weighted sum."""
    of = models()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    y = torch.arange(64) % 3
    q = nn.functional.one_hot(y, 3).double()
    labelled, everything = Batch(x, y, q), Batch(x, torch.where(y > 0, y, UNLABELLED), q)
    batches: dict[Part, Batch] = {"labelled": labelled, "all": everything}
    values = built(name, "score", of)(batches, StepRandom(0, 0))
    assert all(value.isfinite().all() for value in values.values())
    dropout, part = ROWS[name].score
    if dropout is None:
        assert of.score.network.labels == ()
    else:
        (labels,) = of.score.network.labels
        given = batches[part].y
        kept = labels != UNLABELLED
        assert torch.equal(labels[kept], given[kept])
        hidden = (~kept & (given != UNLABELLED)).double().mean().item()
        assert hidden <= dropout + 1 / 64
        assert (hidden > 0) == (dropout > 0)
    if not ROWS[name].classifier:
        return
    classifier = built(name, "classifier", of)
    parameters = list(of.classifier.parameters())
    assert len(list(classifier.parameters())) == len(parameters)
    total = classifier.total(classifier(batches, StepRandom(0, 0)))
    for gradient in torch.autograd.grad(total, parameters):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_every_row_that_needs_no_labels_for_its_score_model_shares_one() -> None:
    guided = [METHODS[name] for name, row in ROWS.items() if row.score == (None, "all")]
    assert len(guided) == 11
    assert all(method.score is guided[0].score for method in guided)
    others = [METHODS[name] for name, row in ROWS.items() if row.score != (None, "all")]
    assert not any(method.score is guided[0].score for method in others)


def test_an_unknown_method_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        UserError, match=r"method 'cgg' is unknown; choose one of uncond, cond, cfg-label"
    ):
        find_method("cgg")


def test_a_row_with_a_slip_is_refused_where_it_is_written() -> None:
    """Unchecked a part by another name is all data, and an unknown guidance none at all."""
    with pytest.raises(
        UserError, match="part 'labeled' is unknown to methods; choose one of labe"
    ):
        replace(CE, part="labeled")
    with pytest.raises(UserError, match="guidance 'auto' is unknown to methods"):
        replace(METHODS["cg"], guidance="auto")
    with pytest.raises(UserError, match="teacher 'dino' is unknown to methods"):
        replace(METHODS["lpg"], teacher="dino")
