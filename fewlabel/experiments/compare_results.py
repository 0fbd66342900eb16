"""What a comparison leaves to look at: tables, plots, a page.

The repeats of a method at an amount of labels (draws, seeds) are averaged, with Student's
interval; of a single repeat the figure stands, with the interval over its samples.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from fewlabel.calibration import Reliability
from fewlabel.experiments.compare import Results
from fewlabel.experiments.compare_cells import Cell, Protocol, Row, cell_of
from fewlabel.files import write_text
from fewlabel.metrics.intervals import Estimate, over_seeds
from fewlabel.metrics.limits import within_limits
from fewlabel.pictures.grid import class_grid
from fewlabel.report.comparison_page import comparison_of, comparison_page
from fewlabel.report.label_curves import label_sweep
from fewlabel.report.measures import measure
from fewlabel.report.noise import by_noise_level, reliability_diagrams
from fewlabel.report.page import Figure, write_page
from fewlabel.report.table import Comparison, Entry, Group, groups, to_csv, to_markdown
from fewlabel.report.tradeoff import tradeoff
from fewlabel.run import Run, load

__all__ = ["averaged", "differences", "write_results"]

_LEVEL = 0.5
"""The noise level at which the classifiers' figures are in the table and reliability is drawn."""

_OF_CLASSIFIERS = ("classifier-accuracy", "classifier-ece")
_SHOWN = 4
_FEWEST_PAIRS = 2
_TEXTS = 2
"""Columns of the table before the figures."""

_Repeats = dict[tuple[int, int], float]
"""A figure by the seeds of the draw and of training."""


def averaged(rows: Iterable[Row], *more: str) -> list[Row]:
    """The mean over repeats of each figure.

    Args:
        rows: of one split.
        more: keys that tell figures apart beside the cell's, the metric, class and noise level.
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        keys = ("labels", "method", "metric", "class", "sigma", *more)
        found.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    means = []
    for same in found.values():
        estimate = Estimate(*(same[0][key] for key in ("value", "low", "high")))
        if len(same) > 1:
            estimate = over_seeds([row["value"] for row in same])
            estimate = within_limits(same[0]["metric"], estimate)
        means.append(same[0] | vars(estimate) | {"repeats": len(same)})
    return means


def differences(rows: Iterable[Row], metrics: Sequence[str]) -> Comparison | None:
    """How far each method is from the best, repeat by repeat.

    The methods share the draws of labels, so that a draw that is hard for all takes no part in
    the mean of the differences, nor in Student's interval for it.

    Args:
        rows: of the reported split.
        metrics: those that are contests become columns.

    Returns:
        The table; None where no two repeats are shared.
    """
    contests = [metric for metric in metrics if measure(metric).best is not None]
    cells: dict[tuple[str, str], None] = {}
    contest: dict[tuple[str, str], dict[str, _Repeats]] = {}
    for row in rows:
        if row["metric"] in contests and row["class"] is None:
            cells[row["labels"], row["method"]] = None
            rivals = contest.setdefault((row["labels"], row["metric"]), {})
            repeat = row["label_seed"], row["seed"]
            rivals.setdefault(row["method"], {})[repeat] = row["value"]
    behind = {key: _behind(rivals, key[1]) for key, rivals in contest.items()}
    entries: dict[tuple[str, str], list[Entry]] = {
        (labels, method): [behind.get((labels, metric), {}).get(method) for metric in contests]
        for labels, method in cells
    }
    if not any(isinstance(entry, Estimate) for row in entries.values() for entry in row):
        return None
    caption = (
        "Each method less the best of its column (shares in percentage points), on the repeats "
        "(draws of labels, seeds) that both have: the mean and Student's 95 % interval. Where the "
        "interval holds no 0, the two differ at the 5 % level."
    )
    columns = [
        replace(measure(m).column, best=None, digits=f"+{measure(m).digits}") for m in contests
    ]
    return Comparison(caption, "method", columns, entries)


def _behind(rivals: Mapping[str, _Repeats], metric: str) -> dict[str, Entry]:
    """The mean difference of each method from the best of them."""
    sign = 1 if measure(metric).best == "largest" else -1
    best = max(rivals, key=lambda name: sign * fmean(rivals[name].values()))
    found: dict[str, Entry] = {best: "the best"}
    for method in rivals.keys() - {best}:
        shared = rivals[method].keys() & rivals[best].keys()
        if len(shared) >= _FEWEST_PAIRS:
            found[method] = over_seeds(
                [rivals[method][k] - rivals[best][k] for k in sorted(shared)]
            )
    return found


def write_results(
    results: Results, protocol: Protocol, methods: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Write table.md, table.csv, plots as PNG and SVG, and report.html into the folder.

    Args:
        results: the figures.
        protocol: what held for every cell.
        methods: those to show, in order.
        labels: the amounts of labels to show, in order.

    Returns:
        The paths, the table's rows, and what failed: plain values for JSON.
    """
    shown = [r for n in labels for m in methods for r in _counted(results, n, m)]
    reported = averaged(row for row in shown if row["split"] == "report")
    table = _table(shown, reported, results.failed, protocol)
    paired = differences((r for r in shown if r["split"] == "report"), protocol.metrics)
    tables = {"Figures": table} | ({"Differences": paired} if paired else {})
    write_text(results.out / "table.md", "\n".join(map(to_markdown, tables.values())))
    write_text(results.out / "table.csv", to_csv(table))
    figures = _figures(results.out, shown, reported, protocol.metrics)
    if pictures := _sample_figures(results.out, shown):
        figures = {"Samples": pictures} | figures
    page = comparison_page(
        "Methods on few labels",
        " ".join(_findings(table, protocol.metrics)),
        facts=_facts(results.out, shown, protocol),
        tables=tables,
        figures=figures,
        commands=(_again(results.out, protocol, methods, labels, shown),),
        notes=_notes(shown, protocol),
    )
    report = write_page(results.out / "report.html", page)
    rows = [row for row in reported if row["class"] is None]
    keys = ("labels", "n_labels", "method", "metric", "sigma", "value", "low", "high", "repeats")
    return {
        "rows": [{key: row[key] for key in keys if key in row} for row in rows],
        "failed": {str(cell): why for cell, why in results.failed.items()},
        "results": str(results.out / "results.jsonl"),
        "table": str(results.out / "table.md"),
        "report": str(report),
    }


