"""Figures against the number of labels, a line a method, with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import plot_text
from fewlabel.report import panels
from fewlabel.report.figures import line_style, method_style, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Curves", "draw_label_curves", "label_sweep"]

Curves = Mapping[tuple[str, float], Mapping[str, Mapping[int, Estimate]]]
"""(metric, σ) → method → number of labels → the figure with its interval."""

SMALL, FONT = 8, 10
_FLOOR = 1e-4
"""Errors below are drawn at the lower edge."""
_WIDE = 4
"""From this ratio of the largest to the smallest figure on, the axis is logarithmic."""


def label_sweep(
    curves: Mapping[str, Mapping[str, Mapping[int, Estimate]]],
    path: str | Path,
    amounts: Mapping[int, str] | None = None,
) -> Path:
    """Draw metrics against the number of labels: a panel a metric, a line a method.

    Lines are a little apart along x, so that their intervals do not cover each other. Intervals
    far wider than the figures are spread are cut at the edges.

    Args:
        curves: metric → method → number of labels, at least 1 → the figure with its interval,
            such as the mean over draws of the labels.
        path: the file to write; its suffix (.png, .svg) is the format.
        amounts: what stands before each number of labels, such as "4/class".

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw, or a file that cannot be written.
    """
    if not any(any(methods.values()) for methods in curves.values()):
        raise UserError("no figures by number of labels to draw: evaluate some methods first")
    figure, drawn = panels.panels(len(curves), 2.6, max(map(len, curves.values())))
    for axes, (metric, methods) in zip(drawn, curves.items(), strict=True):
        values = [e.value for points in methods.values() for e in points.values()]
        shares = measure(metric).is_share
        logarithmic = not shares and min(values) > 0 and max(values) > _WIDE * min(values)
        _draw_curves(axes, methods, logarithmic, panels.FONT)
        _amounts_axis(axes, amounts or {})
        axes.set_title(plot_text(measure(metric).heading), fontsize=panels.FONT, loc="left")
        if shares:
            axes.yaxis.set_major_formatter(percent)
    panels.legend(figure, drawn)
    return panels.write_figure(figure, path)


def _amounts_axis(axes: "Axes", amounts: Mapping[int, str]) -> None:
    """Name the amounts of labels; slanted, for they are as long as they are close."""
    counts = [round(tick) for tick in axes.get_xticks()]
    texts = [f"{plot_text(amounts[n], 20)} ({n})" if n in amounts else str(n) for n in counts]
    axes.set_xticks(counts, texts, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlabel("labels (how many)" if amounts else "labels", fontsize=panels.FONT)


def draw_label_curves(figure: "Figure | SubFigure", curves: Curves) -> None:
    """Draw into a figure: a row a metric, a column a noise level.

    Args:
        figure: where to draw.
        curves: at least one.
    """
    metrics, sigmas = (list(dict.fromkeys(keys)) for keys in zip(*curves, strict=True))
    title = "Against the number of labels: mean over draws, and 95 % intervals (cut at the edges)"
    figure.suptitle(title, fontsize=FONT + 1, x=0.005, ha="left", fontweight="bold")
    grid = figure.subplots(len(metrics), len(sigmas), squeeze=False, sharex=True)
    for row, metric in enumerate(metrics):
        for column, sigma in enumerate(sigmas):
            axes = grid[row, column]
            _draw_curves(axes, curves[metric, sigma], metric != "accuracy", SMALL)
            axes.set_title(measure(f"{metric}@{sigma:g}").title, fontsize=FONT, loc="left")
            if row == len(metrics) - 1:
                axes.set_xlabel("number of labels", fontsize=FONT)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=SMALL + 1)


def _draw_curves(
    axes: "Axes", methods: Mapping[str, Mapping[int, Estimate]], logarithmic: bool, font: float
) -> None:
    counts = sorted({n for points in methods.values() for n in points})
    for index, (name, points) in enumerate(methods.items()):
        shift = 1.035 ** (index - (len(methods) - 1) / 2)  # so that intervals do not overlap
        places = [n * shift for n in points]
        values = [max(e.value, _FLOOR) if logarithmic else e.value for e in points.values()]
        low = [max(e.value - e.low, 0) for e in points.values()]
        high = [e.high - e.value for e in points.values()]
        if logarithmic:  # an interval may reach below zero
            low = [min(part, 0.9 * value) for part, value in zip(low, values, strict=True)]
        axes.errorbar(places, values, (low, high), label=plot_text(name), **_line(name))
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    _fit(axes, [e.value for points in methods.values() for e in points.values()], logarithmic)
    panels.plain_axes(axes, font)


def _line(name: str) -> dict[str, Any]:
    colour, marker = method_style(name)
    shape = {"color": colour, "marker": marker, "linestyle": line_style(name)}
    return shape | {"markersize": 4, "linewidth": 1.2, "elinewidth": 0.8}


def _fit(axes: "Axes", values: Sequence[float], logarithmic: bool) -> None:
    """Limits by the figures themselves: intervals of few draws may be far wider."""
    low, high = min(values), max(values)
    if logarithmic:
        from matplotlib.ticker import LogLocator, NullFormatter

        low = max(low, _FLOOR)
        axes.set(yscale="log", ylim=(low / 1.6, 1.6 * max(high, low)))
        steps = (1, 2, 5) if high < 100 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.15 * (high - low) + 0.002
        axes.set_ylim(low - margin, high + margin if high > 1 else min(high + margin, 1.002))
