"""From what a user names as DATA to a dataset."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fewlabel.data.arrays import open_npz
from fewlabel.data.cifar import open_cifar10, open_cifar100
from fewlabel.data.dataset import Dataset
from fewlabel.data.decoded import Progress
from fewlabel.data.digits import load_digits
from fewlabel.data.folder import open_folder
from fewlabel.data.hub import open_hub
from fewlabel.data.idx import open_idx
from fewlabel.data.moons import load_moons
from fewlabel.errors import UserError

__all__ = [
    "BUILTIN",
    "FORMS",
    "Builtin",
    "absolute",
    "is_missing",
    "open_dataset",
    "refuse_inside",
]


class Builtin(NamedTuple):
    """A dataset that comes with the package: how to load it at a size, and one line on it."""

    load: Callable[[int | None], Dataset]
    summary: str


BUILTIN: dict[str, Builtin] = {
    "moons": Builtin(load_moons, "10,000 points in the plane, two half circles, 2 classes"),
    "digits": Builtin(load_digits, "1797 handwritten digits, 8 × 8 grey, 10 classes"),
}
"""The built-in datasets by name."""


FORMS: dict[str, str] = {
    "cifar10": "the files of CIFAR-10, binary or Python version",
    "cifar100": "the files of CIFAR-100, the fine classes, either version",
    "mnist": "IDX files, in gzip or not, of MNIST, Fashion-MNIST, KMNIST or EMNIST",
    "hf": "what the datasets library loads: a folder, or a name on the hub (extra: hub)",
}
"""What may stand before the colon in PREFIX:PATH, and one line on it."""

_READERS: dict[str, Callable[[Path, int | None], Dataset]] = {
    "cifar10": open_cifar10,
    "cifar100": open_cifar100,
    "mnist": open_idx,
}


def absolute(data: str | os.PathLike[str]) -> str:
    """What was named as DATA, so that it means the same from every working directory.

    Names of built-in datasets, and what is not found, stay as they are.
    """
    text = os.fspath(data)
    prefix, path = _form_of(text)
    if prefix:
        return f"{prefix}:{Path(path).resolve()}" if Path(path).exists() else text
    builtin = isinstance(data, str) and text in BUILTIN
    return str(Path(path).resolve()) if Path(path).exists() and not builtin else text


def is_missing(data: str) -> bool:
    """Whether what was named as DATA are files, and not there."""
    prefix, path = _form_of(data)
    return data not in BUILTIN and prefix != "hf" and not Path(path).exists()


def refuse_inside(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Refuse to write into a folder of images: the next time it would be other data.

    Args:
        data: what was named as DATA.
        out: the file or folder to write.

    Raises:
        UserError: if it lies there.
    """
    prefix, path = _form_of(absolute(data))
    folder = Path(path)
    if prefix in ("", "hf") and folder.is_dir() and Path(out).resolve().is_relative_to(folder):
        raise UserError(
            f"{out} lies in the data folder {folder} and would be taken for data: choose another "
            "--out"
        )


def _form_of(data: str) -> tuple[str, str]:
    """The prefix and the path, or ("", data) if there is no prefix; ``~`` is the home."""
    prefix, colon, path = data.partition(":")
    found = (prefix, path) if colon and prefix in FORMS else ("", data)
    return found[0], os.path.expanduser(found[1])


def open_dataset(
    data: str | os.PathLike[str],
    size: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> Dataset:
    """Open a built-in dataset, a folder of images, an `.npz` file or PREFIX:PATH.

    Args:
        data: a built-in name, the path of a folder or an `.npz` file, or a prefix of `FORMS`, a
            colon and a path. A folder that is called like a built-in dataset is meant by
            ``./digits`` or a `pathlib.Path`.
        size: side of the images; None for the data's own, see `open_folder`.
        progress: called as ``progress(done, total)`` while images are decoded.
        strict: raise on a broken image; else leave it out and name it in ``skipped``.
    """
    if isinstance(data, str) and data in BUILTIN:
        return BUILTIN[data].load(size)
    prefix, path = _form_of(os.fspath(data))
    if prefix == "hf":
        return open_hub(path, size, progress, strict)
    if prefix:
        return _open_files(prefix, path, size)
    if not path or not Path(path).exists():
        raise UserError(_not_found(os.fspath(data)))
    if Path(path).suffix == ".npz":
        return open_npz(Path(path), size)
    return open_folder(path, size, progress, strict)


def _open_files(prefix: str, path: str, size: int | None) -> Dataset:
    if not path or not Path(path).exists():
        raise UserError(f"{prefix}:{path}: there is no such file or folder: check the path")
    return _READERS[prefix](Path(path), size)


def _not_found(data: str) -> str:
    prefix, colon, path = data.partition(":")
    known = FORMS if colon else BUILTIN
    close = difflib.get_close_matches(prefix.lower(), known, n=1)
    mend = f"did you mean {close[0]}{colon}{path}?" if close else "check the path"
    return (
        f"no built-in dataset ({', '.join(BUILTIN)}) is called '{data}' and no such folder "
        f"was found: {mend}"
    )
