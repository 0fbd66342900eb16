"""Figures of the experiments in the plane: samples, vector fields, score errors."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.files import replacing
from fewlabel.metrics.intervals import Estimate
from fewlabel.report.figures import method_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Curves", "label_curves", "moons_overview"]

Curves = Mapping[tuple[str, float], Mapping[str, Mapping[int, Estimate]]]
"""(metric, σ) → method → number of labels → the figure with its interval."""

CLASS_COLOURS = ("#0072B2", "#D55E00")
TITLES = {
    "D_P": "posterior score error",
    "D_L": "likelihood score error",
    "D_S": "prior score error",
    "accuracy": "accuracy of the classifier",
}
NOTES = {"D_L": " (below 0.0001: not drawn)", "D_S": " (one model for all but cond)"}
SMALL, FONT, DPI = 8, 10, 150
LOWEST_ERROR = 1e-4
_EVERY = 3  # every third point of the grid, both ways, gets an arrow
_ARROW = 0.045  # of a score that is drawn one unit of x long


def moons_overview(
    samples: Mapping[str, Sequence[Tensor]],
    grid: Tensor,
    fields: Mapping[str, Tensor | None],
    by_noise: Iterable[Mapping[str, Any]],
    path: Path,
) -> Path:
    """Draw samples by class, likelihood scores beside the exact one, errors by noise level.

    Args:
        samples: {name: (points of class 0, points of class 1)}, each (n, 2).
        grid: the places of the arrows, (G², 2), as `plane_grid` orders them.
        fields: {name: likelihood scores (G², 2)} with the name "exact"; None is passed over.
        by_noise: rows with "method", "metric", "sigma" and "value".
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 8.4), layout="constrained")
    parts = figure.subfigures(3, 1, height_ratios=(1, 1.15, 2.1), squeeze=False)
    top, middle, bottom = parts[:, 0]
    drawn = {name: field for name, field in fields.items() if field is not None}
    _draw_samples(top, samples)
    _draw_fields(middle, grid, drawn)
    _draw_errors(bottom, list(by_noise))
    return _write(figure, path)


def label_curves(curves: Curves, path: Path) -> Path:
    """Draw figures against the number of labels: a row a metric, a column a noise level.

    Args:
        curves: the figures.
        path: the file to write; its suffix (.png, .svg) is the format.

    Returns:
        The path that was written.

    Raises:
        UserError: nothing to draw.
    """
    from matplotlib.figure import Figure

    if not curves:
        raise UserError("no figures to draw: measure at least one method first")
    metrics, sigmas = (list(dict.fromkeys(keys)) for keys in zip(*curves, strict=True))
    size = (1.5 + 3.6 * len(sigmas), 0.8 + 2.8 * len(metrics))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(metrics), len(sigmas), squeeze=False, sharex=True)
    for (row, metric), (column, sigma) in (
        (m, s) for m in enumerate(metrics) for s in enumerate(sigmas)
    ):
        axes = panels[row, column]
        _draw_curves(axes, curves[metric, sigma], logarithmic=metric != "accuracy")
        axes.set_title(f"{TITLES[metric]}, σ = {sigma:g}", fontsize=FONT, loc="left")
        if row == len(metrics) - 1:
            axes.set_xlabel("number of labels", fontsize=FONT)
    _legend(figure, list(panels.flat))
    return _write(figure, path)


