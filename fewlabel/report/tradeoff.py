"""Fidelity against diversity along the guidance scale, a line a method."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.errors import UserError
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import boxes_for_missing_letters, plot_text
from fewlabel.report.figures import line_style, method_style, percent
from fewlabel.report.panels import FONT, RING, legend, panels, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["tradeoff"]

SMALL = 8.5

Lines = dict[str, dict[float, tuple[float, float]]]
"""method → guidance scale → (diversity, fidelity)."""


def tradeoff(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    diversity: str = "recall",
    fidelity: str = "precision",
    chosen: Mapping[tuple[str, str], float] | None = None,
) -> Path:
    """Draw one metric against another along the guidance scale: a panel for each label amount.

    The scales are written beside the points, where there is room for them.

    Args:
        rows: "method", "scale", "metric", "value", and "labels" if there are several amounts.
            Rows of other metrics and of a single class are passed over, as are points of which
            one of both metrics is missing.
        path: the file to write; its suffix (.png, .svg) is the format.
        diversity: the metric along x.
        fidelity: the metric along y.
        chosen: the chosen scale of each (labels, method), which is ringed; the labels are ""
            if the rows have none.

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw, two rows for one point, or a file that cannot be written.
    """
    amounts = _lines(rows, diversity, fidelity)
    if not any(amounts.values()):
        raise UserError(f"no rows to draw: evaluate {fidelity} and {diversity} at some scales")
    figure, drawn = panels(len(amounts), lines=max(map(len, amounts.values())))
    wanted = []
    for axes, (labels, lines) in zip(drawn, amounts.items(), strict=True):
        scales = {method: (chosen or {}).get((labels, method)) for method in lines}
        wanted += [(axes, *text) for text in _draw_lines(axes, lines, scales)]
        axes.set_title(
            f"labels {plot_text(labels, 24)}" if labels else "", fontsize=FONT, loc="left"
        )
        for axis, metric in ((axes.xaxis, diversity), (axes.yaxis, fidelity)):
            axis.set_label_text(plot_text(measure(metric).heading), fontsize=FONT)
            if measure(metric).is_share:
                axis.set_major_formatter(percent)
    legend(figure, drawn, {"chosen scale": RING} if chosen else {})
    _write_scales(figure, wanted)
    return write_figure(figure, path)


def _lines(rows: Iterable[Mapping[str, Any]], diversity: str, fidelity: str) -> dict[str, Lines]:
    """The points of each label amount."""
    values: dict[tuple[str, str, float], dict[str, float]] = {}
    for row in rows:
        if row.get("class") is not None or row["metric"] not in (diversity, fidelity):
            continue
        point = values.setdefault((row.get("labels", ""), row["method"], row["scale"]), {})
        if row["metric"] in point:
            raise UserError(
                f"two rows have {row['method']}, {row['metric']}, scale {row['scale']:g}: "
                "average over draws first"
            )
        point[row["metric"]] = row["value"]
    amounts: dict[str, Lines] = {}
    for (labels, method, scale), point in values.items():
        if len(point) == 2:
            line = amounts.setdefault(labels, {}).setdefault(method, {})
            line[scale] = point[diversity], point[fidelity]
    return amounts


def _draw_lines(
    axes: "Axes", lines: Lines, chosen: Mapping[str, float | None]
) -> list[tuple[str, tuple[float, float], str]]:
    """Draw, and return the texts to write beside the points, the most important first."""
    texts: list[tuple[int, str, tuple[float, float], str]] = []
    for method, points in lines.items():
        colour, marker = method_style(method)
        scales = sorted(points)
        places = [points[scale] for scale in scales]
        axes.plot(*zip(*places, strict=True), line_style(method), color=colour, lw=1.2, alpha=0.6)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5}
        axes.plot(*zip(*places, strict=True), linestyle="none", label=plot_text(method), **style)
        ringed = chosen[method]
        if ringed is not None and ringed in points:
            axes.plot(*points[ringed], **dict(RING, markeredgecolor=colour, markersize=10))
        for scale, place in zip(scales, places, strict=True):
            ends = 1 if scale in (scales[0], scales[-1]) else 2
            rank = 0 if scale == ringed else ends
            texts.append((rank, f"{scale:g}", place, colour))
    return [text[1:] for text in sorted(texts, key=lambda text: text[0])]


def _write_scales(
    figure: "Figure", texts: "Sequence[tuple[Axes, str, tuple[float, float], str]]"
) -> None:
    """Write each text beside its point, unless every side of it is taken."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    with boxes_for_missing_letters():
        figure.draw_without_rendering()  # where the panels are is known only then
    size, taken = 3 * figure.dpi / 72, []
    for axes, _, place, _ in texts:
        x, y = axes.transData.transform(place)
        taken.append(Bbox([[x - size, y - size], [x + size, y + size]]))
    sides = {(6, 0): ("left", "center"), (-6, 0): ("right", "center")}
    sides |= {(0, 5): ("center", "bottom"), (0, -5): ("center", "top")}
    for axes, text, place, colour in texts:
        for offset, (across, up) in sides.items():
            written = axes.annotate(
                text,
                place,
                offset,
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=SMALL,
                color=colour,
            )
            box = written.get_window_extent(renderer)
            inside = axes.get_window_extent(renderer).padded(size).count_contains(box.corners())
            if inside == 4 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            written.remove()