def _counted(results: Results, labels: str, method: str) -> list[Row]:
    """The rows of a method, without reports of a weight that is not, or no longer, chosen."""
    rows = [row for row in results.rows if (row["labels"], row["method"]) == (labels, method)]
    cells = dict.fromkeys(cell_of(row) for row in rows if row["split"] == "validation")
    first = [cell for cell in cells if (cell.label_seed, cell.seed) == (0, 0)]
    if not first:
        return rows
    weight = results.chosen(first)[0].weight
    return [row for row in rows if row["split"] == "validation" or row["weight"] == weight]


def _overall(rows: Iterable[Row], metric: str) -> list[Row]:
    return [row for row in rows if row["metric"] == metric and row["class"] is None]


# The table


def _table(
    shown: Sequence[Row], reported: Sequence[Row], failed: Mapping[Cell, str], protocol: Protocol
) -> Comparison:
    at_level = (f"{metric}@{_LEVEL:g}" for metric in _OF_CLASSIFIERS if _overall(reported, metric))
    reasons = {(cell.labels, cell.method): why for cell, why in failed.items()}
    repeats = max((row["repeats"] for row in reported), default=1)
    of = "means over repeats (draws of labels, seeds), with Student's 95 % intervals"
    if repeats == 1:
        of = "of one run each, with 95 % intervals over its samples"
    caption = (
        f"{protocol.per_class} samples a class; {of}. λ: the chosen weight of a regulariser, or "
        "(cfg-all) share of images that show a label, if not that of the data; scale: the chosen "
        "guidance scales, by repeat."
    )
    texts = {"λ": _chosen(shown, "weight"), "scale": _chosen(shown, "scale")}
    metrics = [*protocol.metrics, *at_level]
    return comparison_of(reported, metrics, caption, reasons, texts)


