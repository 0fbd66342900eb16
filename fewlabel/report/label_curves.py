"""Figures against the number of labels, a line a method, with their intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fewlabel.metrics.intervals import Estimate
from fewlabel.report.figures import method_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Curves", "draw_label_curves", "plain_axes"]

Curves = Mapping[tuple[str, float], Mapping[str, Mapping[int, Estimate]]]
"""(metric, σ) → method → number of labels → the figure with its interval."""

TITLES = {
    "D_P": "posterior score error",
    "D_L": "likelihood score error",
    "accuracy": "accuracy",
    "ECE": "calibration error",
}
SMALL, FONT = 8, 10
_FLOOR = 1e-4
"""Errors below are drawn at the lower edge."""


def draw_label_curves(figure: "Figure | SubFigure", curves: Curves) -> None:
    """Draw into a figure: a row a metric, a column a noise level.

    Args:
        figure: where to draw.
        curves: at least one.
    """
    metrics, sigmas = (list(dict.fromkeys(keys)) for keys in zip(*curves, strict=True))
    title = "Against the number of labels: mean over draws, and 95 % intervals (cut at the edges)"
    figure.suptitle(title, fontsize=FONT + 1, x=0.005, ha="left", fontweight="bold")
    panels = figure.subplots(len(metrics), len(sigmas), squeeze=False, sharex=True)
    for row, metric in enumerate(metrics):
        for column, sigma in enumerate(sigmas):
            axes = panels[row, column]
            _draw_curves(axes, curves[metric, sigma], logarithmic=metric != "accuracy")
            axes.set_title(f"{TITLES[metric]}, σ = {sigma:g}", fontsize=FONT, loc="left")
            if row == len(metrics) - 1:
                axes.set_xlabel("number of labels", fontsize=FONT)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=SMALL + 1)


def _draw_curves(
    axes: "Axes", methods: Mapping[str, Mapping[int, Estimate]], logarithmic: bool
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
        axes.errorbar(places, values, (low, high), label=name, **_line(name))
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    _fit(axes, [e.value for points in methods.values() for e in points.values()], logarithmic)
    plain_axes(axes)


def plain_axes(axes: "Axes") -> None:
    """Give axes a light grid behind the lines, and no frame above and on the right."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def _line(name: str) -> dict[str, Any]:
    colour, marker = method_style(name)
    shape = {"color": colour, "marker": marker, "linestyle": "-"}
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
        axes.set_ylim(low - margin, min(high + margin, 1.002))
