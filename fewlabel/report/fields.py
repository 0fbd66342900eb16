"""Figures of the experiments in the plane: samples, vector fields, errors, reliability."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fewlabel.calibration import Reliability
from fewlabel.errors import UserError
from fewlabel.metrics.table import measure
from fewlabel.pictures.plots import save_figure
from fewlabel.report.figures import method_style
from fewlabel.report.label_curves import Curves, draw_label_curves
from fewlabel.report.noise import draw_reliability, noise_axis
from fewlabel.report.panels import plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["Overview", "moons_overview"]

CLASS_COLOURS = ("#0072B2", "#D55E00")
ERRORS = ("D_P", "D_L", "D_S")
NOTES = {"D_L": " (below 0.0001: not drawn)", "D_S": " (score models of their own apart)"}
SMALL, FONT, DPI = 8, 10, 130
WIDTH, COLUMNS = 14.0, 7
LOWEST_ERROR = 1e-4
_EVERY = 3  # every third point of the grid, both ways, gets an arrow
_ARROW = 0.045  # of a score that is drawn one unit of x long


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What a figure shows; a part that is empty is left out.

    Attributes:
        samples: {name: (points of class 0, points of class 1)}, each (n, 2).
        grid: the places of the arrows, (G², 2), as `plane_grid` orders them.
        fields: {name: likelihood scores (G², 2)} with the name "exact"; None is passed over.
        sigma: the noise level of the fields.
        by_noise: rows with "method", "metric", "sigma" and "value".
        reliability: {noise level: {name: diagram}}.
        curves: figures against the number of labels.
        note: what the reader must know of the parts, such as the number of labels.
    """

    samples: Mapping[str, Sequence[Tensor]]
    grid: Tensor
    fields: Mapping[str, Tensor | None]
    sigma: float
    by_noise: Sequence[Mapping[str, Any]]
    reliability: Mapping[float, Mapping[str, Reliability]] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    note: str = ""


def moons_overview(shown: Overview, path: Path) -> Path:
    """Draw samples by class, likelihood scores beside the exact one, errors, reliability.

    Args:
        shown: what is drawn.
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.

    Raises:
        UserError: there are no samples to draw.
    """
    from matplotlib.figure import Figure

    if not shown.samples:
        raise UserError("no samples to draw: train at least one method first")
    drawn = {name: found for name, found in shown.fields.items() if found is not None}
    metrics = len({metric for metric, _ in shown.curves})
    parts = {"samples": _height(len(shown.samples)), "fields": _height(len(drawn)), "errors": 3.4}
    parts |= {"reliability": 3.7} if shown.reliability else {}
    parts |= {"curves": 0.4 + 2.2 * metrics} if metrics else {}
    figure = Figure(figsize=(WIDTH, sum(parts.values())), layout="constrained")
    rows = figure.subfigures(len(parts), 1, height_ratios=list(parts.values()), squeeze=False)
    of = dict(zip(parts, rows[:, 0], strict=True))
    _draw_samples(of["samples"], shown)
    _draw_fields(of["fields"], shown.grid, drawn, shown.sigma)
    _draw_errors(of["errors"], shown.by_noise)
    if shown.reliability:
        _draw_reliability(of["reliability"], shown.reliability)
    if metrics:
        draw_label_curves(of["curves"], shown.curves)
    return save_figure(figure, path, DPI)


def _height(panels: int) -> float:
    """Of a part with panels of the plane, in inches."""
    return 0.4 + math.ceil(panels / COLUMNS) * (0.3 + 0.62 * WIDTH / COLUMNS)


def _plane_panels(figure: "SubFigure", n: int) -> list["Axes"]:
    """So many panels of the plane, in rows of `COLUMNS`."""
    rows = math.ceil(n / COLUMNS)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[n:]:
        axes.remove()
    return list(panels.flat[:n])


