"""Vectors as points: the first two coordinates, a colour a class."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fewlabel.pictures.plots import plot_text, save_figure

__all__ = ["scatter"]

_TITLE, _NAME = 40, 20
"""Characters of the longest title and name of a class."""


def scatter(
    points: Mapping[str, Tensor], path: Path, title: str = "", note: str | None = None
) -> Path:
    """Draw the first two coordinates of vectors, one colour a class.

    Args:
        points: {class name: (n, D)}, D ≥ 1; of a single number the second coordinate is 0.
        path: the file to write; its suffix (.png, .svg) is the format.
        title: the heading.
        note: a text that a PNG file keeps under the key "fewlabel".

    Returns:
        The path that was written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot(aspect="equal", title=plot_text(title, _TITLE))
    for index, vectors in enumerate(points.values()):
        second = vectors[:, 1] if vectors.shape[1] > 1 else 0 * vectors[:, 0]
        colour = colormaps["tab10"](index % 10)
        axes.scatter(vectors[:, 0], second, s=6, color=colour, linewidths=0)
    names = [plot_text(name, _NAME) for name in points]
    axes.legend(axes.collections, names, loc="best", markerscale=2, frameon=False)
    axes.grid(alpha=0.2)
    return save_figure(figure, path, 160, note)
