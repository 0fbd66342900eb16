"""Judging a run: samples of every class, figures with intervals."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabel import launched, samplers
from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset, Splits
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.extractors.extractor import Extractor
from fewlabel.extractors.feature_cache import dataset_features
from fewlabel.metrics.extractors import find_extractor
from fewlabel.metrics.judge import Judge, train_judge
from fewlabel.metrics.limits import within_limits
from fewlabel.metrics.memorisation import Nearest, nearest
from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.metrics.table import Judged, find_metric
from fewlabel.progress import speaks, track
from fewlabel.training.validation import spread_out

if TYPE_CHECKING:
    from fewlabel.run import Run, Samples

__all__ = ["check_data", "check_numbers", "evaluate", "nearest_training"]

Reference = Literal["report", "validation"]
_WEAK = 0.8
_MOST_REAL = 100_000


def evaluate(
    run: "Run",
    metrics: Sequence[str],
    scales: Sequence[float],
    *,
    per_class: int = 100,
    seed: int = 0,
    sampler: str | Sequence[str] = "dpm++",
    steps: int | Sequence[int] | None = None,
    batch_size: int = 256,
    reference: Reference = "report",
    extractor: str | nn.Module | Extractor = "judge",
) -> Report:
    """Sample every class at every scale and judge the samples.

    Distances are between the features of the extractor; accuracy is the judge's in any case. It
    is trained, on all labels of the run's training split, if a metric asks for it. The
    real images are those outside the validation split, or to choose a scale those of it: where
    classes are told apart the labelled ones, for distances of all classes together the others too
    (at most 100,000, evenly spread). `fewlabel.metrics.table` tells the intervals. Several
    processes that were launched together draw the samples together; then all but the main one end.

    Args:
        run: the run.
        metrics: names in `table.METRICS`.
        scales: guidance scales.
        per_class: samples of each class, at least 10, and more for some metrics.
        seed: the seed of the samples; take another to choose than to report.
        sampler: a name in `samplers.SAMPLERS`, or several.
        steps: grid points of the sampler, or several numbers of them; None for its default.
        batch_size: how many are drawn together; it changes time and memory only.
        reference: whether the figures are to be reported or a choice is made by them.
        extractor: "judge", "inception:FILE", "transformers:NAME_OR_FOLDER", or a module that
            takes images in [−1, 1]; see `extractors.find_extractor`.

    Raises:
        UserError: for an unknown metric or sampler, too few samples, steps or real images of a
            class, a scale of a method without guidance, or an extractor that cannot be had or
            cannot read the images.
    """
    check_numbers(metrics, per_class)
    check_data(metrics, run.dataset, run.splits, reference)
    for scale in scales:
        run.check_guidance(scale)
    names = [sampler] if isinstance(sampler, str) else sampler
    numbers = [steps] if steps is None or isinstance(steps, int) else steps
    for way in product(names, numbers):
        samplers.find_sampler(*way)
    n = per_class * len(run.class_names)
    ways = dict.fromkeys(product(scales, names, numbers))  # each once
    samples = _drawn(run, n, seed, batch_size, ways)
    if launched.number() > 1:  # all are drawn together, the judge is the main process's
        samples = iter([drawn for drawn in samples if speaks()])
        launched.go_on_alone()
    reader = find_extractor(extractor, run.dataset, run.device, run.splits)
    judge = reader if isinstance(reader, Judge) else None
    real = _real(run.dataset, run.splits, reference)
    labels, together = run.dataset.labels[real], _together(run.dataset, run.splits, reference)
    of_real = of_all = cache(partial(dataset_features, run.dataset, real, reader))
    if len(together) != len(real):
        of_all = cache(partial(dataset_features, run.dataset, together, reader))
    draws, figures, width = [], [], 0
    for draw, drawn in samples:
        features, own = reader.read(drawn.images)
        if judge is None and _asks_judge(metrics, own):
            judge = train_judge(run.dataset, run.splits, run.device)
        verdicts = judge.read(drawn.images)[1] if judge else torch.empty(n, 0)
        seen = features, verdicts, verdicts if own is None else own
        judged = _judged(run, reader, seen, (of_real, of_all), labels, drawn)
        draws.append(draw)
        figures += _figures(metrics, draw, judged)
        width = judged.fake.shape[1]
    return Report(
        run=str(run.folder),
        method=run.config.method,
        labels=run.config.labels,
        n_samples=n,
        extractor=reader.name,
        judge_accuracy=judge.accuracy.value if judge and judge.accuracy else None,
        seed=seed,
        draws=draws,
        figures=figures,
        warnings=_warnings(metrics, judge, labels, len(together), width, per_class),
    )


def nearest_training(
    run: "Run", images: Tensor, extractor: str | nn.Module = "judge", most: int | None = None
) -> Nearest:
    """The training image nearest to each sample, between features of an extractor.

    Args:
        run: the run, whose training split counts, labelled or not.
        images: samples, (n, C, H, W) in [−1, 1], or vectors (n, D).
        extractor: see `evaluate`.
        most: how many training images are looked at, evenly spread over all; None for all.

    Returns:
        Distances, and indices into the dataset; see `memorisation.nearest`.
    """
    reader = find_extractor(extractor, run.dataset, run.device, run.splits)
    among = run.splits.train if most is None else spread_out(run.splits.train, most)
    found = nearest(dataset_features(run.dataset, among, reader), reader.read(images)[0])
    return Nearest(found.distance, torch.from_numpy(among)[found.index], found.ratio)


def check_numbers(metrics: Sequence[str], per_class: int) -> None:
    """Refuse unknown metrics, and fewer samples of each class than they need.

    Raises:
        UserError: for the first of them.
    """
    for name in metrics:
        least = find_metric(name).per_class
        if per_class < least:
            raise UserError(
                f"{per_class} samples per class are too few for {name}; give at least {least}"
            )


def check_data(
    metrics: Sequence[str], dataset: Dataset, splits: Splits, reference: Reference
) -> None:
    """Refuse metrics for which a class has too few labelled real images to compare with.

    Raises:
        UserError: for the first of them.
    """
    labels = dataset.labels[_real(dataset, splits, reference)]
    counts = np.bincount(labels, minlength=dataset.n_classes)
    label = int(counts.argmin())
    for name in metrics:
        least = find_metric(name).real_per_class
        if counts[label] < least:
            inside = reference == "validation"
            where = f"{'in' if inside else 'outside'} the validation split"
            listed = is_table(splits.labels) and inside
            fewer = f", or list fewer of them in {splits.labels}" if listed else ""
            otherwise = "train one method, with fewlabel train" if inside else f"leave {name} out"
            raise UserError(
                f"{name} needs {least} labelled examples of each class {where}, and of class "
                f"{dataset.class_names[label]} of {dataset.name} {counts[label]} is there: label "
                f"more of that class, of 8 of which 2 are held out{fewer}, or {otherwise}"
            )


def _drawn(
    run: "Run",
    n: int,
    seed: int,
    batch_size: int,
    settings: Iterable[tuple[float, str, int | None]],
) -> Iterator[tuple[Draw, "Samples"]]:
    """Samples of all classes at each scale, sampler and number of steps, and what they cost."""
    for scale, sampler, steps in settings:
        with track(f"sampling {run.config.method}, scale {scale:g}") as task:
            drawn = run.draw(
                n=n,
                scale=scale,
                sampler=sampler,
                steps=steps,
                seed=seed,
                batch_size=batch_size,
                progress=task,
            )
        yield Draw(scale, sampler, drawn.steps, drawn.nfe, drawn.seconds), drawn


def _asks_judge(metrics: Sequence[str], own: Tensor | None) -> bool:
    """Whether a metric takes the judge's verdicts, with these of the extractor, if it has any."""
    return "accuracy" in metrics or ("is" in metrics and own is None)