def _draw_samples(figure: "SubFigure", shown: Overview) -> None:
    title = "Data, and samples of each class asked for"
    _headline(figure, f"{title} ({shown.note})" if shown.note else title)
    panels = _plane_panels(figure, len(shown.samples))
    for axes, (name, classes) in zip(panels, shown.samples.items(), strict=True):
        for points, colour in zip(classes, CLASS_COLOURS, strict=True):
            few = len(points) <= 100
            some = points[:: max(1, len(points) // 500)]
            size, alpha = (40, 1.0) if few else (3, 0.6)
            axes.scatter(some[:, 0], some[:, 1], s=size, color=colour, alpha=alpha, linewidths=0)
        axes.set(xlim=(-40, 40), ylim=(-25, 25), aspect="equal")
        _bare(axes, name)


def _draw_fields(
    figure: "SubFigure", grid: Tensor, fields: Mapping[str, Tensor], sigma: float
) -> None:
    _headline(
        figure,
        f"Likelihood score ∇ log p(blue class | x) at σ = {sigma:g}; the exact one is grey "
        "everywhere",
    )
    side = round(len(grid) ** 0.5)
    panels = _plane_panels(figure, len(fields))
    exact = _thinned(fields["exact"], side)
    places = _thinned(grid, side)
    for axes, (name, vectors) in zip(panels, fields.items(), strict=True):
        arrows: dict[str, Any] = {
            "angles": "xy",
            "scale_units": "xy",
            "headwidth": 3,
            "headlength": 3.5,
        }
        size = _ARROW * (10 if name.endswith("-x10") else 1)
        axes.quiver(*places.T, *exact.T, color="#b0b0b0", scale=_ARROW, width=0.009, **arrows)
        if name != "exact":
            colour = method_style(_base(name))[0]
            found = _thinned(vectors, side).T
            axes.quiver(*places.T, *found, color=colour, scale=size, width=0.005, **arrows)
        axes.set(xlim=(-44, 44), ylim=(-29, 29), aspect="equal")
        _bare(axes, name + (" (arrows ÷ 10)" if name.endswith("-x10") else ""))


def _thinned(values: Tensor, side: int) -> Any:
    """The vectors at the points that get an arrow, as an array."""
    return values.reshape(side, side, 2)[::_EVERY, ::_EVERY].reshape(-1, 2).numpy()


def _draw_errors(figure: "SubFigure", rows: Sequence[Mapping[str, Any]]) -> None:
    _headline(figure, "Errors of the scores on points of p_t, by noise level")
    metrics = [metric for metric in ERRORS if any(row["metric"] == metric for row in rows)]
    panels = figure.subplots(1, len(metrics), squeeze=False)
    for axes, metric in zip(panels.flat, metrics, strict=True):
        lines: dict[str, dict[float, float]] = {}
        for row in rows:
            if row["metric"] == metric:
                lines.setdefault(row["method"], {})[row["sigma"]] = row["value"]
        if metric == "D_S":  # the classifiers share one score model
            lines = _without_repeats(lines)
        for name, points in lines.items():
            shown = {sigma: value for sigma, value in points.items() if value >= LOWEST_ERROR}
            axes.plot(list(shown), list(shown.values()), label=name, **_line(name))
        axes.set_yscale("log")
        noise_axis(axes, {sigma for line in axes.lines for sigma in line.get_xdata()}, FONT)
        plain_axes(axes, SMALL)
        title = f"{metric}: {measure(metric).title}{NOTES.get(metric, '')}"
        axes.set_title(title, fontsize=FONT)
    _legend(figure, panels[0, 0])


def _without_repeats(lines: Mapping[str, dict[float, float]]) -> dict[str, dict[float, float]]:
    """The lines whose values no line before has."""
    kept: dict[str, dict[float, float]] = {}
    for name, points in lines.items():
        if points not in kept.values():
            kept[name] = points
    return kept


def _draw_reliability(
    figure: "SubFigure", levels: Mapping[float, Mapping[str, Reliability]]
) -> None:
    _headline(
        figure, "Reliability: accuracy against confidence, by noise level; calibrated is grey"
    )
    panels = figure.subplots(1, len(levels), sharex=True, sharey=True, squeeze=False)
    for axes, (sigma, diagrams) in zip(panels.flat, levels.items(), strict=True):
        lines = {
            name: _line(name) | {"markersize": 3.5, "label": f"{name}, ECE {diagram.ece:.3f}"}
            for name, diagram in diagrams.items()
        }
        draw_reliability(axes, diagrams, lines)
        axes.set(xlim=(0.48, 1.02), ylim=(0.3, 1.03))
        axes.set_title(f"σ = {sigma:g}", fontsize=FONT)
        axes.set_xlabel("confidence", fontsize=FONT)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
        axes.legend(frameon=False, fontsize=SMALL - 1, columnspacing=1.0, **place)
        plain_axes(axes, SMALL)
    panels[0, 0].set_ylabel("accuracy", fontsize=FONT)


def _headline(figure: "SubFigure", text: str) -> None:
    figure.suptitle(text, fontsize=FONT + 1, x=0.005, ha="left", fontweight="bold")


def _legend(figure: "SubFigure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=SMALL + 1)


def _base(name: str) -> str:
    """The method of a row: "cg" for "cg-x10"."""
    return name.split("-x")[0]


def _line(name: str) -> dict[str, Any]:
    colour, marker = method_style(_base(name))
    dashes = "-" if _base(name) == name else "--"
    return {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 5}


def _bare(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#cccccc")
