"""The calibration of classifiers by noise level: figures against σ, and reliability."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.calibration import Reliability
from fewlabel.errors import UserError
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import plot_text
from fewlabel.report.figures import method_style, percent
from fewlabel.report.panels import FONT, apart, legend, panels, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["by_noise_level", "draw_reliability", "noise_axis", "reliability_diagrams"]

_SMALLEST_BIN = 0.003
"""The share of the points below which an accuracy is mostly noise."""

Lines = dict[tuple[str, str], dict[str, dict[float, tuple[float, float, float]]]]
"""(labels, metric) → method → noise level → value and ends of its interval."""


def by_noise_level(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    metrics: Sequence[str] = ("classifier-accuracy", "classifier-ece"),
) -> Path:
    """Draw figures of classifiers against the noise level: a line a method.

    There is a row of panels for each label amount, and in it a panel for each metric.

    Args:
        rows: "method", "metric", "sigma", "value", and if there are any "low" and "high" and
            "labels". Rows without a noise level, and of other metrics, are passed over.
        path: the file to write; its suffix (.png, .svg) is the format.
        metrics: what to draw; those without rows are left out.

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw, two rows for one point, or a file that cannot be written.
    """
    lines = _lines(rows, metrics)
    if not lines:
        raise UserError(f"no rows with a noise level of {' or '.join(metrics)} to draw")
    amounts = list(dict.fromkeys(labels for labels, _ in lines))
    shown = [metric for metric in metrics if any(metric == m for _, m in lines)]
    keys = [(labels, metric) for labels in amounts for metric in shown]
    if len(shown) > 2:  # a metric a column does not fit two columns
        raise UserError(f"{len(shown)} metrics in one figure: draw two at a time")
    figure, drawn = panels(len(keys), height=2.3)
    for axes, key in zip(drawn, keys, strict=True):
        _draw_lines(axes, lines.get(key, {}))
        labels = f", labels {plot_text(key[0], 24)}" if key[0] else ""
        axes.set_title(plot_text(measure(key[1]).title) + labels, fontsize=FONT, loc="left")
        if measure(key[1]).is_share:
            axes.yaxis.set_major_formatter(percent)
    legend(figure, drawn)
    return write_figure(figure, path)


def reliability_diagrams(
    diagrams: Mapping[str, Mapping[str, Reliability]], path: str | Path
) -> Path:
    """Draw accuracy against confidence: a panel for each heading, a line for each method.

    Args:
        diagrams: reliability by heading, such as "σ = 0.5", and method.
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.

    Raises:
        UserError: no diagrams, or a file that cannot be written.
    """
    if not any(diagrams.values()):
        raise UserError("no reliability to draw: measure a classifier on labelled images first")
    figure, drawn = panels(len(diagrams), height=2.7)
    for axes, (heading, methods) in zip(drawn, diagrams.items(), strict=True):
        styles = {name: method_style(name) for name in methods}
        lines = {n: {"color": c, "marker": m, "markersize": 4} for n, (c, m) in styles.items()}
        draw_reliability(axes, methods, lines)
        axes.set_title(plot_text(heading), fontsize=FONT, loc="left")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel("confidence", fontsize=FONT)
        axes.xaxis.set_major_formatter(percent)
        axes.yaxis.set_major_formatter(percent)
    drawn[0].set_ylabel("accuracy", fontsize=FONT)
    legend(figure, drawn)
    return write_figure(figure, path)


def draw_reliability(
    axes: "Axes", methods: Mapping[str, Reliability], lines: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draw reliability beside the diagonal of a calibrated classifier, which is grey.

    Args:
        axes: where to draw.
        methods: the reliability of each; bins with few examples are left out.
        lines: how the line of each is drawn.
    """
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=3, zorder=0)
    for name, diagram in methods.items():
        clear = diagram.share >= _SMALLEST_BIN
        style: dict[str, Any] = {"label": plot_text(name), "linewidth": 1.2} | dict(lines[name])
        axes.plot(diagram.confidence[clear], diagram.accuracy[clear], **style)


def noise_axis(axes: "Axes", sigmas: Iterable[float], font: float, factor: float = 1.5) -> None:
    """A logarithmic axis of noise levels, with those as ticks that are a factor apart."""
    axes.set_xscale("log")
    ticks = apart(sigmas, factor)
    axes.set_xticks(ticks, [f"{sigma:g}" for sigma in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("noise level σ", fontsize=font)


def _lines(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> Lines:
    lines: Lines = {}
    for row in rows:
        if row.get("sigma") is None or row["metric"] not in metrics:
            continue
        methods = lines.setdefault((row.get("labels", ""), row["metric"]), {})
        line, value = methods.setdefault(row["method"], {}), row["value"]
        if row["sigma"] in line:
            raise UserError(
                f"two rows have {row['method']}, {row['metric']}, σ = {row['sigma']:g}: "
                "average over draws first"
            )
        line[row["sigma"]] = value, row.get("low", value), row.get("high", value)
    return lines


def _draw_lines(
    axes: "Axes", methods: Mapping[str, Mapping[float, tuple[float, float, float]]]
) -> None:
    for name, points in methods.items():
        colour, marker = method_style(name)
        sigmas = sorted(points)
        values, low, high = zip(*(points[sigma] for sigma in sigmas), strict=True)
        axes.fill_between(sigmas, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(sigmas, values, color=colour, marker=marker, markersize=4, label=plot_text(name))
    noise_axis(axes, {sigma for points in methods.values() for sigma in points}, FONT, 2.2)
