"""The page of a comparison: tables, figures, what failed, and the commands to repeat it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewlabel.errors import UserError
from fewlabel.metrics.intervals import Estimate
from fewlabel.report.page import Page, Picture, Section
from fewlabel.report.table import Column, Comparison, Entry, Failed, column_of

__all__ = ["comparison_of", "comparison_page"]


def comparison_of(
    rows: Iterable[Mapping[str, Any]],
    metrics: Sequence[str],
    caption: str,
    failed: Mapping[tuple[str, str], str] | None = None,
    texts: Mapping[str, Mapping[tuple[str, str], str]] | None = None,
) -> Comparison:
    """A table of methods, grouped by label amount, from the rows of results.

    Args:
        rows: "labels", "method", "metric", "value", "low" and "high", one for each figure: of
            several draws their mean. Rows of other metrics and of a single class are passed over.
        metrics: the columns, such as "fid", or "classifier-ece@0.5" for the rows of that metric
            with a "sigma" of 0.5.
        caption: what is compared, on how many samples, and what the intervals are.
        failed: why a cell (labels, method) failed, in one line. If only some of its draws did,
            and it has figures, a remark says so.
        texts: columns before the figures, such as "scale", with the text of each cell.

    Returns:
        The table; groups and methods come in the order of the rows, failed ones without any last.

    Raises:
        UserError: two rows for one figure.
    """
    found: dict[tuple[str, str], dict[str, Estimate]] = {}
    for row in rows:
        level = row.get("sigma")
        metric = row["metric"] if level is None else f"{row['metric']}@{level:g}"
        if metric not in metrics or row.get("class") is not None:
            continue
        figures = found.setdefault((row["labels"], row["method"]), {})
        if metric in figures:
            raise UserError(
                f"two rows have {row['method']}, labels {row['labels']}, {metric}: "
                "average over draws first"
            )
        figures[metric] = Estimate(row["value"], row["low"], row["high"])
    reasons = failed or {}
    missing = {cell: Failed(why) for cell, why in reasons.items() if cell not in found}
    told = texts or {}
    entries: dict[tuple[str, str], Sequence[Entry]] = {
        cell: [text.get(cell) for text in told.values()]
        + [found.get(cell, {}).get(metric, missing.get(cell)) for metric in metrics]
        for cell in [*found, *(cell for cell in reasons if cell not in found)]
    }
    columns = [Column(title) for title in told] + [column_of(m) for m in metrics]
    remarks = [
        f"{cell[1]}, labels {cell[0]} failed in part: {reason}"
        for cell, reason in reasons.items()
        if cell in found
    ]
    return Comparison(caption, "method", columns, entries, remarks=remarks)


def comparison_page(
    title: str,
    lead: str,
    *,
    facts: Mapping[str, str],
    tables: Mapping[str, Comparison],
    figures: Mapping[str, Sequence[Picture]],
    commands: Sequence[str],
    notes: Sequence[str] = (),
) -> Page:
    """The page of a comparison.

    Args:
        title: what was compared.
        lead: what came out, in a paragraph.
        facts: what is common to all cells: data, score model, protocol.
        tables: by heading; each tells by itself what failed in it.
        figures: by heading.
        commands: the shell commands that repeat the comparison.
        notes: what weakens the figures.
    """
    return Page(
        title,
        lead,
        (
            Section("What was compared", facts=facts, notes=notes),
            *(Section(heading, comparison=table) for heading, table in tables.items()),
            *(Section(heading, figures=shown) for heading, shown in figures.items()),
            Section("Do it again", commands=commands),
        ),
    )
