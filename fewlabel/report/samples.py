"""Samples as files: one PNG an image, grids, an array, and the JSON of `sample`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from fewlabel.files import file_stems, replacing
from fewlabel.pictures.grid import class_grid, image_grid, image_of, save_images
from fewlabel.pictures.scatter import scatter
from fewlabel.progress import PartOf, speaks, track
from fewlabel.report.sample_request import SampleRequest, request_of
from fewlabel.run import Run, Samples
from fewlabel.texts import brief

__all__ = ["draw_to_folder"]

_COLUMNS = 16
_OF_CLASS = 256  # as many a picture of one class shows at most
_TOGETHER = 2048  # as many are drawn before they are written


@dataclass(frozen=True)
class _Plan:
    """The files of a request, one an image, in the order in which images are drawn."""

    request: SampleRequest
    folder: Path
    classes: Sequence[int]
    stems: Sequence[str]

    @property
    def labels(self) -> Tensor:
        return torch.tensor(self.classes).repeat_interleave(self.request.n)

    @property
    def files(self) -> list[Path]:
        n, digits = self.request.n, max(4, len(str(self.request.n - 1)))
        numbers = [f"{i:0{digits}d}" for i in range(n)]
        return [self.folder / f"{self.stems[c]}-{i}.png" for c in self.classes for i in numbers]

    def grid(self, c: int) -> Path:
        return self.folder / f"grid-{self.stems[c]}.png"

    def note(self, index: int) -> str:
        """What the image at this place of the request tells of itself."""
        c = self.classes[index // self.request.n]
        return self.request.note(**_of_class(self.request, c), index=index)


def _of_class(request: SampleRequest, c: int) -> dict[str, Any]:
    return {"class": request.class_names[c], "class_index": c}


def draw_to_folder(
    run: Run,
    folder: Path | None,
    *,
    label: str | None,
    n: int,
    scale: float | None,
    sampler: str,
    seed: int,
    batch_size: int,
    steps: int | None = None,
    interval: tuple[float, float] | None = None,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Draw n images of a class, or of each class, and write them as they are drawn.

    A folder holds one request, which stands in its `request.json` and, as JSON under the key
    "fewlabel", in the text of every picture: `run.draw([class_index], 1, first=index, …)` with
    its settings draws that image again. The same request goes on where it was stopped, and ends
    with the same bytes. `grid.png` shows the first of every class, `grid-CLASS.png` those of one.
    Of several processes that were launched together the main one writes, and the others end.

    Args:
        run: the run to sample from.
        folder: where the files go; None for a folder of the request's own in RUN/samples.
        label: the class by name or index; None for every class.
        n: images of each class.
        scale: guidance scale; None for the method's default.
        sampler: a name in `samplers.SAMPLERS`.
        seed: fixes the noise.
        batch_size: how many are drawn together.
        steps: grid points of the sampler; None for its default.
        interval: noise levels (low, high) outside which the guidance is off; None for everywhere.
        temperature: what divides the classifier's logits.

    Returns:
        The document of `fewlabel sample --json`.

    Raises:
        UserError: for a folder that cannot be, lies in that of the data, or holds other files or
            another request; see `Run.draw`.
    """
    classes = list(range(len(run.class_names))) if label is None else [run.class_index(label)]
    if n < 1:
        raise UserError(f"-n {n} images were asked for; ask for at least 1")
    request = request_of(
        run,
        classes,
        n=n,
        scale=scale,
        sampler=sampler,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        interval=interval,
        temperature=temperature,
    )
    if folder is None:
        folder = request.own_folder(run.folder.path / "samples", run.method.guided)
    if run.config.imported_from is None:
        refuse_inside(run.config.data, folder)
    plan = _Plan(request, folder, classes, file_stems(run.class_names))
    with request.begun(folder):
        x, last, seconds = _draw(run, plan)
        launched.go_on_alone()
        document = _write(run, plan, x)
    return document | {
        "n": len(x),
        "label": label,
        "scale": request.scale,
        "sampler": sampler,
        "steps": request.steps,
        "nfe": last.nfe,
        "seconds": seconds,
        "seed": seed,
        "folder": str(folder),
        "request": request.document(),
    }


