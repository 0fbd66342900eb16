"""Pickles of plain arrays, read without running anything that they name.

A pickle is a program, and may call whatever it can name. Here it can name the three things with
which numpy's arrays are pickled, and gets harmless stand-ins for them; asking for anything else
ends the reading. numpy's own code never sees what the file says of itself.
"""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.errors import UserError
from fewlabel.limits import check_claim, out_of_memory

__all__ = ["unpickle_arrays"]

_PLAIN = ("u1", "i1", "i2", "i4", "i8", "f4", "f8")


def unpickle_arrays(path: Path) -> dict[str, Any]:
    """The mapping in a pickle of numbers, texts, lists and numpy arrays of numbers.

    Python 2's strings come as texts if they are keys, as bytes elsewhere.

    Raises:
        UserError: for a file that is no such pickle, or asks for anything else than arrays.
    """
    try:
        check_claim(path, "its content", path.stat().st_size)
        with path.open("rb") as stream:
            found = _ArraysOnly(stream, encoding="bytes").load()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it readable or fetch it again"
        ) from None
    except UserError:
        raise
    except MemoryError:
        raise out_of_memory(str(path)) from None
    except Exception as error:  # on bad bytes the unpickler raises anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is no pickle of plain arrays ({reason}), and nothing in it was run: fetch it "
            "again from its source"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no mapping: fetch it again")
    return {_text(key): _plain(value) for key, value in found.items()}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


class _Array:
    """Stands for an array while it is being read."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray = np.empty(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], "_Kind", bool, bytes]) -> None:
        _, shape, kind, fortran, content = state
        values = np.frombuffer(content, kind.dtype)
        if len(values) != math.prod(shape):
            raise pickle.UnpicklingError(f"{len(values)} numbers for an array of shape {shape}")
        self.values = values.reshape(shape, order="F" if fortran else "C")


class _Kind:
    """Stands for the kind of an array's numbers."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = _text(code)
        if self.code not in _PLAIN:
            raise pickle.UnpicklingError(f"its array is of kind {self.code}")
        self.dtype = np.dtype(self.code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if _text(state[1]) == ">":
            self.dtype = self.dtype.newbyteorder(">")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # numpy 1
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # numpy 2
    ("numpy", "ndarray"): None,  # only an argument of the former
    ("numpy", "dtype"): _Kind,
}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
