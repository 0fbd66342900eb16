"""Training as line plots: losses and the figures of validation against the step."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import plot_text
from fewlabel.report.figures import percent
from fewlabel.report.panels import FONT, legend, panels, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["training_curves"]

STYLES = {"training": ("#555555", "-"), "validation": ("#AA3377", "--")}
LEVELS = ("#4477AA", "#228833", "#CC6677", "#882255", "#DDCC77")
"""Colours of the noise levels of validation, weakest first."""
SMOOTHED_FROM = 100
"""Curves with at least this many points are drawn faintly under their running mean."""

Curves = dict[tuple[str, str], dict[str, dict[float, float]]]
"""(stage, quantity) → name of the line → step → value."""


def training_curves(records: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw losses and validation against the training step, a panel for each stage and quantity.

    Args:
        records: as metrics.jsonl has them: "stage", "step", "losses" (the value of each term by
            its name) and "validation" (figures by name, such as "dsm", or "ce@0.5" of a noise
            level). Other keys are passed over.
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.

    Raises:
        UserError: no losses in the records, or a file that cannot be written.
    """
    curves = _curves(records)
    if not curves:
        raise UserError("no losses in the training records: train for at least one logging step")
    figure, drawn = panels(len(curves), height=2.1)
    for axes, ((stage, quantity), lines) in zip(drawn, curves.items(), strict=True):
        for name, points in lines.items():
            _draw_curve(axes, name, points, *_style(name, curves))
        axes.set_title(f"{stage}: {plot_text(measure(quantity).title)}", fontsize=FONT, loc="left")
        axes.set_xlabel("step", fontsize=FONT)
        if measure(quantity).is_share:
            axes.yaxis.set_major_formatter(percent)
    legend(figure, drawn)
    return write_figure(figure, path)


def _curves(records: Iterable[Mapping[str, Any]]) -> Curves:
    curves: Curves = {}
    for record in records:
        found = {(term, "training"): value for term, value in record.get("losses", {}).items()}
        for name, value in record.get("validation", {}).items():
            quantity, _, level = name.partition("@")
            line = f"validation, σ = {level}" if level else "validation"
            found[quantity, line] = value
        for (quantity, line), value in found.items():
            of_quantity = curves.setdefault((record["stage"], quantity), {})
            of_quantity.setdefault(line, {})[record["step"]] = value
    return curves


def _style(name: str, curves: Curves) -> tuple[str, str]:
    """Colour and dashes of a line, the same in every panel."""
    if name in STYLES:
        return STYLES[name]
    names = {line for lines in curves.values() for line in lines if line not in STYLES}
    order = sorted(names, key=lambda line: float(line.rpartition(" ")[2]))
    return LEVELS[order.index(name) % len(LEVELS)], "--"


def _draw_curve(
    axes: "Axes", name: str, points: Mapping[float, float], colour: str, dashes: str
) -> None:
    import numpy as np

    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps], dtype=float)
    marker = "o" if len(steps) == 1 else ""
    if len(steps) >= SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        window = len(steps) // 25
        values = np.convolve(values, np.ones(window) / window, mode="valid")
        steps = steps[(window - 1) // 2 :][: len(values)]
    line: dict[str, Any] = {
        "color": colour,
        "linestyle": dashes,
        "linewidth": 1.5,
        "marker": marker,
    }
    axes.plot(steps, values, markersize=4, label=plot_text(name), **line)