def _draw_samples(figure: "SubFigure", samples: Mapping[str, Sequence[Tensor]]) -> None:
    figure.suptitle("Data, and samples of each class asked for", fontsize=FONT, x=0.01, ha="left")
    panels = figure.subplots(1, len(samples), sharex=True, sharey=True, squeeze=False)
    for axes, (name, classes) in zip(panels.flat, samples.items(), strict=True):
        for points, colour in zip(classes, CLASS_COLOURS, strict=True):
            shown = points[:: max(1, len(points) // 500)]
            axes.scatter(shown[:, 0], shown[:, 1], s=3, color=colour, alpha=0.6, linewidths=0)
        axes.set(xlim=(-40, 40), ylim=(-25, 25), aspect="equal")
        _bare(axes, name)


def _draw_fields(figure: "SubFigure", grid: Tensor, fields: Mapping[str, Tensor]) -> None:
    figure.suptitle(
        "Likelihood score ∇ log p(blue class | x) at σ = 7.5; the exact one is grey everywhere",
        fontsize=FONT,
        x=0.01,
        ha="left",
    )
    side = round(len(grid) ** 0.5)
    panels = figure.subplots(1, len(fields), sharex=True, sharey=True, squeeze=False)
    exact = _thinned(fields["exact"], side)
    places = _thinned(grid, side)
    for axes, (name, field) in zip(panels.flat, fields.items(), strict=True):
        arrows = {"angles": "xy", "scale_units": "xy", "headwidth": 3, "headlength": 3.5}
        size = _ARROW * (10 if name.endswith("-x10") else 1)
        axes.quiver(*places.T, *exact.T, color="#b0b0b0", scale=_ARROW, width=0.009, **arrows)
        if name != "exact":
            colour = method_style(_base(name))[0]
            found = _thinned(field, side).T
            axes.quiver(*places.T, *found, color=colour, scale=size, width=0.005, **arrows)
        axes.set(xlim=(-44, 44), ylim=(-29, 29), aspect="equal")
        _bare(axes, name + (" (arrows ÷ 10)" if name.endswith("-x10") else ""))


def _thinned(values: Tensor, side: int) -> Any:
    """The vectors at the points that get an arrow, as an array."""
    return values.reshape(side, side, 2)[::_EVERY, ::_EVERY].reshape(-1, 2).numpy()


def _draw_errors(figure: "SubFigure", rows: Sequence[Mapping[str, Any]]) -> None:
    metrics = [metric for metric in TITLES if any(row["metric"] == metric for row in rows)]
    panels = figure.subplots(1, len(metrics), squeeze=False)
    for axes, metric in zip(panels.flat, metrics, strict=True):
        lines: dict[str, dict[float, float]] = {}
        for row in rows:
            if row["metric"] == metric:
                lines.setdefault(row["method"], {})[row["sigma"]] = row["value"]
        if metric == "D_S":  # the score model is one for all rows that have it
            lines = {"cg": lines["cg"]} if "cg" in lines else lines
        for name, points in lines.items():
            shown = {sigma: value for sigma, value in points.items() if value >= LOWEST_ERROR}
            axes.plot(list(shown), list(shown.values()), label=name, **_line(name))
        axes.set(xscale="log", yscale="log")
        ticks = _apart({sigma for line in axes.lines for sigma in line.get_xdata()})
        axes.set_xticks(ticks, [f"{sigma:g}" for sigma in ticks])
        axes.set_xticks([], minor=True)
        _plain(axes)
        axes.set_xlabel("noise level σ", fontsize=FONT)
        axes.set_title(f"{metric}: {TITLES[metric]}{NOTES.get(metric, '')}", fontsize=FONT)
    panels[0, 0].legend(frameon=False, fontsize=SMALL + 1)


def _apart(values: Iterable[float]) -> list[float]:
    """The values, ascending, without those that would be too close on a logarithmic axis."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= 1.5 * kept[-1]:
            kept.append(value)
    return kept


def _draw_curves(
    axes: "Axes", methods: Mapping[str, Mapping[int, Estimate]], logarithmic: bool
) -> None:
    counts = sorted({n for points in methods.values() for n in points})
    for index, (name, points) in enumerate(methods.items()):
        shift = 1.035 ** (index - (len(methods) - 1) / 2)  # so that intervals do not overlap
        places = [n * shift for n in points]
        values = [estimate.value for estimate in points.values()]
        low = [max(e.value - e.low, 0) for e in points.values()]
        high = [e.high - e.value for e in points.values()]
        if logarithmic:  # an interval may reach below zero
            low = [min(part, 0.9 * value) for part, value in zip(low, values, strict=True)]
        line = _line(name) | {"markersize": 4, "linewidth": 1.2}
        axes.errorbar(places, values, (low, high), label=name, elinewidth=0.8, **line)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    _fit(axes, [e.value for points in methods.values() for e in points.values()], logarithmic)
    _plain(axes)


def _fit(axes: "Axes", values: Sequence[float], logarithmic: bool) -> None:
    """Limits by the figures themselves: intervals of few draws may be far wider."""
    low, high = min(values), max(values)
    if logarithmic:
        from matplotlib.ticker import LogLocator, NullFormatter

        low = max(low, LOWEST_ERROR**2)
        axes.set(yscale="log", ylim=(low / 1.6, 1.6 * high))
        steps = (1, 2, 5) if high < 100 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.15 * (high - low) + 0.002
        axes.set_ylim(low - margin, min(high + margin, 1.002))


def _base(name: str) -> str:
    """The method of a row: "cg" for "cg-x10"."""
    return name.split("-x")[0]


def _line(name: str) -> dict[str, Any]:
    colour, marker = method_style(_base(name))
    dashes = "-" if _base(name) == name else "--"
    return {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 5}


def _legend(figure: "Figure", panels: "Sequence[Axes]") -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper left",
        ncols=min(len(entries), 6),
        frameon=False,
        fontsize=FONT,
    )


def _plain(axes: "Axes") -> None:
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def _bare(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#cccccc")


def _write(figure: "Figure", path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="white")
    return path
