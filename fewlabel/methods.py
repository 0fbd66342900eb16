"""The table of methods: which losses train which model on which data, and what joins them.

A method is a row. To add one, write its loss as a `Term` in `fewlabel/objectives/` (if it needs a
new one) and add a row here; training, guidance, sampling and every command take it from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from fewlabel.batch import Part
from fewlabel.errors import UserError
from fewlabel.guidance import Kind
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
    Times,
    Weighted,
)

__all__ = [
    "CE",
    "DEFAULT",
    "METHODS",
    "UNCONDITIONAL",
    "Loss",
    "Method",
    "Models",
    "Stage",
    "Teacher",
    "find_method",
    "objective",
]


Stage = Literal["score", "classifier"]

Teacher = Literal["classifier", "propagation"]
"""What labels the unlabelled for the last model that is trained: the run's own classifier, or
label propagation along the features of an unconditional score model."""


@dataclass(frozen=True)
class Models:
    """What a loss may need: the shape of an example, and the models; one not built is None.

    Attributes:
        shape: (C, H, W) or (D,).
        score: the score model.
        classifier: the noise-conditional classifier.
        times: the distribution of training times of the stage; None for that of its process.
    """

    shape: tuple[int, ...]
    score: Any = None
    classifier: Any = None
    times: Times | None = None


@dataclass(frozen=True)
class Loss:
    """A term of an objective.

    Attributes:
        build: makes it of the models.
        part: the part of the data it is for.
        weight: its default weight.
        grid: the weights among which a comparison chooses on the validation split.
        every: it is computed on every so many-th row of a batch; more than 1 saves time.
        needs_score: a loss of the classifier that evaluates the score model.

    Raises:
        UserError: for an unknown part.
    """

    build: Callable[[Models], Term]
    part: Part
    weight: float = 1.0
    grid: tuple[float, ...] = ()
    every: int = 1
    needs_score: bool = False

    def __post_init__(self) -> None:
        _refuse_others("part", self.part, get_args(Part))


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        summary: one line for `fewlabel methods`.
        source: where it was published.
        score: the losses of the score model, by name.
        classifier: the losses of the noise-conditional classifier, by name; none without one.
        guidance: what joins them.
        scale: the guidance scale unless asked otherwise.
        teacher: what labels the unlabelled data for the last model, if anything does.
        shares: the shares of labelled examples in batches of all data among which, and that of
            the data, a comparison chooses on the validation split.

    Raises:
        UserError: for unknown guidance or an unknown teacher.
    """

    summary: str
    source: str
    score: Mapping[str, Loss]
    classifier: Mapping[str, Loss] = field(default_factory=dict)
    guidance: Kind = "classifier"
    scale: float = 4.0
    teacher: Teacher | None = None
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _refuse_others("guidance", self.guidance, get_args(Kind))
        _refuse_others("teacher", self.teacher, (None, *get_args(Teacher)))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The models that are trained, in order."""
        if not self.classifier:
            return ("score",)
        return ("classifier", "score") if self.teacher == "classifier" else ("score", "classifier")

    @property
    def conditional(self) -> bool:
        """Whether the score model is one of each class."""
        return self.guidance in ("classifier-free", "conditional")

    @property
    def guided(self) -> bool:
        """Whether samples depend on a guidance scale."""
        return self.guidance in ("classifier", "classifier-free")

    @property
    def evaluates_score(self) -> bool:
        """Whether a loss of its classifier evaluates the frozen score model."""
        return any(loss.needs_score for loss in self.classifier.values())

    @property
    def shares_score(self) -> bool:
        """Whether its score model is the unconditional one, which others can use too."""
        return self.score == UNCONDITIONAL

    @property
    def taught(self) -> Stage | None:
        """The stage whose data a teacher labels, if there is a teacher."""
        if self.teacher is None:
            return None
        return "score" if self.conditional else "classifier"

    @property
    def takes_teacher(self) -> bool:
        """Whether the user may name what labels the unlabelled data."""
        return self.teacher == "propagation"

    @property
    def needs_teacher(self) -> bool:
        """Whether labels spread along the features of a score model that it does not have."""
        return self.takes_teacher and not self.shares_score

    def losses(self, stage: Stage) -> Mapping[str, Loss]:
        """The losses of a stage."""
        return self.score if stage == "score" else self.classifier


def _refuse_others(what: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        names = ", ".join(map(str, choices))
        raise UserError(f"{what} {value!r} is unknown to methods; choose one of {names}")


_DROPOUT = 0.1
_SMOOTHING = 0.1

UNCONDITIONAL = {"dsm": Loss(lambda m: DenoisingScoreMatching(m.score, times=m.times), "all")}
"""The losses of the score model that methods with the same data can share."""

CE = Loss(lambda m: CrossEntropy(m.classifier, times=m.times), "labelled")
"""Cross-entropy on the labelled data."""

_SMOOTHED = Loss(lambda m: CrossEntropy(m.classifier, _SMOOTHING, m.times), "labelled")
_TAUGHT = Loss(lambda m: TaughtCrossEntropy(m.classifier, m.times), "all")
_ADVERSARIAL = Loss(lambda m: AdversarialCrossEntropy(m.classifier, times=m.times), "labelled")
_JACOBIAN = Loss(
    lambda m: JacobianPenalty(m.classifier, m.times), "labelled", 0.01, (0.001, 0.01, 0.1)
)
_JEM = Loss(
    lambda m: JointEnergy(m.classifier, m.shape, times=m.times), "all", 0.1, (0.03, 0.1, 0.3)
)
_DLSM = Loss(
    lambda m: LikelihoodScoreMatching(m.classifier, m.score, m.times),
    "labelled",
    20.0,
    (5.0, 20.0, 80.0),
    needs_score=True,
)
_HUANG = "Huang, Chen & Lin 2023, arXiv 2307.04081"
_HO = "Ho & Salimans 2022, arXiv 2207.12598"


def _self_calibration(part: Part) -> Loss:
    return Loss(lambda m: SelfCalibration(m.classifier, m.times), part, 20.0, (5.0, 20.0, 80.0))


def _conditional(part: Part, dropout: float) -> dict[str, Loss]:
    return {"dsm": Loss(lambda m: DenoisingScoreMatching(m.score, dropout, m.times), part)}


METHODS: dict[str, Method] = {
    "uncond": Method(
        "an unconditional score model of all data: no labels, no guidance; to be shared",
        "Song et al. 2021, arXiv 2011.13456",
        UNCONDITIONAL,
        guidance="none",
        scale=0.0,
    ),
    "cond": Method(
        "a conditional score model of the labelled data, no guidance",
        "Song et al. 2021, arXiv 2011.13456",
        _conditional("labelled", 0.0),
        guidance="conditional",
        scale=1.0,
    ),
    "cfg-labeled": Method(
        "classifier-free guidance, labelled data alone",
        _HO,
        _conditional("labelled", _DROPOUT),
        guidance="classifier-free",
        scale=2.0,
    ),
    "cfg-all": Method(
        "classifier-free guidance, all data, no label on the unlabelled",
        _HO,
        _conditional("all", _DROPOUT),
        guidance="classifier-free",
        scale=2.0,
        shares=(0.1, 0.25),
    ),
    "cg": Method(
        "classifier guidance: cross-entropy on the labelled data",
        "Dhariwal & Nichol 2021, arXiv 2105.05233",
        UNCONDITIONAL,
        {"ce": CE},
    ),
    "cg-ls": Method(
        "classifier guidance with label smoothing",
        "Szegedy et al. 2016, arXiv 1512.00567",
        UNCONDITIONAL,
        {"ce": _SMOOTHED},
    ),
    "cg-jr": Method(
        "classifier guidance with Jacobian regularisation",
        "Hoffman et al. 2019, arXiv 1908.02729",
        UNCONDITIONAL,
        {"ce": CE, "jr": _JACOBIAN},
    ),
    "cg-at": Method(
        "classifier guidance with adversarial training",
        "Kawar et al. 2022, arXiv 2208.08664",
        UNCONDITIONAL,
        {"ce": _ADVERSARIAL},
    ),
    "cg-jem": Method(
        "classifier guidance, the classifier being a joint energy-based model of all data",
        "Grathwohl et al. 2020, arXiv 1912.03263",
        UNCONDITIONAL,
        {"ce": CE, "jem": _JEM},
    ),
    "cg-dlsm": Method(
        "classifier guidance, the classifier's gradient fitted to the likelihood score",
        "Chao et al. 2022, arXiv 2203.14206",
        UNCONDITIONAL,
        {"ce": CE, "dlsm": _DLSM},
    ),
    "cg-sc-labeled": Method(
        "classifier guidance, self-calibrated on the labelled data",
        _HUANG,
        UNCONDITIONAL,
        {"ce": CE, "sc": _self_calibration("labelled")},
    ),
    "cg-sc-all": Method(
        "classifier guidance, self-calibrated on labelled and unlabelled data",
        _HUANG,
        UNCONDITIONAL,
        {"ce": CE, "sc": _self_calibration("all")},
    ),
    "dpt": Method(
        "classifier-free guidance on all data with a classifier's pseudo-labels",
        "You et al. 2023, arXiv 2302.10586",
        _conditional("labelled", _DROPOUT),
        {"ce": CE},
        guidance="classifier-free",
        scale=2.0,
        teacher="classifier",
    ),
    "dpt-lp": Method(
        "classifier-free guidance on all data with propagated labels (--teacher features:RUN)",
        "You et al. 2023, arXiv 2302.10586, with the teacher of lpg",
        _conditional("labelled", _DROPOUT),
        guidance="classifier-free",
        scale=2.0,
        teacher="propagation",
    ),
    "lpg": Method(
        "label-propagation guidance: the classifier learns, at every noise level, the labels that "
        "spread along the score model's features",
        "fewlabel",
        UNCONDITIONAL,
        {"ce": _TAUGHT},
        scale=3.0,
        teacher="propagation",
    ),
    "lpg-dlsm": Method(
        "label-propagation guidance with DLSM on every eighth example",
        "fewlabel; Chao et al. 2022, arXiv 2203.14206",
        UNCONDITIONAL,
        {"ce": _TAUGHT, "dlsm": replace(_DLSM, part="all", every=8)},
        scale=3.0,
        teacher="propagation",
    ),
}
DEFAULT = "lpg"


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
        {
            name: Weighted(loss.build(models), loss.part, weights[name], loss.every)
            for name, loss in losses.items()
        }
    )
