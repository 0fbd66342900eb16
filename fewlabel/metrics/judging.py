"""Judging images of any generator: what they are compared with, figures with intervals."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset, Splits, draw_splits, open_dataset
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.extractors.extractor import Extractor
from fewlabel.extractors.feature_cache import dataset_features
from fewlabel.metrics.extractors import find_extractor
from fewlabel.metrics.given_images import given_images
from fewlabel.metrics.judge import Judge, train_judge
from fewlabel.metrics.memorisation import Nearest, nearest
from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.metrics.table import Judged, find_metric
from fewlabel.progress import track
from fewlabel.training.validation import spread_out

__all__ = ["check_data", "check_numbers", "judge", "judge_draws", "nearest_training"]

Reference = Literal["report", "validation"]
_WEAK = 0.8
_TWO_OF = 8  # labelled images of a class: two of them are held out, if a score model lets them
_MOST_REAL = 100_000


def judge(
    images: ArrayLike | Tensor | str | os.PathLike[str],
    labels: Tensor | Sequence[int | str] | ArrayLike | None = None,
    *,
    data: Dataset | str | os.PathLike[str],
    metrics: str | Sequence[str] = ("accuracy", "intra-fid"),
    splits: Splits | None = None,
    size: int | None = None,
    extractor: str | nn.Module | Extractor = "judge",
    reference: Reference = "report",
    device: str | torch.device | None = None,
) -> Report:
    """Judge images of any generator by the metrics of `fewlabel metrics`.

    No run is needed. `judge_draws` says which real images they are compared with. The order of
    the classes does not matter; the intervals depend on the order within a class.

    Args:
        images: a tensor (N, C, H, W) in [−1, 1] or vectors (N, D); an array of bytes,
            (N, H, W) or (N, H, W, C); a folder with a sub-folder for each class; an `.npz` with
            `images` or `vectors`, `labels` and `class_names`, as `fewlabel sample` writes it, or
            the folder of such a `samples.npz`. Bytes and files are brought to the size of the
            data; a tensor of another size is refused.
        labels: the class of each image in memory: a tensor or an array of indices, or a sequence
            of names. Files tell it themselves.
        data: the real images: a `Dataset`, or what `train` takes.
        metrics: names that `fewlabel metrics` lists, or one.
        splits: which of the data trained and what is held out, such as `run.splits`; None for the
            split that the data alone decide, with all labels.
        size: side of the images of data that are opened here; None for the data's own.
        extractor: whose features are compared, see `find_extractor`.
        reference: the real images outside the validation split ("report"), or those of it
            ("validation"), if a choice is made by the figures.
        device: where to compute; by default a GPU if there is one.

    Returns:
        Figures with 95 % intervals, of no run, scale or sampler.

    Raises:
        UserError: for an unknown metric, images or labels that do not fit the data, too few
            images of a class, or an extractor that cannot be had or cannot read the images.
    """
    names = (metrics,) if isinstance(metrics, str) else metrics
    if not isinstance(data, Dataset):
        with track("reading images") as task:
            data = open_dataset(data, size, task.set)
    splits = draw_splits(data, "all", seed=0) if splits is None else splits
    check_data(names, data, splits, reference)
    given = given_images(images, labels, data)
    counts = torch.bincount(given.labels, minlength=data.n_classes)
    least = int(counts.argmin())
    check_numbers(names, int(counts[least]), f"images of class {data.class_names[least]}")
    return judge_draws(
        [(None, given.images, given.labels)],
        data,
        splits,
        names,
        extractor=extractor,
        reference=reference,
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        known={"images": given.source, "data": data.name},
        warnings=given.warnings,
    )


def judge_draws(
    draws: Iterable[tuple[Draw | None, Tensor, Tensor]],
    dataset: Dataset,
    splits: Splits,
    metrics: Sequence[str],
    *,
    extractor: str | nn.Module | Extractor,
    reference: Reference,
    device: torch.device,
    known: dict[str, Any],
    warnings: Sequence[str] = (),
) -> Report:
    """Judge images of every class, drawn in one way or several.

    Distances are between the features of the extractor; accuracy is always the judge's. The judge
    is trained on all labels of the training split if a metric asks for it. The real images are
    those outside the validation split, or those of it if a choice is made by the figures.
    Metrics by class take the labelled ones. Distances of all classes together take the others
    too, at most 100,000, evenly spread. `fewlabel.metrics.table` describes the intervals.

    Args:
        draws: how images were drawn (None if they were given), the images (N, …) as
            `Dataset.examples` has them, and the index of the class of each (N,).
        dataset: the real images.
        splits: which of them trained, and which are held out.
        metrics: names in `table.METRICS`.
        extractor: "judge", "inception:FILE", "transformers:NAME_OR_FOLDER", or a module that
            takes images in [−1, 1]; see `extractors.find_extractor`.
        reference: whether the figures are to be reported or a choice is made by them.
        device: where extractor and judge compute.
        known: what the report tells of where the images are from.
        warnings: what weakens the figures already.

    Raises:
        UserError: for an extractor that cannot be had or cannot read the images.
    """
    reader = find_extractor(extractor, dataset, device, splits)
    judge = reader if isinstance(reader, Judge) else None
    real = _real(dataset, splits, reference)
    labels, together = dataset.labels[real], _together(dataset, splits, reference)
    of_real = of_all = cache(partial(dataset_features, dataset, real, reader))
    if len(together) != len(real):
        of_all = cache(partial(dataset_features, dataset, together, reader))
    ways: list[Draw] = []
    figures: list[Figure] = []
    for draw, images, asked in draws:
        features, own = reader.read(images)
        if judge is None and _asks_judge(metrics, own):
            judge = train_judge(dataset, splits, device)
        verdicts = judge.read(images)[1] if judge else torch.empty(len(images), 0)
        judged = Judged(
            of_real=of_real,
            real_labels=torch.from_numpy(labels),
            of_all=of_all,
            fake=features,
            fake_labels=asked,
            log_prob=verdicts,
            own_log_prob=verdicts if own is None else own,
            images=images,
            dataset=dataset,
            splits=splits,
            training=partial(dataset_features, dataset, splits.train, reader),
            device=device,
        )
        ways += [draw] if draw else []
        figures += _figures(metrics, draw, judged)
    weak = _warnings(metrics, judge, labels, len(together), judged)
    return Report(
        **{"run": None, "method": None, "labels": None, "seed": None} | known,
        n_samples=len(judged.fake),
        extractor=reader.name,
        judge_accuracy=judge.accuracy.value if judge and judge.accuracy else None,
        draws=ways,
        figures=figures,
        warnings=[*warnings, *weak],
    )


def nearest_training(
    images: Tensor,
    dataset: Dataset,
    splits: Splits | None = None,
    *,
    extractor: str | nn.Module | Extractor = "judge",
    most: int | None = None,
    device: str | torch.device = "cpu",
) -> Nearest:
    """The training image nearest to each sample, between features of an extractor.

    Args:
        images: samples, (n, C, H, W) in [−1, 1], or vectors (n, D).
        dataset: the data.
        splits: its training split counts, labelled or not; None for the split that the data
            alone decide.
        extractor: see `judge`.
        most: how many training images are looked at, evenly spread over all; None for all.
        device: where the extractor computes.

    Returns:
        Distances, and indices into the dataset; see `memorisation.nearest`.
    """
    splits = draw_splits(dataset, "all", seed=0) if splits is None else splits
    reader = find_extractor(extractor, dataset, device, splits)
    among = splits.train if most is None else spread_out(splits.train, most)
    found = nearest(dataset_features(dataset, among, reader), reader.read(images)[0])
    return Nearest(found.distance, torch.from_numpy(among)[found.index], found.ratio)


def check_numbers(metrics: Sequence[str], per_class: int, of: str = "samples per class") -> None:
    """Refuse unknown metrics, and fewer samples of each class than they need.

    Args:
        metrics: names in `table.METRICS`.
        per_class: how many there are of each class, or of the smallest.
        of: what these are, for the message.

    Raises:
        UserError: for the first of them.
    """
    for name in metrics:
        least = find_metric(name).per_class
        if per_class < least:
            raise UserError(f"{per_class} {of} are too few for {name}; give at least {least}")


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
            if inside and not listed and (dataset.labels == label).sum() >= _TWO_OF:
                fewer = ", or leave --score out if there is one: its score model saw the others"
            otherwise = "train one method, with fewlabel train" if inside else f"leave {name} out"
            raise UserError(
                f"{name} needs {least} labelled examples of each class {where}, and of class "
                f"{dataset.class_names[label]} of {dataset.name} {counts[label]} is there: label "
                f"more of that class, of 8 of which 2 are held out{fewer}, or {otherwise}"
            )


def _asks_judge(metrics: Sequence[str], own: Tensor | None) -> bool:
    """Whether a metric takes the judge's verdicts, with these of the extractor, if it has any."""
    asked = {find_metric(name).verdicts for name in metrics}
    return "judge" in asked or ("extractor" in asked and own is None)


