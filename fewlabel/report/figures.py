"""The style of each method, and metrics against the guidance scale.

The colours are those of Okabe & Ito and of Tol, which stay apart for colour-blind readers; each
method keeps its colour and marker in every figure.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import plot_text
from fewlabel.report.panels import FONT, RING, legend, panels, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["line_style", "method_style", "percent", "scale_sweep"]

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
    "dpt-lp": ("#7CB518", "8"),
    "lpg": ("#E6007E", "H"),
    "lpg-dlsm": ("#8F4CE6", "d"),
}
"""The colour and marker of each method."""

_CONDITIONAL = ("cond", "cfg-all", "cfg-labeled", "dpt", "dpt-lp")
_OTHERS = (("#CC6677", "o"), ("#117733", "s"), ("#6699CC", "D"), ("#AA4499", "^"))


def method_style(method: str) -> tuple[str, str]:
    """The colour and marker of a method, the same in every figure.

    Args:
        method: its name; one that is not in `STYLES` gets a style that none of those has.

    Returns:
        A colour as "#rrggbb" and a marker of matplotlib.
    """
    if method in STYLES:
        return STYLES[method]
    return _OTHERS[zlib.crc32(method.encode("utf-8", "backslashreplace")) % len(_OTHERS)]


def line_style(method: str) -> str:
    """How matplotlib draws the line of a method: dashed if its score model is conditional."""
    return "--" if method in _CONDITIONAL else "-"


def percent(value: float, _: object = None) -> str:
    """A share as the ticks of an axis show it; a formatter of matplotlib."""
    return f"{100 * value:.4g}%"


def scale_sweep(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    chosen: Mapping[str, float] | None = None,
    metrics: Sequence[str] = ("accuracy", "intra-fid"),
) -> Path:
    """Draw metrics against the guidance scale: a panel a metric, a line a method.

    Args:
        rows: as `evaluate --json` has them: "method", "scale", "metric", "value", "low" and
            "high". Rows of other metrics and of a single class ("class" is not null) are passed
            over.
        path: the file to write; its suffix (.png, .svg) is the format.
        chosen: each method's chosen scale, which is ringed.
        metrics: what to draw; those without rows are left out.

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw, two rows for one point, or a file that cannot be written.
    """
    lines = _lines(row for row in rows if row["metric"] in metrics)
    shown = [metric for metric in metrics if any(metric == m for m, _ in lines)]
    if not shown:
        raise UserError(f"no rows to draw: evaluate {' or '.join(metrics)} at some scales first")
    figure, drawn = panels(len(shown))
    for axes, metric in zip(drawn, shown, strict=True):
        of_metric = {method: points for (m, method), points in lines.items() if m == metric}
        for method, points in of_metric.items():
            _draw_sweep(axes, method, points, (chosen or {}).get(method))
        _scale_axis(axes, sorted({scale for points in of_metric.values() for scale in points}))
        axes.set_title(plot_text(measure(metric).heading), fontsize=FONT, loc="left")
        if measure(metric).is_share:
            axes.yaxis.set_major_formatter(percent)
    legend(figure, drawn, {"chosen scale": RING} if chosen else {})
    return write_figure(figure, path)


Point = tuple[float, float, float]
"""A value with the ends of its interval."""


def _lines(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[float, Point]]:
    """The points by scale of each (metric, method)."""
    lines: dict[tuple[str, str], dict[float, Point]] = {}
    for row in rows:
        if row.get("class") is not None:
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
    style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line_style(method)}
    axes.plot(scales, values, markersize=5, label=plot_text(method), **style)
    if chosen is not None and chosen in points:
        ring = dict(RING, markeredgecolor=colour)
        axes.plot([chosen], [points[chosen][0]], **ring)


def _scale_axis(axes: "Axes", scales: Sequence[float]) -> None:
    axes.set_xlabel("guidance scale", fontsize=FONT)
    if scales[0] > 0 and scales[-1] / scales[0] >= 8:
        axes.set_xscale("log", base=2)
    if len(scales) <= 8:
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
        axes.set_xticks([], minor=True)