def _judged(
    run: "Run",
    reader: Extractor,
    seen: tuple[Tensor, Tensor, Tensor],
    real: tuple[Callable[[], Tensor], Callable[[], Tensor]],
    real_labels: NDArray[np.int64],
    drawn: "Samples",
) -> Judged:
    """Samples, and the real images that count, as the extractor and the judge see them."""
    dataset, splits = run.dataset, run.splits
    features, verdicts, own = seen
    return Judged(
        of_real=real[0],
        real_labels=torch.from_numpy(real_labels),
        of_all=real[1],
        fake=features,
        fake_labels=drawn.labels,
        log_prob=verdicts,
        own_log_prob=own,
        images=drawn.images,
        dataset=dataset,
        splits=splits,
        training=partial(dataset_features, dataset, splits.train, reader),
        device=run.device,
    )


def _figures(metrics: Sequence[str], draw: Draw, judged: Judged) -> list[Figure]:
    return [
        Figure(draw.scale, draw.sampler, draw.steps, name, key, *astuple(within_limits(name, e)))
        for name in metrics
        for key, e in find_metric(name).figures(judged).items()
    ]


def _real(dataset: Dataset, splits: Splits, reference: Reference) -> NDArray[np.int64]:
    """The labelled real images that count."""
    chosen = _all_real(dataset, splits, reference)
    return chosen[dataset.labels[chosen] != UNLABELLED]


def _together(dataset: Dataset, splits: Splits, reference: Reference) -> NDArray[np.int64]:
    """The real images that count for distances of all classes together."""
    return spread_out(_all_real(dataset, splits, reference), _MOST_REAL)


def _all_real(dataset: Dataset, splits: Splits, reference: Reference) -> NDArray[np.int64]:
    if reference == "validation":
        return splits.validation
    return np.setdiff1d(np.arange(len(dataset)), splits.validation)


def _warnings(
    metrics: Sequence[str],
    judge: Judge | None,
    real_labels: NDArray[np.int64],
    all_real: int,
    width: int,
    per_class: int,
) -> list[str]:
    """What weakens the figures, with so many features and samples of each class."""
    found, counts = [], np.unique(real_labels, return_counts=True)[1]
    sizes = {
        "fid": (all_real, per_class * len(counts), "there are"),
        "intra-fid": (int(counts.min()), per_class, "the smallest class has"),
    }
    for name, (real, generated, where) in sizes.items():
        if name in metrics and min(real, generated) <= width:
            given = "label more images" if name == "intra-fid" else "add images"
            more = given if real <= width else "give more samples (-n)"
            found.append(
                f"{name}: {where} {real} real and {generated} generated images for {width} "
                f"features; compare it between methods only, {more}, or take "
                f"{name.replace('fid', 'kid')}, which has no bias"
            )
    if judge is None or "accuracy" not in metrics:
        return found
    if judge.accuracy is None:
        found.append("accuracy: no labelled image was held out, the judge's own is unknown")
    elif judge.accuracy.low < _WEAK:
        found.append(
            f"accuracy: the judge itself is right in {judge.accuracy.value:.0%} of real images "
            f"(95 % interval from {judge.accuracy.low:.0%}); its verdicts are weak evidence"
        )
    return found
