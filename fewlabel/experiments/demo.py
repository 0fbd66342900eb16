"""The demo: plain classifier guidance and the default method on the same few labels."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fewlabel.experiments.compare_checks import refuse_overrides
from fewlabel.experiments.document import write_document
from fewlabel.files import check_free
from fewlabel.methods import DEFAULT
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.judging import check_data
from fewlabel.metrics.report import Report
from fewlabel.pictures.grid import class_grid
from fewlabel.program import command
from fewlabel.report.figures import scale_sweep
from fewlabel.report.held_out import held_out_in_words
from fewlabel.report.page import Page, Picture, Section, write_page
from fewlabel.report.run_page import labelled_examples
from fewlabel.report.table import Column, Comparison
from fewlabel.run import Run
from fewlabel.training.train import prepare, train

__all__ = ["run_demo"]

_DATA, _LABELS = "digits", "0.05"

_METHODS = ("cg", DEFAULT)
_OPTIONS = {
    "data": "DATA",
    "size": "--size",
    "labels": "--labels",
    "method": "`fewlabel compare --methods`",
    "score_from": "`fewlabel compare --score`",
    "teacher": "`fewlabel compare --teacher`",
}
_SCALES = (1.0, 2.0, 3.0, 4.0, 6.0)
_METRICS = ("accuracy", "intra-fid")
_PER_CLASS_TO_CHOOSE, _PER_CLASS = 40, 100
_SEED_TO_CHOOSE, _SEED = 1, 0
_SHOWN = 10
_NEXT = (
    "train FOLDER --size 32 --out runs/mine",
    "sample runs/mine",
    "evaluate runs/mine --scale 1,2,4",
)


def run_demo(
    out: Path,
    data: str = _DATA,
    labels: str = _LABELS,
    overrides: Sequence[str] = (),
    size: int | None = None,
) -> dict[str, Any]:
    """Train, choose each method's scale on the validation split, compare, draw.

    One score model serves both methods. Called again it goes on where it was stopped.

    Args:
        out: the folder; it gets a run folder a method, table.json, grid.png, sweep.png and
            report.html.
        data: images, as `train` takes them.
        labels: which labels may be used, as `train` takes them.
        overrides: "dotted.key=value" for any field of the configuration of both runs.
        size: side of the images; None for the data's own, at most 64.

    Returns:
        The document of table.json, with whole paths.

    Raises:
        UserError: for wrong input, before anything is trained.
    """
    began = time.monotonic()
    refuse_overrides(overrides, _OPTIONS)
    check_free(out, _METHODS[0], "demo")
    options: dict[str, Any] = {"method": _METHODS[0], "labels": labels, "size": size}
    planned = prepare(data, out=out / _METHODS[0], options=options, overrides=overrides)
    for reference in ("validation", "report"):
        check_data(_METRICS, planned.dataset, planned.splits, reference)
    runs: dict[str, Run] = {}
    for method in _METHODS:
        score = out / _METHODS[0] if runs else None
        settings = options | {"method": method, "overrides": overrides}
        runs[method] = train(data, out=out / method, score=score, exist_ok=True, **settings)
    choices = {
        method: run.evaluate(
            _METRICS,
            _SCALES,
            per_class=_PER_CLASS_TO_CHOOSE,
            seed=_SEED_TO_CHOOSE,
            reference="validation",
        )
        for method, run in runs.items()
    }
    scales = {method: choice.best_scale("intra-fid") for method, choice in choices.items()}
    reports = {
        method: run.evaluate(_METRICS, (scales[method],), per_class=_PER_CLASS, seed=_SEED)
        for method, run in runs.items()
    }
    sweep = [row for method, choice in choices.items() for row in _rows(method, choice)]
    grid = _draw_grid(runs, scales, out / "grid.png")
    scale_sweep(sweep, out / "sweep.png", scales)
    seconds = round(time.monotonic() - began, 1)
    document = {
        "rows": [row for method, report in reports.items() for row in _rows(method, report)],
        "seconds": seconds,
        "report": "report.html",
        "grid": grid.name,
        "validation": sweep,
        "next": _next_commands(),
    }
    again = ["fewlabel", "demo", data, "--labels", labels, "--out", str(out)]
    again += ["--size", str(size)] if size is not None else []
    again += [word for override in overrides for word in ("--set", override)]
    write_page(out / "report.html", _page(runs, scales, reports, out, shlex.join(again), seconds))
    return write_document(out, document, ("report", "grid"))


def _rows(method: str, report: Report) -> list[dict[str, Any]]:
    """The figures over all classes."""
    return [
        {"method": method, **figure.to_dict(), "n_samples": report.n_samples}
        for figure in report.figures
        if figure.class_index is None
    ]


def _draw_grid(runs: Mapping[str, Run], scales: Mapping[str, float], path: Path) -> Path:
    """Labelled images and both methods' samples, a row a class."""
    first = next(iter(runs.values()))
    columns = {"labelled": labelled_examples(first)}
    for method, run in runs.items():
        classes = len(run.class_names)
        images = run.sample(
            torch.arange(classes).repeat_interleave(_SHOWN),
            _SHOWN * classes,
            scales[method],
            seed=_SEED,
        )
        columns[f"{method}, scale {scales[method]:g}"] = dict(
            zip(run.class_names, images.split(_SHOWN), strict=True)
        )
    return class_grid(columns, path)


