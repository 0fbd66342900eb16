"""The table of methods: which losses train which model on which data, and what joins them.

A method is a row. To add one, write its loss as a `Term` in `fewlabel/objectives/` (if it needs a
new one) and add a row here; training, guidance, sampling and every command take it from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fewlabel.batch import Part
from fewlabel.errors import UserError
from fewlabel.objectives import (
    CrossEntropy,
    DenoisingScoreMatching,
    Objective,
    SelfCalibration,
    Term,
)

__all__ = ["DEFAULT", "METHODS", "Loss", "Method", "Models", "find_method", "objective"]


@dataclass(frozen=True)
class Models:
    """The models of a run that a loss may need; what is not trained yet is None."""

    score: Any = None
    classifier: Any = None


@dataclass(frozen=True)
class Loss:
    """How a term is made of the models, the part of the data it is for, its default weight."""

    build: Callable[[Models], Term]
    part: Part
    weight: float = 1.0


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        summary: one line for `fewlabel methods`.
        source: where it was published.
        score: the losses of the score model, by name.
        classifier: the losses of the noise-conditional classifier, by name.
    """

    summary: str
    source: str
    score: Mapping[str, Loss]
    classifier: Mapping[str, Loss]


_UNCONDITIONAL = {"dsm": Loss(lambda m: DenoisingScoreMatching(m.score), "all")}
_CROSS_ENTROPY = {"ce": Loss(lambda m: CrossEntropy(m.classifier), "labelled")}


def _self_calibrated(part: Part) -> dict[str, Loss]:
    return _CROSS_ENTROPY | {"sc": Loss(lambda m: SelfCalibration(m.classifier), part, 20.0)}


METHODS: dict[str, Method] = {
    "cg": Method(
        "classifier guidance: cross-entropy on the labelled data",
        "Dhariwal & Nichol 2021, arXiv 2105.05233",
        score=_UNCONDITIONAL,
        classifier=_CROSS_ENTROPY,
    ),
    "cg-sc-labeled": Method(
        "classifier guidance, self-calibrated on the labelled data",
        "Huang, Chen & Lin 2023, arXiv 2307.04081",
        score=_UNCONDITIONAL,
        classifier=_self_calibrated("labelled"),
    ),
    "cg-sc-all": Method(
        "classifier guidance, self-calibrated on labelled and unlabelled data",
        "Huang, Chen & Lin 2023, arXiv 2307.04081",
        score=_UNCONDITIONAL,
        classifier=_self_calibrated("all"),
    ),
}
DEFAULT = "cg-sc-all"


def find_method(name: str) -> Method:
    """The row called `name`.

    Raises:
        UserError: if there is none.
    """
    if name not in METHODS:
        raise UserError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def objective(
    losses: Mapping[str, Loss], models: Models, weights: Mapping[str, float]
) -> Objective:
    """The objective of these losses at these weights, which has one for each loss."""
    return Objective(
        terms={name: loss.build(models) for name, loss in losses.items()},
        parts={name: loss.part for name, loss in losses.items()},
        weights={name: weights[name] for name in losses},
    )
