"""From what a user names as DATA to a dataset."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fewlabel.data.arrays import open_npz
from fewlabel.data.dataset import Dataset
from fewlabel.data.decoded import Progress
from fewlabel.data.digits import load_digits
from fewlabel.data.folder import open_folder
from fewlabel.data.moons import load_moons
from fewlabel.errors import UserError

__all__ = ["BUILTIN", "Builtin", "open_dataset"]


class Builtin(NamedTuple):
    """A dataset that comes with the package: how to load it at a size, and one line on it."""

    load: Callable[[int | None], Dataset]
    summary: str


BUILTIN: dict[str, Builtin] = {
    "moons": Builtin(load_moons, "10,000 points in the plane, two half circles, 2 classes"),
    "digits": Builtin(load_digits, "1797 handwritten digits, 8 × 8 grey, 10 classes"),
}
"""The built-in datasets by name."""


def open_dataset(
    data: str | os.PathLike[str], size: int | None = None, progress: Progress | None = None
) -> Dataset:
    """Open a built-in dataset, a folder of images or an `.npz` file.

    Args:
        data: a built-in name, or the path of a folder or an `.npz` file. A folder that is called
            like a built-in dataset is meant by ``./digits`` or a `pathlib.Path`.
        size: side of the images; None for the data's own, see `open_folder`.
        progress: called as ``progress(done, total)`` while images are decoded.
    """
    if isinstance(data, str) and data in BUILTIN:
        return BUILTIN[data].load(size)
    if not data or not Path(data).exists():
        raise UserError(_not_found(os.fspath(data)))
    if Path(data).suffix == ".npz":
        return open_npz(Path(data), size)
    return open_folder(data, size, progress)


def _not_found(data: str) -> str:
    close = difflib.get_close_matches(data.lower(), BUILTIN, n=1)
    mend = f"did you mean {close[0]}?" if close else "check the path"
    return (
        f"no built-in dataset ({', '.join(BUILTIN)}) is called '{data}' and no such folder "
        f"was found: {mend}"
    )
