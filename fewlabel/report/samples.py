"""Samples as files: one PNG an image, grids, an array, and the JSON of `sample`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel import launched
from fewlabel.data import refuse_inside
from fewlabel.data.dataset import as_images, stored
from fewlabel.errors import UserError
from fewlabel.files import file_stems, refuse_file, replacing
from fewlabel.pictures.grid import class_grid, image_grid, save_images
from fewlabel.pictures.scatter import scatter
from fewlabel.progress import PartOf, speaks, track
from fewlabel.run import Run

__all__ = ["draw_to_folder"]

_COLUMNS = 16
_OF_CLASS = 256  # as many a picture of one class shows at most
_TOGETHER = 2048  # as many are drawn before they are written


def draw_to_folder(
    run: Run,
    folder: Path,
    *,
    label: str | None,
    n: int,
    scale: float | None,
    sampler: str,
    seed: int,
    batch_size: int,
    **options: Any,
) -> dict[str, Any]:
    """Draw n images of a class, or of each class, and write them as they are drawn.

    `grid.png` shows the first of every class, `grid-CLASS.png` those of one. Of several processes
    that were launched together the main one writes, and the others end.

    Args:
        run: the run to sample from.
        folder: where the files go; files of an earlier request with the same names are replaced.
        label: the class by name or index; None for every class.
        n: images of each class.
        scale: guidance scale; None for the method's default.
        sampler: a name in `samplers.SAMPLERS`.
        seed: fixes the noise.
        batch_size: how many are drawn together.
        options: other arguments of `Run.draw`.

    Returns:
        The document of `fewlabel sample --json`.

    Raises:
        UserError: for a folder that cannot be, or lies in that of the data; see `Run.draw`.
    """
    classes = list(range(len(run.class_names))) if label is None else [run.class_index(label)]
    if n < 1:
        raise UserError(f"-n {n} images were asked for; ask for at least 1")
    if run.config.imported_from is None:
        refuse_inside(run.config.data, folder)
    refuse_file(folder)
    labels = torch.tensor(classes).repeat_interleave(n)
    stems, of_images = file_stems(run.class_names), len(run.config.shape) > 1
    files = [folder / f"{stems[c]}-{i:0{_digits(n)}d}.png" for c in classes for i in range(n)]
    kept, seconds = [], 0.0
    together = max(1, batch_size, _TOGETHER // max(batch_size, 1) * batch_size)
    with track("sampling") as task:
        for first in range(0, len(labels), together):
            rows = slice(first, first + together)
            drawn = run.draw(
                labels[rows],
                scale=scale,
                sampler=sampler,
                seed=seed,
                first=first,
                batch_size=batch_size,
                progress=PartOf(task, first, len(labels)),
                **options,
            )
            seconds += drawn.seconds
            if of_images and speaks():
                save_images(drawn.images, files[rows])
            kept.append(stored(drawn.images) if of_images else drawn.images.numpy())
    launched.go_on_alone()
    x = np.concatenate(kept)
    title = f"{run.config.method}, scale {drawn.scale:g}"
    arrays = _write_arrays(folder / "samples.npz", x, labels, run.class_names)
    by_class = {run.class_names[c]: x[i * n : (i + 1) * n] for i, c in enumerate(classes)}
    grids: list[Path] = []
    if of_images:
        paths = {run.class_names[c]: folder / f"grid-{stems[c]}.png" for c in classes}
        grids, grid = _write_grids(by_class, paths, folder / "grid.png", title)
    else:
        points = {name: torch.from_numpy(values) for name, values in by_class.items()}
        files, grid = [arrays], scatter(points, folder / "points.png", title)
    return {
        "files": [str(path) for path in files],
        "grid": str(grid),
        "class_grids": [str(path) for path in grids],
        "arrays": str(arrays),
        "n": len(labels),
        "label": label,
        "scale": drawn.scale,
        "sampler": sampler,
        "steps": drawn.steps,
        "nfe": drawn.nfe,
        "seconds": seconds,
        "seed": seed,
    }


def _digits(n: int) -> int:
    """Of the numbers in the names of n files, which are then in order."""
    return max(4, len(str(n - 1)))


def _write_grids(
    by_class: dict[str, NDArray[Any]], paths: dict[str, Path], path: Path, title: str
) -> tuple[list[Path], Path]:
    """A grid of each class, and that of the first of every class."""
    images = {name: as_images(pixels[:_OF_CLASS]) for name, pixels in by_class.items()}
    grids = [image_grid(x, paths[name], f"{name}: {title}") for name, x in images.items()]
    shown = {name: x[:_COLUMNS] for name, x in images.items()}
    return grids, class_grid({title: shown}, path)


def _write_arrays(path: Path, x: NDArray[Any], labels: Tensor, names: tuple[str, ...]) -> Path:
    """The samples as `images` (N, H, W, C) uint8 or `vectors` (N, D), as `train` reads them."""
    kind = "vectors" if x.ndim == 2 else "images"
    arrays = {"labels": labels.numpy(), "class_names": np.array(names), kind: x}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path
