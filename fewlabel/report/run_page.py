"""The page of a run: what was trained on what, samples, curves, calibration, figures."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewlabel.files import scratch_folder, write_json
from fewlabel.metrics.judging import nearest_training
from fewlabel.metrics.report import Report
from fewlabel.metrics.table import measure
from fewlabel.pictures.grid import class_grid, pairs_sheet
from fewlabel.pictures.scatter import scatter
from fewlabel.report.curves import training_curves
from fewlabel.report.evaluation import figures_by_class, figures_by_draw, uncontested
from fewlabel.report.figures import scale_sweep
from fewlabel.report.held_out import held_out_in_words
from fewlabel.report.page import Page, Picture, Section, write_page
from fewlabel.report.table import Comparison, Entry
from fewlabel.run import Run
from fewlabel.run_folder import summary

__all__ = ["labelled_examples", "run_page", "write_evaluation", "write_run_report"]

_SHOWN, _POINTS, _LABELLED = 8, 200, 4
_AMONG = 10_000  # as many training images are looked at for the nearest
_PAIRS = 2
"""Samples of each class that are set beside their nearest training images."""
_CLASSES = 20
"""So many classes have a row of samples and of figures."""
_SEED = 0


def write_run_report(
    run: Run,
    report: Report | None = None,
    command: str | None = None,
    folder: Path | None = None,
) -> Path:
    """Write report.html, one page that needs no other file.

    Args:
        run: a trained run.
        report: its evaluation, if there is one; then samples are set beside the training images
            nearest to them, too.
        command: the shell command that evaluated it.
        folder: where to write it; None for the run folder.

    Returns:
        The path that was written.

    Raises:
        UserError: the run lacks weights or its data, or a file cannot be written.
    """
    with scratch_folder() as pictures:
        page = run_page(run, pictures, report, command)
        return write_page((folder or run.folder.path) / "report.html", page)


def write_evaluation(
    run: Run, report: Report, folder: Path | None = None, command: str | None = None
) -> Path:
    """Write evaluation.json, the figures as `evaluate --json` prints them, and report.html.

    Args:
        run: a trained run.
        report: its evaluation.
        folder: where to write them; None for the run folder.
        command: the shell command that evaluated it.

    Returns:
        The page.

    Raises:
        UserError: a file cannot be written.
    """
    write_json((folder or run.folder.path) / "evaluation.json", report.to_dict())
    return write_run_report(run, report, command, folder)


def run_page(
    run: Run,
    pictures: Path,
    report: Report | None = None,
    command: str | None = None,
) -> Page:
    """The page of a run; see `write_run_report`.

    Args:
        run: a trained run.
        pictures: the folder that its pictures are written to; the page refers to them there.
        report: its evaluation, if there is one.
        command: the shell command that evaluated it.
    """
    config, scale = run.config, _scale(run, report)
    names, each = run.class_names[:_CLASSES], _SHOWN if len(config.shape) > 1 else _POINTS
    asked = torch.arange(len(names)).repeat_interleave(each)
    ways = [draw for draw in report.draws if draw.scale == scale] if report is not None else []
    how: dict[str, Any] = {"sampler": ways[0].sampler, "steps": ways[0].steps} if ways else {}
    drawn = run.sample(asked, len(asked), scale, seed=_SEED, **how)
    samples = dict(zip(names, drawn.split(each), strict=True))
    parts = [
        Section("What was trained on what", facts=_facts(run)),
        Section("Samples by class", figures=(_samples(run, scale, samples, pictures),)),
    ]
    if report is not None:
        parts += _evaluated(run, report, scale, pictures)
    if records := run.folder.records():
        curves = training_curves(records, pictures / "curves.png")
        caption = (
            "Training losses at each logging step; validation on held-out examples"
            f"{' (σ in units of σ_data)' if len(config.shape) == 1 else ''}."
        )
        alt = "losses and validation figures against the training step"
        parts.append(Section("Training curves", figures=(Picture(curves, caption, alt),)))
    if (calibration := _calibration(run)) is not None:
        parts.append(Section("Calibration of the classifier", comparison=calibration))
    if report is not None and len(config.shape) > 1:
        pairs = _pairs(run, drawn[:: each // _PAIRS], pictures)
        parts.append(Section("Nearest training images", figures=(pairs,)))
    parts.append(Section("Do it again", commands=_commands(run, command)))
    lead = f"{config.method} trained on {run.dataset.name}: {run.method.summary}"
    return Page(f"Run {run.folder.path.name}", lead, parts)


def labelled_examples(run: Run) -> dict[str, Tensor]:
    """The first labelled training images of each class."""
    labels = run.splits.training_labels(run.dataset)
    return {
        name: run.dataset.examples(np.flatnonzero(labels == index)[:_LABELLED])
        for index, name in enumerate(run.class_names)
    }


def _scale(run: Run, report: Report | None) -> float:
    """The scale of the samples to show: the method's, unless it was not evaluated."""
    evaluated = [draw.scale for draw in report.draws] if report is not None else []
    return run.method.scale if run.method.scale in evaluated or not evaluated else evaluated[0]