def _draw(run: Run, plan: _Plan) -> tuple[NDArray[Any], Samples, float]:
    """Draw what is not there yet, and write images as they come; the last are always drawn.

    Returns:
        All samples, as files hold them; the last that were drawn; the seconds it took.
    """
    request, labels, files = plan.request, plan.labels, plan.files
    of_images, batch = len(run.config.shape) > 1, request.batch_size
    together = max(batch, _TOGETHER // batch * batch)
    parts = [slice(i, min(i + together, len(files))) for i in range(0, len(files), together)]
    kept: list[NDArray[Any] | None] = [None] * len(parts)
    if of_images and speaks():
        kept[:-1] = [_there(files[part], map(plan.note, _rows(part))) for part in parts[:-1]]
    wanted, seconds = launched.agreed([x is None for x in kept]), 0.0
    with track("sampling") as task:
        for place, part in enumerate(parts):
            if not wanted[place]:
                continue
            drawn = run.draw(
                labels[part],
                **request.settings(),
                first=part.start,
                progress=PartOf(task, part.start, len(labels)),
            )
            seconds += drawn.seconds
            if of_images and speaks():
                save_images(drawn.images, files[part], [plan.note(i) for i in _rows(part)])
            kept[place] = stored(drawn.images) if of_images else drawn.images.numpy()
    return np.concatenate([x for x in kept if x is not None]), drawn, seconds


def _rows(part: slice) -> range:
    return range(part.start, part.stop)


def _there(files: Sequence[Path], notes: Iterable[str]) -> NDArray[np.uint8] | None:
    """The images (N, H, W, C) that files hold, if each is whole and tells that it is the one."""
    found = []
    for file, note in zip(files, notes, strict=True):
        if (pixels := image_of(file, note)) is None:
            return None
        found.append(pixels)
    return np.stack(found)


def _write(run: Run, plan: _Plan, x: NDArray[Any]) -> dict[str, Any]:
    """Write the arrays and the grids; the part of the document that names files."""
    request, folder = plan.request, plan.folder
    title = f"{run.config.method}, scale {request.scale:g}"
    arrays = _write_arrays(folder / "samples.npz", x, plan)
    by_class = dict(zip(plan.classes, np.split(x, len(plan.classes)), strict=True))
    names, grids, files = request.class_names, [], [arrays]
    if x.ndim == 2:
        points = {names[c]: torch.from_numpy(values) for c, values in by_class.items()}
        grid = scatter(points, folder / "points.png", title, request.note())
    else:
        files = plan.files
        images = {c: as_images(pixels[:_OF_CLASS]) for c, pixels in by_class.items()}
        for c, shown in images.items():
            note = request.note(**_of_class(request, c))
            heading = f"{brief(names[c])}: {title}"
            grids.append(image_grid(shown, plan.grid(c), heading, note=note))
        first = {names[c]: shown[:_COLUMNS] for c, shown in images.items()}
        grid = class_grid({title: first}, folder / "grid.png", note=request.note())
    return {
        "files": [str(path) for path in files],
        "grid": str(grid),
        "class_grids": [str(path) for path in grids],
        "arrays": str(arrays),
    }


def _write_arrays(path: Path, x: NDArray[Any], plan: _Plan) -> Path:
    """The samples as `images` (N, H, W, C) uint8 or `vectors` (N, D), as `train` reads them."""
    arrays = {
        "labels": plan.labels.numpy(),
        "class_names": np.array(plan.request.class_names),
        "request": np.array(json.dumps(plan.request.document())),
        "vectors" if x.ndim == 2 else "images": x,
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path