def _next_commands() -> list[str]:
    """What to type for a folder of one's own."""
    return [command(*arguments.split()) for arguments in _NEXT]


def _page(
    runs: Mapping[str, Run],
    scales: Mapping[str, float],
    reports: Mapping[str, Report],
    out: Path,
    again: str,
    seconds: float,
) -> Page:
    run = next(iter(runs.values()))
    name, labels, splits = run.dataset.name, run.config.labels, run.splits
    report = next(iter(reports.values()))
    facts = {
        "data": f"{name}: {len(splits.train)} training images; held out are "
        + held_out_in_words(splits, "to choose the scale", "the judge"),
        "labels": f"{len(splits.labelled)} of them carry a label "
        f"({labels}, about {round(len(splits.labelled) / len(splits.class_names))} a class)",
        "score model": "one, trained on all training images without labels, for both methods",
        "judge": f"a classifier trained on all labels ({report.extractor})"
        + (f", right in {report.judge_accuracy:.1%}" if report.judge_accuracy else ""),
        "time": f"{seconds:.0f} s",
    }
    return Page(
        f"{name.capitalize()} from a few labels",
        "Both methods draw from the same score model and learn the classes from the same labels. "
        f"cg trains its classifier on the labelled images alone; {DEFAULT} on all images, with "
        "the labels that spread from the few along what the score model knows.",
        (
            Section("What was compared", facts=facts, comparison=_comparison(reports, scales)),
            Section("Samples", figures=(_grid_figure(out),)),
            Section("How the scale was chosen", figures=(_sweep_figure(out),)),
            Section("Do it again", commands=(again,)),
            Section(
                "Your own images",
                "A folder with one sub-folder per class, and unlabeled/ for the rest.",
                commands=_next_commands(),
            ),
        ),
    )


def _comparison(reports: Mapping[str, Report], scales: Mapping[str, float]) -> Comparison:
    columns = (
        Column("scale"),
        Column("accuracy ↑", "largest", ".1%"),
        Column("intra-FID ↓", "smallest", ".2f"),
    )
    rows: dict[str, Sequence[Estimate | str | None]] = {}
    for method, report in reports.items():
        estimates = [report.overall(metric, scales[method]).estimate for metric in _METRICS]
        rows[method] = (f"{scales[method]:g}", *estimates)
    return Comparison(
        f"{_PER_CLASS} samples a class; 95 % intervals over samples of these two runs.",
        "method",
        columns,
        rows,
    )


def _grid_figure(out: Path) -> Picture:
    caption = "Left: some of the labelled images. Each row is a class asked for."
    return Picture(out / "grid.png", caption, "a row of samples for each class and method")


def _sweep_figure(out: Path) -> Picture:
    caption = (
        f"{_PER_CLASS_TO_CHOOSE} samples a class with a seed of their own, against the "
        "validation images. The ringed scale has the lowest intra-FID; the table above reports "
        "it on new samples against the other images."
    )
    return Picture(out / "sweep.png", caption, "accuracy and intra-FID against guidance scale")
