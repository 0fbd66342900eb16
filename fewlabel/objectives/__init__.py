"""Training objectives: one loss a file, each a `Term` with one value a sample."""

from fewlabel.objectives.cross_entropy import CrossEntropy
from fewlabel.objectives.denoising_score_matching import DenoisingScoreMatching
from fewlabel.objectives.self_calibration import SelfCalibration
from fewlabel.objectives.term import Objective, Term

__all__ = ["CrossEntropy", "DenoisingScoreMatching", "Objective", "SelfCalibration", "Term"]
