"""Images of any generator, from memory or from files, as the examples of a dataset."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset, open_dataset
from fewlabel.data.classes import index_of
from fewlabel.data.dataset import as_images, in_words
from fewlabel.data.images import squares
from fewlabel.errors import UserError
from fewlabel.metrics.checks import finite
from fewlabel.metrics.classwise import places_in_classes
from fewlabel.progress import track

__all__ = ["Given", "given_images"]

_SAMPLES = "samples.npz"
_SHOWN = 10
_BEYOND = 1e-3


class Given(NamedTuple):
    """Images as the examples of a dataset, a class each in turn.

    Attributes:
        images: (N, C, H, W) in [−1, 1], or vectors (N, D).
        labels: (N,) the index of the class of each among those of the dataset.
        source: the file or folder; None for images in memory.
        warnings: what people should know of how they were read.
    """

    images: Tensor
    labels: Tensor
    source: str | None
    warnings: tuple[str, ...]


def given_images(images: Any, labels: Any, dataset: Dataset) -> Given:
    """Read images and their classes; see `fewlabel.judge` for what may be given.

    Raises:
        UserError: for shapes, values or classes that do not fit the dataset.
    """
    if isinstance(images, str | os.PathLike):
        source = os.fspath(images)
        if labels is not None:
            raise UserError(f"{source}: files tell the class of each image; leave labels out")
        x, y, warnings = _of_files(source, dataset)
    else:
        source, warnings = None, ()
        if labels is None:
            raise UserError("images in memory have no labels: give the class of each")
        x = _of_memory(images, dataset)
        y = _indices(labels, len(x), dataset)
    finite(x, source or "images")
    if x.ndim > 2 and float(x.min()) >= 0:
        warnings += ("images: no value is below 0; bring them to [-1, 1] if they are in [0, 1]",)
    order = _in_turn(y)
    in_turn = x.flatten(1)[order].view(x.shape)  # in one layout, wherever they are from
    return Given(in_turn, y[order], source, warnings)


def _in_turn(labels: Tensor) -> Tensor:
    """The order of a class each in turn, as a run draws; the more there are, the more often."""
    place, rank, counts = places_in_classes(labels)
    part = (rank.double() + 0.5) / counts[place]
    return torch.from_numpy(np.lexsort((place.numpy(), part.numpy())))


def _of_files(source: str, dataset: Dataset) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    inside = Path(source).expanduser() / _SAMPLES
    path = str(inside) if inside.is_file() else source
    side = dataset.shape[-1] if len(dataset.shape) > 1 else None
    is_array = path.endswith(".npz")  # may hold vectors, which have no size
    with track("reading images") as task:
        found = open_dataset(path, None if is_array else side, task.set)
    if is_array and found.values.ndim == 4 and found.shape[-1] != side:
        found = open_dataset(path, side)
    x = _of_channels(found.examples(range(len(found))), dataset, path)
    _refuse_other(x, dataset, path)
    if (n := int((found.labels == UNLABELLED).sum())) > 0:
        first = int(np.argmax(found.labels == UNLABELLED))
        named = found.files[first] if found.files else f"row {first}"
        raise UserError(
            f"{path}: {n} images have no class, such as {named}: put them into a sub-folder that "
            "is called like their class, or remove them"
        )
    place = torch.tensor([_index(name, dataset, path) for name in found.class_names])
    broken = tuple(
        f"images: {len(found.skipped)} broken left out, such as {name}"
        for name in found.skipped[:1]
    )
    notes = tuple(f"images: {note}" for note in found.notes)
    return x, place[torch.from_numpy(found.labels)], (*broken, *notes)


def _of_memory(images: Any, dataset: Dataset) -> Tensor:
    x = torch.as_tensor(images).detach().cpu()
    if x.dtype == torch.uint8 and len(dataset.shape) > 1:
        if isinstance(images, Tensor):  # channels first
            x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
        values = x.numpy()[..., None] if x.ndim == 3 else x.numpy()
        if values.ndim != 4 or values.shape[-1] not in (1, 3) or 0 in values.shape:
            raise UserError(
                f"images are bytes of shape {tuple(torch.as_tensor(images).shape)}: give "
                "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"
            )
        return _of_channels(as_images(squares(values, dataset.shape[-1])), dataset, "images")
    x = x.float()
    _refuse_other(x, dataset, "images")
    if x.ndim > 2 and len(x) and float(x.abs().max()) > 1 + _BEYOND:
        raise UserError(
            f"images reach from {float(x.min()):g} to {float(x.max()):g}: bring them to [-1, 1], "
            "or give bytes, uint8 (N, H, W, C)"
        )
    return x


def _of_channels(x: Tensor, dataset: Dataset, where: str) -> Tensor:
    """Images (N, C, H, W) with as many channels as the dataset has, if they are grey."""
    if x.ndim != 4 or len(dataset.shape) == 1 or x.shape[1] == dataset.shape[0]:
        return x
    if (x != x[:, :1]).any():
        raise UserError(f"{where}: images in colour, and those of {dataset.name} are grey")
    return x[:, :1].expand(-1, dataset.shape[0], -1, -1)


def _refuse_other(x: Tensor, dataset: Dataset, where: str) -> None:
    if tuple(x.shape[1:]) == dataset.shape:
        return
    known = x.ndim in (2, 4)
    own = in_words(tuple(x.shape[1:])) if known else f"of shape {tuple(x.shape)}"
    raise UserError(
        f"{where}: examples {'of ' * known}{own}, {dataset.name} has {in_words(dataset.shape)}: "
        "give images of the same form"
    )


def _indices(labels: Any, n: int, dataset: Dataset) -> Tensor:
    """The class of each of n images: tensors and arrays of integers hold indices."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        labels = torch.from_numpy(labels.astype(np.int64))
    if isinstance(labels, Tensor):
        y = labels.detach().cpu()
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise UserError(f"labels are {y.dtype}: give indices of classes, integers")
    else:
        named: Iterable[int | str] = labels.tolist() if isinstance(labels, np.ndarray) else labels
        y = torch.tensor([_index(one, dataset, "labels") for one in named], dtype=torch.int64)
    if y.shape != (n,):
        raise UserError(f"labels of shape {tuple(y.shape)} for {n} images: give one an image")
    if n and not 0 <= int(y.min()) <= int(y.max()) < dataset.n_classes:
        raise UserError(
            f"labels reach from {int(y.min())} to {int(y.max())}: the classes of {dataset.name} "
            f"have the indices 0 to {dataset.n_classes - 1}"
        )
    return y.long()


def _index(name: int | str, dataset: Dataset, where: str) -> int:
    if (found := index_of(name, dataset.class_names)) is None:
        raise UserError(
            f"{where}: class {str(name)!r} is none of {dataset.name}, which has "
            f"{_listed(dataset.class_names)}: call it like one of them"
        )
    return found[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
