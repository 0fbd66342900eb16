"""Line plots: a metric against the guidance scale, losses against the step.

The colours are those of Okabe & Ito and of Tol, which stay apart for colour-blind readers; each
method keeps its colour and marker in every figure.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["method_style", "scale_sweep", "training_curves"]

STYLES = {
    "cg": ("#0072B2", "o"),
    "cg-sc-all": ("#D55E00", "s"),
    "cg-sc-labeled": ("#E69F00", "D"),
    "cg-dlsm": ("#009E73", "^"),
    "cg-jem": ("#CC79A7", "v"),
    "cg-ls": ("#882255", "<"),
    "cg-jr": ("#332288", ">"),
    "cg-at": ("#999933", "p"),
    "cfg-all": ("#000000", "P"),
    "cfg-labeled": ("#56B4E9", "X"),
    "cond": ("#777777", "*"),
    "dpt": ("#661100", "h"),
}
"""The colour and marker of each method."""

PANELS = {"accuracy": "accuracy (higher is better)", "intra-fid": "intra-FID (lower is better)"}
SPLITS = {"train": ("#555555", "-"), "validation": ("#AA3377", "--")}
WIDTH, HEIGHT, DPI = 5.6, 2.9, 250
FONT = 9.5
"""In points: 16 pixels where the figure is shown 700 pixels wide, 8 on a phone."""
SMOOTHED_FROM = 100
"""Curves with at least this many points are drawn faintly under their running mean."""


def method_style(method: str) -> tuple[str, str]:
    """The colour and marker of a method, the same in every figure.

    Args:
        method: its name; one that the package does not know is given a style by its letters.

    Returns:
        A colour as "#rrggbb" and a marker of matplotlib.
    """
    if method in STYLES:
        return STYLES[method]
    known = list(STYLES.values())
    return known[zlib.crc32(method.encode()) % len(known)]


def scale_sweep(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    chosen: Mapping[str, float] | None = None,
) -> Path:
    """Draw accuracy and intra-FID against the guidance scale, one line a method.

    Args:
        rows: as `evaluate --json` has them: "method", "scale", "metric" ("accuracy" or
            "intra-fid"; others are passed over), "value", "low" and "high". Rows of a single
            class ("class" is not null) are passed over.
        path: the file to write; its suffix (.png, .svg) is the format.
        chosen: each method's chosen scale, which is ringed.

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw, two rows for one point, or a file that cannot be written.
    """
    lines = _lines(rows)
    metrics = [metric for metric in PANELS if any(metric == m for m, _ in lines)]
    if not metrics:
        raise UserError(f"no rows to draw: evaluate {' or '.join(PANELS)} at some scales first")
    figure, panels = _panels(len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        of_metric = {method: points for (m, method), points in lines.items() if m == metric}
        for method, points in of_metric.items():
            _draw_sweep(axes, method, points, (chosen or {}).get(method))
        _scale_axis(axes, sorted({scale for points in of_metric.values() for scale in points}))
        axes.set_title(PANELS[metric], fontsize=FONT, loc="left")
        if metric == "accuracy":
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    _legend(figure, panels, {"chosen scale": _ring()} if chosen else {})
    return _write(figure, path)


def training_curves(records: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw each loss term against the training step, one panel a term.

    Args:
        records: one a logging step: "step", "losses" (the value of each term by its name) and
            "split" ("train", which is the default, or "validation"). Other keys are passed over.
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.

    Raises:
        UserError: no losses in the records, or a file that cannot be written.
    """
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for record in records:
        for term, value in record.get("losses", {}).items():
            of_term = curves.setdefault(term, {})
            of_term.setdefault(record.get("split", "train"), {})[record["step"]] = value
    if not curves:
        raise UserError("no losses in the training records: train for at least one logging step")
    figure, panels = _panels(len(curves))
    for axes, (term, splits) in zip(panels, curves.items(), strict=False):
        for split, points in splits.items():
            _draw_curve(axes, split, points)
        axes.set_title(term, fontsize=FONT, loc="left")
        axes.set_xlabel("step", fontsize=FONT)
    _legend(figure, panels, {})
    return _write(figure, path)


Point = tuple[float, float, float]
"""A value with the ends of its interval."""


def _lines(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[float, Point]]:
    """The points by scale of each (metric, method)."""
    lines: dict[tuple[str, str], dict[float, Point]] = {}
    for row in rows:
        if row["metric"] not in PANELS or row.get("class") is not None:
            continue
        line = lines.setdefault((row["metric"], row["method"]), {})
        if row["scale"] in line:
            raise UserError(
                f"two rows have {row['method']}, {row['metric']}, scale {row['scale']:g}: "
                "draw one label budget and one seed at a time"
            )
        line[row["scale"]] = (row["value"], row["low"], row["high"])
    return lines


def _draw_sweep(
    axes: "Axes", method: str, points: Mapping[float, Point], chosen: float | None
) -> None:
    colour, marker = method_style(method)
    scales = sorted(points)
    values, low, high = zip(*(points[scale] for scale in scales), strict=True)
    axes.fill_between(scales, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(scales, values, color=colour, marker=marker, markersize=5, label=method)
    if chosen is not None and chosen in points:
        ring = dict(_ring(), markeredgecolor=colour)
        axes.plot([chosen], [points[chosen][0]], **ring)


def _ring() -> dict[str, Any]:
    """How the chosen scale is marked."""
    return {
        "linestyle": "none",
        "marker": "o",
        "markersize": 12,
        "markerfacecolor": "none",
        "markeredgecolor": "#333333",
        "markeredgewidth": 1.5,
    }


def _scale_axis(axes: "Axes", scales: Sequence[float]) -> None:
    axes.set_xlabel("guidance scale", fontsize=FONT)
    if scales[0] > 0 and scales[-1] / scales[0] >= 8:
        axes.set_xscale("log", base=2)
    if len(scales) <= 8:
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
        axes.set_xticks([], minor=True)


def _draw_curve(axes: "Axes", split: str, points: Mapping[float, float]) -> None:
    import numpy as np

    colour, dashes = SPLITS.get(split, ("#000000", ":"))
    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps], dtype=float)
    if len(steps) >= SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        window = len(steps) // 25
        values = np.convolve(values, np.ones(window) / window, mode="valid")
        steps = steps[(window - 1) // 2 :][: len(values)]
    axes.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.5, label=split)


def _panels(n: int) -> "tuple[Figure, list[Axes]]":
    """A figure with n panels, two to a row."""
    from matplotlib.figure import Figure

    rows, columns = math.ceil(n / 2), min(n, 2)
    figure = Figure(figsize=(WIDTH, 0.4 + (HEIGHT - 0.4) * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in panels[n:]:
        empty.remove()
    for axes in panels[:n]:
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=FONT, color="#999999")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
    return figure, panels[:n]


def _legend(
    figure: "Figure", panels: "Sequence[Axes]", marks: Mapping[str, Mapping[str, Any]]
) -> None:
    """One legend for all panels, above them: each label once, then the extra marks."""
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for label, style in marks.items():
        entries[label] = Line2D([], [], **dict(style, markersize=9))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=FONT,
        handlelength=1.8,
    )


def _write(figure: "Figure", path: str | Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="white")
    return Path(path)
