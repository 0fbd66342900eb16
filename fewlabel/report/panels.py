"""The sheet that the line plots are drawn on: panels, axes, one legend, the file."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.pictures.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FONT", "RING", "apart", "legend", "panels", "plain_axes", "write_figure"]

WIDTH, HEIGHT, DPI = 5.6, 2.9, 250
FONT = 9.5
_SUFFIXES = (".png", ".svg", ".pdf")
"""In points: 16 pixels where the figure is shown 700 pixels wide, 8 on a phone."""
MANY_LINES = 6
"""From more lines on a panel takes the whole width."""
HANDLE, LETTER, SPACING = 1.8, 0.58, 2.0
"""Widths in a legend in multiples of the font's size: of a line, a letter, between columns."""
RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "markeredgecolor": "#333333",
    "markeredgewidth": 1.5,
}
"""How the chosen scale is marked."""


def panels(n: int, height: float = HEIGHT - 0.4, lines: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure with n panels, two to a row, or one if they hold many lines.

    Args:
        n: how many.
        height: of a row of panels, in inches.
        lines: the largest number of lines in a panel.

    Returns:
        The figure and its panels, row by row.
    """
    from matplotlib.figure import Figure

    columns = 1 if lines > MANY_LINES else min(n, 2)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(WIDTH, 0.4 + height * rows), layout="constrained")
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in found[n:]:
        empty.remove()
    for axes in found[:n]:
        plain_axes(axes, FONT)
    return figure, found[:n]


def plain_axes(axes: "Axes", font: float) -> None:
    """Give axes a light grid behind the lines, and no frame above and on the right."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=font, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def legend(
    figure: "Figure",
    drawn: "Sequence[Axes]",
    marks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """One legend for all panels, above them: each label once, then the extra marks.

    The figure grows by the legend's height, so that many entries take nothing from the panels.
    """
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for axes in drawn:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for label, style in (marks or {}).items():
        entries[label] = Line2D([], [], **dict(style, markersize=9))
    widest = FONT * (HANDLE + 0.8 + SPACING + LETTER * max(map(len, entries)))
    columns = min(max(1, int(72 * WIDTH / widest)), 4)
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * 1.5 * FONT / 72)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=FONT,
        handlelength=HANDLE,
        columnspacing=SPACING,
    )


def apart(values: Iterable[float], factor: float) -> list[float]:
    """The values, ascending, without those that would be too close on a logarithmic axis."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= factor * kept[-1]:
            kept.append(value)
    return kept


def write_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure; the suffix (.png, .svg) is the format.

    Raises:
        UserError: for another suffix, or if the file cannot be written.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise UserError(f"{path}: a figure is written as one of {', '.join(_SUFFIXES)}")
    return save_figure(figure, Path(path), DPI)
