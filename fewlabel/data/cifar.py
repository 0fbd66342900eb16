"""CIFAR-10 and CIFAR-100, the binary and the Python version of their files.

CIFAR-10    data_batch_1.bin … data_batch_5.bin  test_batch.bin  batches.meta.txt
            data_batch_1 … data_batch_5          test_batch      batches.meta
CIFAR-100   train.bin  test.bin  fine_label_names.txt
            train      test      meta

An example is its label (CIFAR-100: the coarse, then the fine one) and 3 × 32 × 32 bytes: all of
red, of green, of blue, row by row (Krizhevsky 2009, "Learning Multiple Layers of Features from
Tiny Images", www.cs.toronto.edu/~kriz/cifar.html).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import known_integers, names_in, signed
from fewlabel.data.dataset import Dataset
from fewlabel.data.in_memory import image_dataset
from fewlabel.data.pickled_arrays import unpickle_arrays
from fewlabel.errors import UserError
from fewlabel.limits import check_claim

__all__ = ["open_cifar10", "open_cifar100"]

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

_Part = tuple[NDArray[np.uint8], NDArray[np.integer]]


@dataclass(frozen=True)
class _Layout:
    """What the files of a version are called; those of the binary one end in .bin."""

    name: str
    train: tuple[str, ...]
    test: str
    label_bytes: int
    labels_key: str
    names_file: str
    pickled_names_file: str
    names_key: str
    class_names: tuple[str, ...]


_CIFAR10 = _Layout(
    name="cifar10",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test="test_batch",
    label_bytes=1,
    labels_key="labels",
    names_file="batches.meta.txt",
    pickled_names_file="batches.meta",
    names_key="label_names",
    class_names=_CIFAR10_CLASSES,
)
_CIFAR100 = _Layout(
    name="cifar100",
    train=("train",),
    test="test",
    label_bytes=2,
    labels_key="fine_labels",
    names_file="fine_label_names.txt",
    pickled_names_file="meta",
    names_key="fine_label_names",
    class_names=tuple(str(label) for label in range(100)),
)


def open_cifar10(folder: Path, size: int | None = None) -> Dataset:
    """Open a folder of CIFAR-10 files; its own test part is held out and never trains.

    Classes are called as its list of names says, or, without it, by their usual names.

    Args:
        folder: holds the files of either version under their usual names.
        size: side of the images; None for 32.

    Raises:
        UserError: for a file that is missing, cut short, or a pickle of more than arrays.
    """
    return _open(folder, size, _CIFAR10)


def open_cifar100(folder: Path, size: int | None = None) -> Dataset:
    """Open a folder of CIFAR-100 files with the 100 fine classes; see `open_cifar10`.

    Without a list of names the classes are called 0 … 99. Those without an image are left out.
    """
    return _open(folder, size, _CIFAR100)


def _open(folder: Path, size: int | None, layout: _Layout) -> Dataset:
    binary = any((folder / f"{name}.bin").is_file() for name in layout.train)
    ending = ".bin" if binary else ""
    paths = [folder / f"{name}{ending}" for name in layout.train]
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"{layout.name}:{folder} has no {path.name}: give the folder that holds "
                f"{paths[0].name} … {layout.test}{ending}"
            )
    n_train = len(paths)
    if (own_test := folder / f"{layout.test}{ending}").is_file():
        paths.append(own_test)
    read = _read_binary if binary else _read_pickle
    parts = [read(path, layout) for path in paths]
    images = np.concatenate([pixels for pixels, _ in parts])
    test_from = sum(len(labels) for _, labels in parts[:n_train])
    labels = np.concatenate([labels for _, labels in parts])
    known = known_integers(labels, f"{layout.name}:{folder}", _class_names(folder, layout))
    return image_dataset(
        name=layout.name,
        images=images.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1),
        labels=known.labels,
        class_names=known.class_names,
        size=size,
        test_from=test_from if len(paths) > n_train else None,
        notes=known.notes,
    )


def _read_binary(path: Path, layout: _Layout) -> _Part:
    check_claim(path, "its content", path.stat().st_size)
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): fetch it again") from None
    record = layout.label_bytes + _PIXELS
    if not len(content) or len(content) % record:
        raise UserError(
            f"{path} has {len(content)} bytes, no multiple of {record}: it is cut short or of "
            "another dataset, fetch it again"
        )
    rows = content.reshape(-1, record)
    return _checked(path, rows[:, layout.label_bytes :], rows[:, layout.label_bytes - 1], layout)


def _read_pickle(path: Path, layout: _Layout) -> _Part:
    found = unpickle_arrays(path)
    pixels, labels = found.get("data"), found.get(layout.labels_key)
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[1:] != (_PIXELS,)
        or labels is None
    ):
        raise UserError(
            f"{path} holds {', '.join(map(str, found)) or 'nothing'}, not `data` (N, {_PIXELS}) "
            f"of bytes and `{layout.labels_key}`: fetch it again"
        )
    return _checked(path, pixels, labels, layout)


def _checked(path: Path, pixels: NDArray[np.uint8], labels: Any, layout: _Layout) -> _Part:
    classes = len(layout.class_names)
    plain = isinstance(labels, np.ndarray) or (
        isinstance(labels, list) and all(isinstance(label, int) for label in labels)
    )
    known: NDArray = (
        np.asarray(labels) if plain else np.empty(0)
    )  # a nested list may unfold for ever
    if known.shape != (len(pixels),) or known.dtype.kind not in "iu":
        raise UserError(f"{path}: its labels are not one integer an image: fetch it again")
    integers = signed(known)
    wrong = np.flatnonzero((integers < UNLABELLED) | (integers >= classes))
    if len(wrong):
        raise UserError(
            f"{path}: label {known[wrong[0]]} in row {wrong[0]}; {layout.name} has classes 0 to "
            f"{classes - 1}: fetch it again"
        )
    return pixels, known


def _class_names(folder: Path, layout: _Layout) -> tuple[str, ...]:
    if (path := folder / layout.names_file).is_file():
        names = names_in(path)
    elif (path := folder / layout.pickled_names_file).is_file():
        listed = unpickle_arrays(path).get(layout.names_key)
        listed = listed if isinstance(listed, list) else []
        names = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in listed]
    else:
        return layout.class_names
    if len(names) != len(layout.class_names) or len(set(names)) < len(names):
        raise UserError(
            f"{path} names {len(set(names))} classes instead of {len(layout.class_names)}: "
            "fetch it again or remove it"
        )
    return tuple(names)
