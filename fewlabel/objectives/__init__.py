"""Training objectives: one idea a file, each loss a `Term` with one value a sample."""

from fewlabel.objectives.cross_entropy import (
    AdversarialCrossEntropy,
    CrossEntropy,
    TaughtCrossEntropy,
)
from fewlabel.objectives.denoising_score_matching import DenoisingScoreMatching
from fewlabel.objectives.jacobian import JacobianPenalty
from fewlabel.objectives.joint_energy import JointEnergy
from fewlabel.objectives.likelihood_score_matching import LikelihoodScoreMatching
from fewlabel.objectives.self_calibration import SelfCalibration
from fewlabel.objectives.term import Objective, Term, Weighted
from fewlabel.objectives.times import LogitNormal, LogNormal, Times, Uniform, default_times

__all__ = [
    "AdversarialCrossEntropy",
    "CrossEntropy",
    "DenoisingScoreMatching",
    "JacobianPenalty",
    "JointEnergy",
    "LikelihoodScoreMatching",
    "LogNormal",
    "LogitNormal",
    "Objective",
    "SelfCalibration",
    "TaughtCrossEntropy",
    "Term",
    "Times",
    "Uniform",
    "Weighted",
    "default_times",
]
