"""Tables that set methods beside each other: which entry is best, which cannot be told from it.

One `Comparison` is shown as HTML by `fewlabel.report.page`, as Markdown and as CSV.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fewlabel.errors import UserError
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.table import measure
from fewlabel.texts import markdown

__all__ = [
    "TIED",
    "Cell",
    "Column",
    "Comparison",
    "Failed",
    "Group",
    "column_of",
    "groups",
    "notes",
    "to_csv",
    "to_markdown",
]

MISSING = "–"
TIED = "≈"


@dataclass(frozen=True)
class Column:
    """A column of a comparison.

    Attributes:
        title: its heading, such as "intra-FID ↓".
        best: whether the largest or the smallest value is the best; None for a column that is
            not a contest.
        digits: a format such as ".2f" or ".1%" for values and the ends of intervals.
    """

    title: str
    best: Literal["largest", "smallest"] | None = None
    digits: str = ".3g"

    def uncontested(self) -> "Column":
        """The column of a table whose rows are no rivals."""
        return replace(self, best=None)


def column_of(metric: str) -> Column:
    """The column that holds a metric, by its name in results, with an arrow to the better side."""
    known = measure(metric)
    arrow = {"largest": " ↑", "smallest": " ↓", None: ""}[known.best]
    return Column(known.title + arrow, known.best, known.digits)


@dataclass(frozen=True)
class Failed:
    """An entry that could not be computed.

    Attributes:
        reason: why, in one line; it is told below the table.
    """

    reason: str


Entry = Estimate | Failed | str | None
"""A figure, a failure, a text, or nothing."""


@dataclass(frozen=True)
class Comparison:
    """A table that sets methods beside each other.

    In a column that is a contest the best value is bold. An entry is tied with it if their
    intervals overlap. That is cautious: entries that are not tied differ at the 5 % level, but
    some that are tied may differ too, above all if both were measured on the same draws.

    Attributes:
        caption: what is compared, on how many samples, and what the intervals are.
        head: the heading of the first column, such as "method".
        columns: the other columns.
        rows: one entry a column for each row's name, or for each (group, name), such as
            ("4/class", "cg"); then the best is found in each group by itself.
        group_head: what the groups are.
        remarks: lines below the table, such as what holds of some entries only.
    """

    caption: str
    head: str
    columns: Sequence[Column]
    rows: Mapping[str, Sequence[Entry]] | Mapping[tuple[str, str], Sequence[Entry]]
    group_head: str = "labels"
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """What is shown of an entry.

    Attributes:
        text: the value, or what stands in its place.
        interval: its ends; empty if there is none.
        mark: whether it is the best of its column, or tied with that.
    """

    text: str
    interval: str = ""
    mark: Literal["best", "tied", ""] = ""


@dataclass(frozen=True)
class Group:
    """Rows among which the best is found.

    Attributes:
        name: such as "4/class"; empty for a table without groups.
        rows: the cells by the row's name.
    """

    name: str
    rows: Mapping[str, Sequence[Cell]]


def groups(comparison: Comparison) -> list[Group]:
    """The cells of a comparison, by group and row, with the best and the tied ones marked.

    Raises:
        UserError: a row with more or fewer entries than there are columns.
    """
    found = []
    for name, rows in _entries(comparison).items():
        best = [
            _best(column, [row[i] for row in rows.values()])
            for i, column in enumerate(comparison.columns)
        ]
        cells = {
            row: [_cell(*parts) for parts in zip(entries, comparison.columns, best, strict=True)]
            for row, entries in rows.items()
        }
        found.append(Group(name, cells))
    return found


def notes(comparison: Comparison) -> list[str]:
    """What the marks mean, if there are any, and why entries failed: a line each."""
    shown = groups(comparison)
    marks = {cell.mark for group in shown for row in group.rows.values() for cell in row}
    found = []
    if "best" in marks:
        rivals = f" with the same {comparison.group_head}" if any(g.name for g in shown) else ""
        found.append(f"Bold: the best of its column{rivals}.")
    if "tied" in marks:
        found.append(f"{TIED}: tied with the best, as the two intervals overlap.")
    for group, rows in _entries(comparison).items():
        for name, row in rows.items():
            where = f"{name}, {comparison.group_head} {group}" if group else name
            reasons = dict.fromkeys(entry.reason for entry in row if isinstance(entry, Failed))
            found += [f"{where} failed: {reason}" for reason in reasons]
    return [*found, *comparison.remarks]


def to_markdown(comparison: Comparison) -> str:
    """The table in Markdown, its caption and notes below: the best bold, the tied with a sign."""
    shown = groups(comparison)
    grouped = any(group.name for group in shown)
    heads = [comparison.group_head] * grouped + [comparison.head]
    heads += [column.title for column in comparison.columns]
    lines = [_markdown_row(map(markdown, heads)), _markdown_row(["---"] * len(heads))]
    for group in shown:
        for i, (name, cells) in enumerate(group.rows.items()):
            first = [markdown(group.name) if i == 0 else ""] * grouped
            lines.append(_markdown_row([*first, markdown(name), *map(_markdown_cell, cells)]))
    told = (comparison.caption, *notes(comparison))
    below = "\n\n".join(markdown(text) for text in told if text)
    return "\n".join(lines) + "\n" + (f"\n{below}\n" if below else "")


def to_csv(comparison: Comparison) -> str:
    """The table as CSV, unrounded.

    A column of figures becomes four: the value, "low", "high" and a "note", which is "best",
    "tied", "failed: …" or empty.
    """
    shown = groups(comparison)
    grouped = any(group.name for group in shown)
    measured = [
        any(isinstance(row[i], Estimate | Failed) for row in comparison.rows.values())
        for i in range(len(comparison.columns))
    ]
    heads = [comparison.group_head] * grouped + [comparison.head]
    for column, figures in zip(comparison.columns, measured, strict=True):
        parts = ("", " low", " high", " note") if figures else ("",)
        heads += [column.title + part for part in parts]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    for group, rows in zip(shown, _entries(comparison).values(), strict=True):
        for name, entries in rows.items():
            line = [group.name] * grouped + [name]
            for entry, cell, figures in zip(entries, group.rows[name], measured, strict=True):
                line += _csv_fields(entry, cell)[: 4 if figures else 1]
            writer.writerow(line)
    return stream.getvalue()


def _entries(comparison: Comparison) -> dict[str, dict[str, Sequence[Entry]]]:
    """The entries by group and row; without groups there is one without a name."""
    found: dict[str, dict[str, Sequence[Entry]]] = {}
    for key, row in comparison.rows.items():
        group, name = ("", key) if isinstance(key, str) else key
        if len(row) != len(comparison.columns):
            raise UserError(
                f"row {name!r} has {len(row)} cells for {len(comparison.columns)} columns: "
                "give one a column"
            )
        found.setdefault(group, {})[name] = row
    return found


def _best(column: Column, entries: Sequence[Entry]) -> Estimate | None:
    """The winner of a column, if there is a contest; of equals the one known best."""
    values = [e for e in entries if isinstance(e, Estimate) and math.isfinite(e.value)]
    if column.best is None or len(values) < 2:
        return None
    sign = 1 if column.best == "largest" else -1
    return max(values, key=lambda e: (sign * e.value, e.low - e.high))


def _cell(entry: Entry, column: Column, best: Estimate | None) -> Cell:
    if isinstance(entry, Failed):
        return Cell("failed")
    if not isinstance(entry, Estimate):
        return Cell(entry or MISSING)
    value, low, high = (format(v, column.digits) for v in (entry.value, entry.low, entry.high))
    return Cell(value, f"{low} to {high}", _mark(entry, best))


def _mark(entry: Estimate, best: Estimate | None) -> Literal["best", "tied", ""]:
    if best is None:
        return ""
    if entry.value == best.value:
        return "best"
    return "tied" if entry.low <= best.high and best.low <= entry.high else ""


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = markdown(cell.text)
    text = {"best": f"**{text}**", "tied": f"{TIED} {text}"}.get(cell.mark, text)
    return f"{text} ({cell.interval})" if cell.interval else text


def _csv_fields(entry: Entry, cell: Cell) -> list[str]:
    if isinstance(entry, Estimate):
        return [*(str(float(v)) for v in (entry.value, entry.low, entry.high)), cell.mark]
    if isinstance(entry, Failed):
        return ["", "", "", f"failed: {entry.reason}"]
    return [entry or "", "", "", ""]