def _figures(metrics: Sequence[str], draw: Draw | None, judged: Judged) -> list[Figure]:
    scale, sampler, steps = (draw.scale, draw.sampler, draw.steps) if draw else (None,) * 3
    return [
        Figure(scale, sampler, steps, name, key, *astuple(row.measure.within_limits(estimate)))
        for name in metrics
        for row in [find_metric(name)]
        for key, estimate in row.figures(judged).items()
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
    judged: Judged,
) -> list[str]:
    """What weakens the figures, with so many features and samples."""
    found, width = [], judged.fake.shape[1]
    smallest = (int(np.unique(real_labels, return_counts=True)[1].min()),
                int(judged.fake_labels.unique(return_counts=True)[1].min()))  # fmt: skip
    for name in metrics:
        row = find_metric(name)
        of_classes = row.real_per_class > 0
        real, generated = smallest if of_classes else (all_real, len(judged.fake))
        if row.unbiased and min(real, generated) <= width:
            where = "the smallest class has" if of_classes else "there are"
            given = "label more images" if of_classes else "add images"
            more = given if real <= width else "give more samples (-n)"
            found.append(
                f"{name}: {where} {real} real and {generated} generated images for {width} "
                f"features; compare it between methods only, {more}, or take "
                f"{row.unbiased}, which has no bias"
            )
        if row.verdicts == "judge" and judge is not None and (text := _of_judge(judge)):
            found.append(f"{name}: {text}")
    return found


def _of_judge(judge: Judge) -> str | None:
    """What weakens the judge's verdicts."""
    if judge.accuracy is None:
        return "no labelled image was held out, the judge's own is unknown"
    if judge.accuracy.low < _WEAK:
        return (
            f"the judge itself is right in {judge.accuracy.value:.0%} of real images "
            f"(95 % interval from {judge.accuracy.low:.0%}); its verdicts are weak evidence"
        )
    return None