def _chosen(rows: Iterable[Row], key: str) -> dict[tuple[str, str], str]:
    """What was chosen for each amount of labels and method: of several repeats each, once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if row["split"] == "report" and row[key] is not None:
            of_cell = found.setdefault((row["labels"], row["method"]), {})
            of_cell[f"{row[key]:g}"] = None
    return {cell: ", ".join(values) for cell, values in found.items()}


def _findings(table: Comparison, metrics: Sequence[str]) -> list[str]:
    """What is best in each group of the table, in plain words, and what is tied with it."""
    found = []
    for group in groups(table):
        for index, metric in enumerate(metrics, _TEXTS):
            if measure(metric).best is not None:
                found += _finding(group, index, metric)
    return found


def _finding(group: Group, column: int, metric: str) -> list[str]:
    marks = {name: cells[column].mark for name, cells in group.rows.items()}
    best = [name for name, mark in marks.items() if mark == "best"]
    tied = [name for name, mark in marks.items() if mark == "tied"]
    if not best:
        return []
    rest = f", tied with {', '.join(tied)}" if tied else ", apart from all others"
    return [f"Labels {group.name}, {measure(metric).title}: {', '.join(best)} is best{rest}."]


# Figures


def _figures(
    out: Path, shown: Sequence[Row], reported: Sequence[Row], metrics: Sequence[str]
) -> dict[str, list[Figure]]:
    """The plots, by heading; each is written as PNG and SVG."""
    found: dict[str, list[Figure]] = {}
    amounts = {row["n_labels"]: row["labels"] for row in reported}
    if len(amounts) > 1:
        curves = {metric: _curve(reported, metric) for metric in metrics}
        caption = "Mean over repeats with 95 % intervals; each scale was chosen on validation."
        found["Against the number of labels"] = [
            _drawn(out / "labels", caption, lambda path: label_sweep(curves, path, amounts))
        ]
    sweep = averaged(_of_chosen_weight(shown, "validation"), "scale")
    if _overall(sweep, "recall"):
        caption = "On the validation split, along the guidance scale."
        chosen = _chosen_scales(shown)
        found["Fidelity against diversity"] = [
            _drawn(out / "tradeoff", caption, lambda path: tradeoff(sweep, path, chosen=chosen))
        ]
    noisy = [row for row in reported if row.get("sigma") is not None]
    if noisy:
        caption = "Classifiers on noisy test images, by the noise level σ/α."
        found["Classifiers"] = [
            _drawn(
                out / "noise", caption, lambda path: by_noise_level(noisy, path, _OF_CLASSIFIERS)
            ),
            _drawn(
                out / "reliability",
                f"Accuracy against confidence at σ/α = {_LEVEL:g}, first draw.",
                lambda path: reliability_diagrams(_diagrams(noisy), path),
            ),
        ]
    return found


def _drawn(path: Path, caption: str, draw: Any) -> Figure:
    for suffix in (".svg", ".png"):
        draw(path.with_suffix(suffix))
    return Figure(path.with_suffix(".png"), caption, caption)


def _curve(reported: Sequence[Row], metric: str) -> dict[str, dict[int, Estimate]]:
    curves: dict[str, dict[int, Estimate]] = {}
    for row in _overall(reported, metric):
        estimate = Estimate(row["value"], row["low"], row["high"])
        curves.setdefault(row["method"], {})[row["n_labels"]] = estimate
    return curves


def _of_chosen_weight(shown: Sequence[Row], split: str) -> list[Row]:
    """Rows of the cells that were reported, without those of the weights not chosen."""
    reported = {cell_of(row) for row in shown if row["split"] == "report"}
    return [row for row in shown if row["split"] == split and cell_of(row) in reported]


def _chosen_scales(shown: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The scale of the first repeat of each amount of labels and method."""
    scales: dict[tuple[str, str], float] = {}
    for row in shown:
        if row["split"] == "report":
            scales.setdefault((row["labels"], row["method"]), row["scale"])
    return scales


def _diagrams(noisy: Sequence[Row]) -> dict[str, dict[str, Reliability]]:
    diagrams: dict[str, dict[str, Reliability]] = {}
    for row in noisy:
        if row.get("sigma") == _LEVEL and "bins" in row:
            bins = torch.tensor(row["bins"], dtype=torch.float64).T
            of_labels = diagrams.setdefault(f"labels {row['labels']}", {})
            of_labels[row["method"]] = Reliability(*bins)
    return diagrams


