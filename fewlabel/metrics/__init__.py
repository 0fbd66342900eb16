"""Metrics on features, verdicts and scores: plain functions, statistics in float64.

`train_judge`, `dataset_features` and `nearest_training` give what they compare.
"""

from fewlabel.calibration import ece, reliability
from fewlabel.extractors import dataset_features
from fewlabel.metrics.accuracy import generation_accuracy, generation_hits
from fewlabel.metrics.classification_score import cas
from fewlabel.metrics.classwise import intra
from fewlabel.metrics.frechet import GaussianStatistics, fid, frechet_distance
from fewlabel.metrics.inception_score import inception_score
from fewlabel.metrics.intervals import (
    Estimate,
    MeanStd,
    batch_means,
    bootstrap,
    over_seeds,
    proportion,
)
from fewlabel.metrics.judge import Judge, train_judge
from fewlabel.metrics.judging import nearest_training
from fewlabel.metrics.kernel import kid
from fewlabel.metrics.memorisation import Nearest, memorised, nearest
from fewlabel.metrics.precision_recall import prdc
from fewlabel.metrics.report import Report
from fewlabel.metrics.score_error import score_errors
from fewlabel.metrics.score_gap import internal_score_gap

__all__ = [
    "Estimate",
    "GaussianStatistics",
    "Judge",
    "MeanStd",
    "Nearest",
    "Report",
    "batch_means",
    "bootstrap",
    "cas",
    "dataset_features",
    "ece",
    "fid",
    "frechet_distance",
    "generation_accuracy",
    "generation_hits",
    "inception_score",
    "internal_score_gap",
    "intra",
    "kid",
    "memorised",
    "nearest",
    "nearest_training",
    "over_seeds",
    "prdc",
    "proportion",
    "reliability",
    "score_errors",
    "train_judge",
]