def _facts(run: Run) -> dict[str, str]:
    config, known = run.config, summary(run.folder)
    examples, shape = known["examples"], " × ".join(map(str, config.shape))
    steps = [
        f"{stage} {known['steps'][stage]} in {known['seconds'][stage]:.0f} s"
        for stage in known["steps"]
        if not (stage == "score" and config.score_from)
    ]
    facts = {
        "data": f"{config.data}: {examples['train']} training examples of {shape}, "
        f"{len(run.class_names)} classes",
        "labels": f"{examples['labelled']} training examples carry one ({config.labels})",
        "held out": held_out_in_words(run.splits, "to validate", "the judge"),
        "method": config.method,
        "noise": _noise(config.process),
        "preset": config.preset,
        "steps": "; ".join(steps),
        "seed": str(config.seed),
    }
    if config.score_from:
        facts["score model"] = f"of {config.score_from}"
    if examples["broken"]:
        facts["broken files"] = f"{examples['broken']} left out"
    return facts


def _noise(process: Mapping[str, Any]) -> str:
    """The process and its parameters, such as "edm (sigma_min 0.01)"."""
    settings = ", ".join(f"{key} {value}" for key, value in process.items() if key != "name")
    return f"{process['name']} ({settings})"


def _samples(run: Run, scale: float, samples: Mapping[str, Tensor], pictures: Path) -> Picture:
    """Labelled examples and samples, a row a class; of vectors the first two coordinates."""
    title = f"{run.config.method}, scale {scale:g}"
    more = len(run.class_names) - len(samples)
    rest = f" {more} more classes are not shown." if more else ""
    if len(run.config.shape) == 1:
        path = scatter(samples, pictures / "samples.png", title)
        return Picture(path, f"{_POINTS} samples of each class.{rest}", "samples by class")
    labelled = {name: x for name, x in labelled_examples(run).items() if name in samples}
    path = class_grid({"labelled": labelled, title: samples}, pictures / "samples.png")
    caption = f"Left: labelled training images. Each row is a class asked for.{rest}"
    return Picture(path, caption, "labelled images and samples, a row a class")


def _pairs(run: Run, drawn: Tensor, pictures: Path) -> Picture:
    """Some samples above the training images nearest to them."""
    found = nearest_training(drawn, run.dataset, run.splits, most=_AMONG, device=run.device)
    images = run.dataset.examples(found.index.numpy())
    path = pairs_sheet(drawn, images, found.distance, pictures / "pairs.png")
    some = f" Of {_AMONG} of the training images." if len(run.splits.train) > _AMONG else ""
    caption = (
        "Samples above the training images nearest to them by the judge's features, the closest "
        f"first. A copy is at distance 0.{some}"
    )
    return Picture(path, caption, "pairs of a sample and its nearest training image")


def _evaluated(run: Run, report: Report, scale: float, pictures: Path) -> list[Section]:
    """Figures over all classes of each draw, the sweep, and figures of each class."""
    metrics = list(dict.fromkeys(figure.metric for figure in report.figures))
    figures: list[Picture] = []
    if len({draw.scale for draw in report.draws}) > 1:
        path = scale_sweep(report.lines(), pictures / "sweep.png", metrics=metrics)
        shown = "The same figures against the guidance scale."
        figures.append(Picture(path, shown, "metrics against the guidance scale"))
    table = figures_by_draw(report)
    sections = [Section("Figures", comparison=table, figures=figures, notes=report.warnings)]
    of_classes = figures_by_class(report, run.class_names[:_CLASSES], scale)
    if of_classes is not None:
        sections.append(Section("Figures of each class", comparison=of_classes))
    return sections


def _calibration(run: Run) -> Comparison | None:
    """Accuracy and calibration error at each noise level of validation, if there was one."""
    kind = "last" if run.config.classifier.fit.patience is None else "best"
    known = summary(run.folder)["validation" if kind == "last" else "best"]
    levels: dict[str, dict[str, float]] = {}
    unit = " σ_data" if len(run.config.shape) == 1 else ""
    for name, value in known.get("classifier", {}).items():
        quantity, _, level = name.partition("@")
        if level:
            levels.setdefault(f"σ = {level}{unit}", {})[quantity] = value
    if not levels:
        return None
    metrics = ("accuracy", "ece")
    rows: dict[str, Sequence[Entry]] = {
        level: [_text(metric, figures.get(metric)) for metric in metrics]
        for level, figures in levels.items()
    }
    caption = f"On held-out labelled examples, at the {kind} validation."
    return uncontested(caption, "noise level", metrics, rows)


def _text(metric: str, value: float | None) -> str | None:
    return None if value is None else format(value, measure(metric).digits)


def _commands(run: Run, command: str | None) -> list[str]:
    """What trains the same run again, and what evaluated it."""
    config, again = run.folder.path / "config.yaml", f"{run.folder}-again"
    words = ["fewlabel", "train", run.config.data, "--config", str(config), "--out", again]
    return [shlex.join(words), *([command] if command else [])]
