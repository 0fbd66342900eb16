"""Vectors as points: the first two coordinates, a colour a class."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fewlabel.files import replacing

__all__ = ["scatter"]


def scatter(points: Mapping[str, Tensor], path: Path, title: str = "") -> Path:
    """Draw the first two coordinates of vectors, one colour a class.

    Args:
        points: {class name: (n, D)}, D ≥ 1; of a single number the second coordinate is 0.
        path: the file to write; its suffix (.png, .svg) is the format.
        title: the heading.

    Returns:
        The path that was written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot(aspect="equal", title=title)
    for index, (name, vectors) in enumerate(points.items()):
        second = vectors[:, 1] if vectors.shape[1] > 1 else 0 * vectors[:, 0]
        colour = colormaps["tab10"](index % 10)
        axes.scatter(vectors[:, 0], second, s=6, color=colour, label=name, linewidths=0)
    axes.legend(loc="best", markerscale=2, frameon=False)
    axes.grid(alpha=0.2)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)
    return path
