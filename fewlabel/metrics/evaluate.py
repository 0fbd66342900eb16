"""Judging a run: samples of every class, figures with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset, Splits
from fewlabel.errors import UserError
from fewlabel.metrics.accuracy import generation_hits
from fewlabel.metrics.classwise import intra
from fewlabel.metrics.extractors import find_extractor
from fewlabel.metrics.feature_cache import dataset_features
from fewlabel.metrics.features import Extractor
from fewlabel.metrics.frechet import fid
from fewlabel.metrics.intervals import Estimate, batch_means, proportion
from fewlabel.metrics.judge import Judge, train_judge
from fewlabel.metrics.report import Figure, Report
from fewlabel.progress import track

if TYPE_CHECKING:
    from fewlabel.run import Run

__all__ = ["METRICS", "evaluate"]

_GROUPS = 5
Reference = Literal["report", "validation"]


@dataclass(frozen=True)
class _Judged:
    """Features and labels of real and generated images, and the verdicts on the latter."""

    real: Tensor
    real_labels: Tensor
    fake: Tensor
    fake_labels: Tensor
    log_prob: Tensor

    def group(self, index: int) -> "_Judged":
        """One of `_GROUPS` equal parts of the generated images, each with all classes."""
        size = len(self.fake) // _GROUPS
        rows = slice(index * size, (index + 1) * size)
        parts = self.fake[rows], self.fake_labels[rows], self.log_prob[rows]
        return _Judged(self.real, self.real_labels, *parts)


Figures = dict[int | None, Estimate]


def _accuracy(judged: _Judged) -> Figures:
    hits = generation_hits(judged.log_prob, judged.fake_labels)
    classes = judged.fake_labels.unique().tolist()
    of_classes = {label: proportion(hits[judged.fake_labels == label]) for label in classes}
    return {None: proportion(hits), **of_classes}


def _intra_fid(judged: _Judged) -> Figures:
    def figures(part: _Judged) -> dict[int | None, float]:
        mean, classes = intra(fid)(part.real, part.real_labels, part.fake, part.fake_labels)
        return {None: mean} | dict(classes.items())

    pooled = figures(judged)
    groups = [figures(judged.group(index)) for index in range(_GROUPS)]
    return {key: batch_means(pooled[key], [group[key] for group in groups]) for key in pooled}


def _fid(judged: _Judged) -> Figures:
    groups = [fid(judged.real, judged.group(index).fake) for index in range(_GROUPS)]
    return {None: batch_means(fid(judged.real, judged.fake), groups)}


METRICS: dict[str, tuple[Callable[[_Judged], Figures], str]] = {
    "accuracy": (_accuracy, "share of samples that the judge gives the class asked for"),
    "intra-fid": (_intra_fid, "Fréchet distance to the real images, mean over classes"),
    "fid": (_fid, "Fréchet distance to the real images, all classes together"),
}


def evaluate(
    run: "Run",
    metrics: Sequence[str],
    scales: Sequence[float],
    *,
    per_class: int = 100,
    seed: int = 0,
    sampler: str = "dpm++",
    steps: int | None = None,
    reference: Reference = "report",
    extractor: str | nn.Module | Extractor = "judge",
) -> Report:
    """Sample every class at every scale and judge the samples.

    Distances are between the features of the extractor; accuracy is the judge's in any case. The
    real images are the labelled ones outside the validation split; to choose a scale, those
    of the validation split. Shares have Wilson's interval, distances that of batch means.

    Args:
        run: the run.
        metrics: names in `METRICS`.
        scales: guidance scales.
        per_class: samples of each class, at least 10.
        seed: the seed of the samples; take another to choose than to report.
        sampler: a name in `samplers.SAMPLERS`.
        steps: grid points of the sampler; None for its default.
        reference: whether the figures are to be reported or a choice is made by them.
        extractor: "judge", "inception:FILE", "transformers:NAME_OR_FOLDER", or a module that
            takes images in [−1, 1]; see `extractors.find_extractor`.

    Raises:
        UserError: for an unknown metric, too few samples, a class without real images, or an
            extractor that cannot be had or cannot read the images.
    """
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"metric {name!r} is unknown; choose one of {', '.join(METRICS)}")
    if per_class < 2 * _GROUPS:
        raise UserError(f"{per_class} samples per class are too few; give at least {2 * _GROUPS}")
    reader = find_extractor(extractor, run.dataset, run.device)
    judge = reader if isinstance(reader, Judge) else train_judge(run.dataset)
    chosen = _real(run.dataset, run.splits, reference)
    real_labels = Tensor(run.dataset.labels[chosen]).long()
    real_features = dataset_features(run.dataset, chosen, reader)
    figures, n = [], per_class * len(run.class_names)
    for scale in scales:
        with track(f"sampling {run.config.method}, scale {scale:g}") as task:
            how: dict[str, Any] = {
                "sampler": sampler,
                "steps": steps,
                "seed": seed,
                "progress": task,
            }
            drawn = run.draw(n=n, scale=scale, **how)
        features, log_prob = judge.read(drawn.images)
        if reader is not judge:
            features, _ = reader.read(drawn.images)
        judged = _Judged(real_features, real_labels, features, drawn.labels, log_prob)
        for name in metrics:
            for key, e in METRICS[name][0](judged).items():
                figures.append(Figure(scale, name, key, e.value, e.low, e.high))
    return Report(
        run=str(run.folder),
        method=run.config.method,
        labels=run.config.labels,
        n_samples=n,
        extractor=reader.name,
        judge_accuracy=judge.accuracy.value if judge.accuracy else None,
        seed=seed,
        figures=figures,
        warnings=_warnings(metrics, judge, real_labels, per_class, real_features.shape[1]),
    )


def _real(dataset: Dataset, splits: Splits, reference: Reference) -> NDArray[np.int64]:
    """The labelled real images that count."""
    rest = np.setdiff1d(np.arange(len(dataset)), splits.validation)
    chosen = splits.validation if reference == "validation" else rest
    return chosen[dataset.labels[chosen] != UNLABELLED]


def _warnings(
    metrics: Sequence[str], judge: Judge, real_labels: Tensor, per_class: int, width: int
) -> list[str]:
    found = []
    smallest = int(real_labels.bincount().min())
    if "intra-fid" in metrics and min(smallest, per_class) <= width:
        found.append(
            f"intra-fid: the smallest class has {smallest} real and {per_class} generated images "
            f"for {width} features; compare it between methods only, or give more samples"
        )
    if judge.accuracy is None:
        found.append("accuracy: no labelled image was held out, the judge's own is unknown")
    elif judge.accuracy.low < 0.8:
        found.append(
            f"accuracy: the judge itself is right in {judge.accuracy.value:.0%} of real images "
            f"(95 % interval from {judge.accuracy.low:.0%}); its verdicts are weak evidence"
        )
    return found
