"""What a comparison leaves to look at: tables, plots, a page."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fewlabel.calibration import Reliability
from fewlabel.errors import TrainingError
from fewlabel.experiments.compare import Results
from fewlabel.experiments.compare_cells import Cell, Protocol, Row, cell_of, labels_of_cell
from fewlabel.experiments.compare_tables import (
    LEVEL,
    OF_CLASSIFIERS,
    averaged,
    differences,
    findings,
    table_of,
)
from fewlabel.experiments.grid import Grid
from fewlabel.files import write_text
from fewlabel.metrics.intervals import Estimate
from fewlabel.pictures.grid import class_grid
from fewlabel.report.comparison_page import comparison_page
from fewlabel.report.held_out import held_out_in_words
from fewlabel.report.label_curves import label_sweep
from fewlabel.report.noise import by_noise_level, reliability_diagrams
from fewlabel.report.page import Picture, write_page
from fewlabel.report.table import to_csv, to_markdown
from fewlabel.report.tradeoff import tradeoff
from fewlabel.run import Run, load

__all__ = ["refuse_nothing", "write_results"]

_SHOWN = 4


def write_results(results: Results, asked: Grid) -> dict[str, Any]:
    """Write table.md, table.csv, plots as PNG and SVG, and report.html into the folder.

    Args:
        results: the figures.
        asked: the cells to show, in order; figures of others are left out.

    Returns:
        The paths, the table's rows, and what failed: plain values for JSON.
    """
    protocol, shown = asked.protocol, []
    for amount in asked.labels:
        repeats = asked.repeats(amount)
        for method in asked.methods:
            shown += _counted(results, labels_of_cell(amount), method, repeats)
    reported = averaged(row for row in shown if row["split"] == "report")
    table = table_of(shown, reported, results.failed, protocol)
    paired = differences((r for r in shown if r["split"] == "report"), protocol.metrics)
    tables = {"Figures": table} | ({"Differences": paired} if paired else {})
    write_text(results.out / "table.md", "\n".join(map(to_markdown, tables.values())))
    write_text(results.out / "table.csv", to_csv(table))
    figures = _figures(results.out, shown, reported, protocol.metrics)
    if pictures := _sample_figures(results.out, shown, protocol):
        figures = {"Samples": pictures} | figures
    notes = _notes(shown, protocol)
    page = comparison_page(
        "Methods on few labels",
        " ".join(findings(table, protocol.metrics)),
        facts=_facts(results.out, shown, protocol),
        tables=tables,
        figures=figures,
        commands=(_again(results.out, asked),),
        notes=notes,
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
        "notes": notes,
    }


def refuse_nothing(document: Mapping[str, Any]) -> None:
    """Raise if there is no figure at all.

    Args:
        document: what `write_results` gave.

    Raises:
        TrainingError: why the first of the cells failed.
    """
    if not document["rows"]:
        raise TrainingError(f"every cell failed: {next(iter(document['failed'].values()))}")


def _counted(
    results: Results, labels: str, method: str, repeats: Sequence[tuple[int, int]]
) -> list[Row]:
    """The rows of these repeats, without reports of a weight that is not, or no longer, chosen."""
    rows = [
        row
        for row in results.rows
        if (row["labels"], row["method"]) == (labels, method)
        and (row["label_seed"], row["seed"]) in repeats
    ]
    cells = dict.fromkeys(cell_of(row) for row in rows if row["split"] == "validation")
    first = [cell for cell in cells if replace(cell, weight=None) == Cell(method, labels)]
    if not first:
        return rows
    weight = results.chosen(first)[0].weight
    return [row for row in rows if row["split"] == "validation" or row["weight"] == weight]


def _overall(rows: Iterable[Row], metric: str) -> list[Row]:
    return [row for row in rows if row["metric"] == metric and row["class"] is None]


# Figures


def _figures(
    out: Path, shown: Sequence[Row], reported: Sequence[Row], metrics: Sequence[str]
) -> dict[str, list[Picture]]:
    """The plots, by heading; each is written as PNG and SVG."""
    found: dict[str, list[Picture]] = {}
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
        caption = "Classifiers on noisy held-out images, by the noise level σ/α."
        found["Classifiers"] = [
            _drawn(
                out / "noise", caption, lambda path: by_noise_level(noisy, path, OF_CLASSIFIERS)
            ),
            _drawn(
                out / "reliability",
                f"Accuracy against confidence at σ/α = {LEVEL:g}, first draw.",
                lambda path: reliability_diagrams(_diagrams(noisy), path),
            ),
        ]
    return found


def _drawn(path: Path, caption: str, draw: Any) -> Picture:
    for suffix in (".svg", ".png"):
        draw(path.with_suffix(suffix))
    return Picture(path.with_suffix(".png"), caption, caption)


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
        if row.get("sigma") == LEVEL and "bins" in row:
            bins = torch.tensor(row["bins"], dtype=torch.float64).T
            of_labels = diagrams.setdefault(f"labels {row['labels']}", {})
            of_labels[row["method"]] = Reliability(*bins)
    return diagrams


def _sample_figures(out: Path, shown: Sequence[Row], protocol: Protocol) -> list[Picture]:
    """A grid for each amount of labels: a row a class, some samples of each method."""
    cells: dict[str, dict[str, tuple[Cell, float]]] = {}
    for row in shown:
        if row["split"] == "report":
            of_labels = cells.setdefault(row["labels"], {})
            of_labels.setdefault(row["method"], (cell_of(row), row["scale"]))
    return [
        _sample_figure(out, labels, of_labels, protocol)
        for labels, of_labels in cells.items()
        if all((out / "runs" / cell.folder).is_dir() for cell, _ in of_labels.values())
    ]


def _sample_figure(
    out: Path, labels: str, cells: Mapping[str, tuple[Cell, float]], protocol: Protocol
) -> Picture:
    path = out / f"samples-{next(iter(cells.values()))[0].folder.parts[1]}.png"
    columns, sampler = {}, protocol.sampler
    for method, (cell, scale) in cells.items():
        run = load(out / "runs" / cell.folder)
        asked = torch.arange(len(run.class_names)).repeat_interleave(_SHOWN)
        images = run.sample(asked, scale=scale, sampler=sampler, steps=protocol.steps, seed=0)
        columns[method] = dict(zip(run.class_names, images.split(_SHOWN), strict=True))
    class_grid(columns, path)
    caption = f"Labels {labels}, first draw: each row is a class asked for."
    return Picture(path, caption, "samples of each class and method")


# Facts


def _facts(out: Path, shown: Sequence[Row], protocol: Protocol) -> dict[str, str]:
    facts = {"scales": ", ".join(f"{scale:g}" for scale in protocol.scales)}
    run = _some_run(out, shown)
    if run is not None:
        splits = run.splits
        facts = {
            "data": f"{splits.data}: {len(splits.train)} training examples, "
            + held_out_in_words(splits, "to choose by", "judge and classifiers"),
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
    """What weakens the comparison: too few examples, choices at the edge of the grid."""
    widest = max(protocol.scales)
    found = list(dict.fromkeys(text for row in shown for text in row.get("warnings", ())))
    for (labels, method), scale in _chosen_scales(shown).items():
        if scale == widest and len(protocol.scales) > 1:
            found.append(
                f"{method}, labels {labels}: the largest scale that was tried is the best; a "
                "larger one may be better (--scale)"
            )
    return found


def _again(out: Path, asked: Grid) -> str:
    """The command that repeats the comparison."""
    protocol = asked.protocol
    words = ["fewlabel", "compare", protocol.data, "--methods", ",".join(asked.methods)]
    words += ["--labels", ",".join(asked.labels), "--seeds", str(asked.seeds)]
    if asked.draws is not None:
        words += ["--draws", str(asked.draws)]
    words += ["--scale", ",".join(f"{scale:g}" for scale in protocol.scales)]
    words += ["--metrics", ",".join(protocol.metrics), "-n", str(protocol.per_class)]
    words += ["--sampler", protocol.sampler, "--extractor", protocol.extractor]
    for option in ("steps", "size", "preset", "score", "teacher", "recipe"):
        if (value := getattr(protocol, option)) is not None:
            words += [f"--{option}", str(value)]
    words += ["--scale-down"] * protocol.scale_down
    words += [word for override in protocol.overrides for word in ("--set", override)]
    return shlex.join([*words, "--out", str(out)])
