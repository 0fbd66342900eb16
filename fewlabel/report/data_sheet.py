"""What a dataset holds, in figures and as a sheet of examples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset
from fewlabel.files import printable
from fewlabel.pictures.grid import class_grid
from fewlabel.pictures.scatter import scatter
from fewlabel.randomness import generator_for

__all__ = ["describe", "draw_sheet"]

_EXAMPLES, _POINTS = 12, 1000
_ROWS = 40
_NAMED = 20
_NO_LABEL = "(no label)"


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts of examples, sizes, classes, labels and files left out: plain values for JSON.

    `sizes` are those of the files, most frequent first, `shape` is what training sees.
    """
    counts = np.bincount(dataset.labels + 1, minlength=dataset.n_classes + 1).tolist()
    shape = list(dataset.shape)
    return {
        "name": dataset.name,
        "examples": len(dataset),
        "shape": shape,
        "sizes": dict(sorted(dataset.sizes.items(), key=lambda item: -item[1])),
        "classes": dict(zip(dataset.class_names, counts[1:], strict=True)),
        "labelled": sum(counts[1:]),
        "unlabelled": counts[0],
        "test": 0 if dataset.test is None else len(dataset.test),
        "broken": len(dataset.skipped),
        "broken_files": [printable(name) for name in dataset.skipped[:_NAMED]],
        "unread": {printable(ending): count for ending, count in dataset.unread.items()},
        "notes": list(dataset.remarks()),
    }


def draw_sheet(dataset: Dataset, path: Path) -> Path:
    """Draw examples, a row a class: the same ones every time; of vectors their first coordinates.

    Args:
        dataset: the data.
        path: the PNG file to write.

    Returns:
        The path that was written.
    """
    rows = dict(list(zip(dataset.class_names, range(dataset.n_classes), strict=True))[:_ROWS])
    if (dataset.labels == UNLABELLED).any():
        rows[_NO_LABEL] = UNLABELLED
    of_images = len(dataset.shape) > 1
    blocks = {}
    for name, label in rows.items():
        chosen = _some(dataset, label, _EXAMPLES if of_images else _POINTS)
        if len(chosen):
            blocks[name] = dataset.examples(chosen)
    more = dataset.n_classes - _ROWS
    title = f"{len(dataset)} examples" + (f", {more} more classes" if more > 0 else "")
    if of_images:
        return class_grid({title: blocks}, path, title=dataset.name)
    return scatter(blocks, path, f"{dataset.name}: {title}")


def _some(dataset: Dataset, label: int, n: int) -> NDArray[np.int64]:
    members = np.flatnonzero(dataset.labels == label)
    order = torch.randperm(len(members), generator=generator_for("sheet", label))
    return members[order[:n].numpy()]
