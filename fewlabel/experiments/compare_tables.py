"""Tables of a comparison: means over repeats, and differences repeat by repeat.

The repeats of a method at an amount of labels are averaged, over the seeds of a draw of labels
and then over draws, with Student's interval; of a single repeat the figure stands, with the
interval over its samples.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from fewlabel.experiments.compare_cells import Cell, Protocol, Row
from fewlabel.metrics.intervals import Estimate, over_seeds
from fewlabel.metrics.table import measure
from fewlabel.report.comparison_page import comparison_of
from fewlabel.report.table import Comparison, Entry, Group, column_of, groups

__all__ = ["LEVEL", "OF_CLASSIFIERS", "averaged", "differences", "findings", "table_of"]

LEVEL = 0.5
"""The noise level at which the classifiers' figures are in the table and reliability is drawn."""

OF_CLASSIFIERS = ("classifier-accuracy", "classifier-ece")

_ENDS = ("low", "high")
_ROUNDING = 1e-9
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
        values = _independent({(row["label_seed"], row["seed"]): row["value"] for row in same})
        if _differ(values):
            estimate = over_seeds(values)
        else:  # one, or the same by chance: what is known is the interval over samples
            mean, widest = fmean(values), max(same, key=lambda row: row["high"] - row["low"])
            estimate = Estimate(mean, *(mean + widest[k] - widest["value"] for k in _ENDS))
        estimate = measure(same[0]["metric"]).within_limits(estimate)
        means.append(same[0] | vars(estimate) | {"repeats": len(same)})
    return means


def _independent(values: _Repeats) -> list[float]:
    """Figures that are independent: means over the seeds of each draw of labels, which they share.

    Of a single draw the seeds are the repeats.
    """
    of_draws: dict[int, list[float]] = {}
    for (draw, _), value in values.items():
        of_draws.setdefault(draw, []).append(value)
    means = [fmean(found) for found in of_draws.values()]
    return means if len(means) > 1 else list(values.values())


def _differ(values: Sequence[float]) -> bool:
    """Whether these have a spread, beyond rounding."""
    return len(values) > 1 and max(values) - min(values) > _ROUNDING * max(map(abs, values))


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
    columns = [replace(column_of(m), best=None, digits=f"+{measure(m).digits}") for m in contests]
    return Comparison(caption, "method", columns, entries)


def _behind(rivals: Mapping[str, _Repeats], metric: str) -> dict[str, Entry]:
    """The mean difference of each method from the best of them."""
    sign = 1 if measure(metric).best == "largest" else -1
    best = max(rivals, key=lambda name: sign * fmean(rivals[name].values()))
    found: dict[str, Entry] = {best: "the best"}
    for method in rivals.keys() - {best}:
        shared = sorted(rivals[method].keys() & rivals[best].keys())
        behind = _independent({k: rivals[method][k] - rivals[best][k] for k in shared})
        if _differ(behind):
            found[method] = over_seeds(behind)
    return found


def table_of(
    shown: Sequence[Row], reported: Sequence[Row], failed: Mapping[Cell, str], protocol: Protocol
) -> Comparison:
    """What each method reached, and what was chosen for it.

    Args:
        shown: rows of every split, from which the choices are read.
        reported: their means over repeats, see `averaged`.
        failed: why, for each cell that failed.
        protocol: what held for every cell.
    """
    there = {row["metric"] for row in reported}
    at_level = (f"{metric}@{LEVEL:g}" for metric in OF_CLASSIFIERS if metric in there)
    reasons = {(cell.labels, cell.method): why for cell, why in failed.items()}
    repeats = max((row["repeats"] for row in reported), default=1)
    of = (
        "means over draws of labels, of each the mean over its seeds (of one draw: over seeds), "
        "with Student's 95 % intervals"
    )
    if repeats == 1:
        of = "of one run each, with 95 % intervals over its samples"
    caption = (
        f"{protocol.per_class} samples a class; {of}. λ: the chosen weight of a regulariser, or "
        "(cfg-all) share of images that show a label, if not that of the data; scale: the "
        "guidance scales chosen in some repeat, each once."
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


def findings(table: Comparison, metrics: Sequence[str]) -> list[str]:
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
    if len(best) == len(marks) > 1:
        return [f"Labels {group.name}, {measure(metric).title}: {', '.join(best)} are equal."]
    rest = f", tied with {', '.join(tied)}" if tied else ", apart from all others"
    verb = "is" if len(best) == 1 else "are"
    return [f"Labels {group.name}, {measure(metric).title}: {', '.join(best)} {verb} best{rest}."]