def _sample_figures(out: Path, shown: Sequence[Row]) -> list[Figure]:
    """A grid for each amount of labels: a row a class, some samples of each method."""
    cells: dict[str, dict[str, tuple[Cell, float]]] = {}
    for row in shown:
        if row["split"] == "report":
            of_labels = cells.setdefault(row["labels"], {})
            of_labels.setdefault(row["method"], (cell_of(row), row["scale"]))
    return [
        _sample_figure(out, labels, of_labels)
        for labels, of_labels in cells.items()
        if all((out / "runs" / cell.folder).is_dir() for cell, _ in of_labels.values())
    ]


def _sample_figure(out: Path, labels: str, cells: Mapping[str, tuple[Cell, float]]) -> Figure:
    path = out / f"samples-{next(iter(cells.values()))[0].folder.parts[1]}.png"
    columns = {}
    for method, (cell, scale) in cells.items():
        run = load(out / "runs" / cell.folder)
        asked = torch.arange(len(run.class_names)).repeat_interleave(_SHOWN)
        images = run.sample(asked, len(asked), scale, seed=0).split(_SHOWN)
        columns[method] = dict(zip(run.class_names, images, strict=True))
    class_grid(columns, path)
    caption = f"Labels {labels}, first draw: each row is a class asked for."
    return Figure(path, caption, "samples of each class and method")


# Facts


def _facts(out: Path, shown: Sequence[Row], protocol: Protocol) -> dict[str, str]:
    facts = {"scales": ", ".join(f"{scale:g}" for scale in protocol.scales)}
    run = _some_run(out, shown)
    if run is not None:
        splits = run.splits
        facts = {
            "data": f"{splits.data}: {len(splits.train)} training examples, "
            f"{len(splits.validation)} to choose by, {len(splits.test)} to test judge and "
            "classifiers",
            "preset": run.config.preset,
        } | facts
    facts |= {
        "choice": f"least intra-FID of {protocol.per_class_to_choose} samples a class against the "
        "validation images: the scale in every cell, a regulariser's weight on the first draw",
        "extractor": ", ".join(dict.fromkeys(row["extractor"] for row in shown)),
        "sampler": f"{protocol.sampler}, {protocol.steps or 'its default'} steps",
    }
    return facts


def _some_run(out: Path, shown: Sequence[Row]) -> Run | None:
    for row in shown:
        folder = out / "runs" / cell_of(row).folder
        if (folder / "config.yaml").exists():
            return load(folder)
    return None


def _notes(shown: Sequence[Row], protocol: Protocol) -> list[str]:
    """What weakens the comparison: choices at the edge of the grid."""
    widest, found = max(protocol.scales), []
    for (labels, method), scale in _chosen_scales(shown).items():
        if scale == widest and len(protocol.scales) > 1:
            found.append(
                f"{method}, labels {labels}: the largest scale that was tried is the best; a "
                "larger one may be better (--scale)"
            )
    return found


def _again(
    out: Path,
    protocol: Protocol,
    methods: Sequence[str],
    labels: Sequence[str],
    shown: Sequence[Row],
) -> str:
    """The command that repeats the comparison."""
    repeats = {(row["label_seed"], row["seed"]) for row in shown}
    draws, seeds = (len({repeat[i] for repeat in repeats}) for i in (0, 1))
    words = ["fewlabel", "compare", protocol.data, "--methods", ",".join(methods)]
    words += ["--labels", ",".join(labels), "--seeds", str(max(seeds, 1))]
    if len(repeats) != seeds:
        words += ["--draws", str(draws)]
    words += ["--scale", ",".join(f"{scale:g}" for scale in protocol.scales)]
    words += ["--metrics", ",".join(protocol.metrics), "-n", str(protocol.per_class)]
    words += ["--sampler", protocol.sampler, "--extractor", protocol.extractor]
    for option in ("steps", "size", "preset", "score", "teacher", "recipe"):
        if (value := getattr(protocol, option)) is not None:
            words += [f"--{option}", str(value)]
    words += ["--scale-down"] * protocol.scale_down
    words += [word for override in protocol.overrides for word in ("--set", override)]
    return shlex.join([*words, "--out", str(out)])
