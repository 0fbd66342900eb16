"""Metrics on features and on a judge's verdicts: pure functions, statistics in float64."""

from fewlabel.calibration import ece, reliability
from fewlabel.metrics.accuracy import generation_accuracy, generation_hits
from fewlabel.metrics.classification_score import cas
from fewlabel.metrics.classwise import intra
from fewlabel.metrics.frechet import fid, frechet_distance
from fewlabel.metrics.intervals import Estimate, batch_means, proportion
from fewlabel.metrics.precision_recall import prdc

__all__ = [
    "Estimate",
    "batch_means",
    "cas",
    "ece",
    "fid",
    "frechet_distance",
    "generation_accuracy",
    "generation_hits",
    "intra",
    "prdc",
    "proportion",
    "reliability",
]
