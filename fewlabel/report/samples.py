"""Samples as files: one PNG an image, grids, an array, and the JSON of `sample`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewlabel import launched
from fewlabel.data import refuse_inside
from fewlabel.data.dataset import stored
from fewlabel.errors import UserError
from fewlabel.files import file_stems, refuse_file, replacing
from fewlabel.pictures.grid import class_grid, image_grid, save_images
from fewlabel.pictures.scatter import scatter
from fewlabel.progress import track
from fewlabel.run import Run

__all__ = ["draw_to_folder"]

_COLUMNS = 16


def draw_to_folder(
    run: Run,
    folder: Path,
    *,
    label: str | None,
    n: int,
    scale: float | None,
    sampler: str,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    """Draw n images of a class, or of each class, and write them.

    `grid.png` shows the first of every class, `grid-CLASS.png` all of one. Of several processes
    that were launched together the main one writes, and the others end.

    Args:
        run: the run to sample from.
        folder: where the files go; files of an earlier request with the same names are replaced.
        label: the class by name or index; None for every class.
        n: images of each class.
        scale: guidance scale; None for the method's default.
        sampler: a name in `samplers.SAMPLERS`.
        seed: fixes the noise.
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
    with track("sampling") as task:
        drawn = run.draw(
            labels,
            len(labels),
            scale,
            sampler=sampler,
            seed=seed,
            progress=task,
            **options,
        )
    launched.go_on_alone()
    by_class = {run.class_names[c]: drawn.images[labels == c] for c in classes}
    title = f"{run.config.method}, scale {drawn.scale:g}"
    arrays = _write_arrays(folder / "samples.npz", drawn.images, labels, run.class_names)
    grids: list[Path] = []
    if len(run.config.shape) == 1:
        files, grid = [arrays], scatter(by_class, folder / "points.png", title)
    else:
        stems = dict(zip(run.class_names, file_stems(run.class_names), strict=True))
        files, grids, grid = _write_images(by_class, stems, folder, title)
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
        "seconds": drawn.seconds,
        "seed": seed,
    }


def _write_images(
    by_class: dict[str, Tensor], stems: dict[str, str], folder: Path, title: str
) -> tuple[list[Path], list[Path], Path]:
    """Each image, a grid of each class, and the grid of the first of every class."""
    files: list[Path] = []
    grids: list[Path] = []
    for name, images in by_class.items():
        files += save_images(images, folder, stems[name])
        grids.append(image_grid(images, folder / f"grid-{stems[name]}.png", f"{name}: {title}"))
    shown = {name: images[:_COLUMNS] for name, images in by_class.items()}
    return files, grids, class_grid({title: shown}, folder / "grid.png")


def _write_arrays(path: Path, x: Tensor, labels: Tensor, names: tuple[str, ...]) -> Path:
    """The samples as `images` (N, H, W, C) uint8 or `vectors` (N, D), as `train` reads them."""
    arrays = {"labels": labels.numpy(), "class_names": np.array(names)}
    if x.dim() == 2:
        arrays["vectors"] = x.numpy()
    else:
        arrays["images"] = stored(x)
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path
