"""The CIFAR-10 tables of two publications, by their recipe, with published figures beside ours.

They take GPU weeks or months (`compare --recipe cifar10-ncsn++ --dry-run` tells how many); scaled
down they take a few minutes and say nothing but that everything works.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewlabel.experiments.compare import run_comparison
from fewlabel.experiments.compare_cells import Cell, CellTask, Row, perform
from fewlabel.experiments.compare_results import refuse_nothing, write_results
from fewlabel.experiments.compare_tables import averaged
from fewlabel.experiments.document import write_document
from fewlabel.experiments.grid import Grid, grid
from fewlabel.files import write_json, write_text
from fewlabel.metrics.intervals import Estimate
from fewlabel.regular_file import regular
from fewlabel.report.table import Column, Comparison, Entry, column_of, to_markdown

__all__ = ["PUBLISHED", "reproduce_cifar10_dlsm", "reproduce_cifar10_few_labels"]

RECIPE = "cifar10-ncsn++"
SCALE = 10.0
"""By how much the row "cg-x10" multiplies the gradient of the classifier, as published."""

_CLASSWISE = ("precision", "recall", "density", "coverage")
_METRICS = ("fid", "is", "cas", *(f"intra-{name}" for name in _CLASSWISE))

_FEWEST = 20  # samples of each class, for class-wise precision with an interval

PUBLISHED: dict[str, dict[str, float]] = {
    method: dict(zip(_METRICS, figures, strict=True))
    for method, figures in {
        "cg": (4.10, 9.08, 0.38, 0.51, 0.59, 0.63, 0.60),
        "cg-x10": (12.48, 9.37, 0.46, 0.70, 0.42, 1.23, 0.66),
        "cg-dlsm": (2.25, 9.90, 0.58, 0.56, 0.61, 0.76, 0.71),
    }.items()
}
"""Chao et al. 2022, arXiv 2203.14206, CIFAR-10 with all labels: base, scaled, DLSM."""


def reproduce_cifar10_dlsm(
    out: Path, data: str, extractor: str = "judge", scale_down: bool = False
) -> dict[str, Any]:
    """Plain and tenfold classifier guidance, and DLSM, with all labels of CIFAR-10.

    Published FID, inception score and class-wise figures are over Inception features: set ours
    beside them with the extractor "inception:FILE". Published CAS is that of a ResNet; ours is of
    a smaller classifier, of the judge's kind.

    Args:
        out: the folder; it gets the comparison's files, table.json and table.md.
        data: CIFAR-10, such as "cifar10:FOLDER".
        extractor: whose features are compared.
        scale_down: small networks, few steps, few samples.

    Returns:
        The document of table.json.
    """
    asked = grid(
        data,
        RECIPE,
        scale_down,
        ("cg", "cg-dlsm"),
        ("all",),
        scales=(1.0,),
        metrics=_METRICS,
        per_class=_FEWEST if scale_down else None,
        extractor=extractor,
    )
    document = _compared(out, asked)
    scaled = [_told(row) | {"method": "cg-x10"} for row in _scaled(out, asked)]
    rows = [
        row | {"published": published.get(row["metric"])}
        for method, published in PUBLISHED.items()
        for row in [*document["rows"], *scaled]
        if row["method"] == method
    ]
    write_text(out / "table.md", to_markdown(_table(rows, extractor)))
    return write_document(out, document | {"rows": rows}, ("report",))


def reproduce_cifar10_few_labels(
    out: Path, data: str, extractor: str = "judge", scale_down: bool = False
) -> dict[str, Any]:
    """Every method of the table from 5 % to all labels of CIFAR-10.

    The setting of Huang, Chen & Lin 2023, arXiv 2307.04081. Their figures are not at hand:
    "published" is null in every row until someone enters them from the publication.

    Args:
        out: the folder; it gets the comparison's files, table.json and table.md.
        data: CIFAR-10, such as "cifar10:FOLDER".
        extractor: whose features are compared.
        scale_down: small networks, few steps, few samples, the fewest labels alone.

    Returns:
        The document of table.json.
    """
    document = _compared(out, grid(data, RECIPE, scale_down, extractor=extractor))
    rows = [row | {"published": None} for row in document["rows"]]
    return write_document(out, document | {"rows": rows}, ("report",))


def _compared(out: Path, asked: Grid) -> dict[str, Any]:
    """Run a comparison and write its files; rows, report and what failed."""
    results = run_comparison(out, asked)
    written = write_results(results, asked)
    refuse_nothing(written)
    rows = _overall(row for row in results.rows if row["split"] == "report")
    told = [_told(row) for row in averaged(rows)]
    report = Path(written["report"]).name
    return {"rows": told, "report": report, "failed": written["failed"]}


def _scaled(out: Path, asked: Grid) -> list[Row]:
    """The figures of the same classifier with its gradient multiplied."""
    path = out / "scaled.json"
    if path.exists():
        regular(path)
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        return _overall(json.loads(path.read_text(encoding="utf-8")))
    task = CellTask(Cell("cg", "all"), "report", (SCALE,))
    rows = perform(task, asked.protocol, out, str(out / "runs" / "score"))
    write_json(path, rows)
    return _overall(rows)


def _overall(rows: Iterable[Row]) -> list[Row]:
    """Those over all classes and at no one noise level."""
    return [row for row in rows if row["class"] is None and row.get("sigma") is None]


def _told(row: Row) -> Row:
    keys = ("method", "labels", "n_labels", "metric", "scale", "value", "low", "high")
    return {key: row[key] for key in (*keys, "n_samples", "extractor")}


def _table(rows: Sequence[Row], extractor: str) -> Comparison:
    """A column of ours and one of the published figures for each metric."""
    entries: dict[str, list[Entry]] = {}
    for method, published in PUBLISHED.items():
        ours = {row["metric"]: row for row in rows if row["method"] == method}
        entries[method] = []
        for metric in _METRICS:
            row = ours.get(metric)
            found = None if row is None else Estimate(row["value"], row["low"], row["high"])
            entries[method] += [found, f"{published[metric]:g}"]
    columns = [
        column
        for metric in _METRICS
        for column in (column_of(metric).uncontested(), Column("published"))
    ]
    remarks = ["The published CAS is of a ResNet, ours of a smaller classifier."]
    if not extractor.startswith("inception:"):
        remarks.append(
            "The published figures are over Inception features, ours are not: they cannot be "
            "compared (--extractor inception:FILE)."
        )
    caption = "CIFAR-10, all labels; published: Chao et al. 2022. 95 % intervals over samples."
    return Comparison(caption, "method", columns, entries, remarks=remarks)
