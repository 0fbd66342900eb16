"""Weights from files that others made, read without running anything that they name."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fewlabel.errors import UserError
from fewlabel.limits import check_claim, out_of_memory
from fewlabel.regular_file import regular

__all__ = ["check_keys", "check_weights", "read_pickled", "read_weights"]

_AGAIN = "fetch it again from its source"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file: safetensors, or a pickle of tensors alone.

    Raises:
        UserError: for a file that is cut short, or holds anything else.
    """
    regular(path)
    if path.suffix != ".safetensors":
        found = read_pickled(path)
        for name, value in found.items():
            if not isinstance(value, Tensor):
                raise UserError(f"{path}: {name} is no tensor; give a file of weights alone")
        return found
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({_line(error)}): {_AGAIN}") from None


def read_pickled(path: Path) -> dict[str, Any]:
    """The mapping in a file of `torch.save`, read by torch's reader for tensors and plain values.

    A pickle is a program that may call whatever it can name. This reader knows a list of harmless
    names, those of tensors, and ends where another comes up.

    Raises:
        UserError: for a file that asks for anything else, or is cut short.
    """
    regular(path)
    try:
        check_claim(path, "its content", _unpacked(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about a file is told by the error
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {asked[1]}" if asked else _line(error)
        raise UserError(
            f"{path} is no checkpoint of tensors alone ({reason}), and nothing in it was run: "
            f"{_AGAIN}"
        ) from None
    except UserError:
        raise
    except MemoryError:
        raise out_of_memory(str(path)) from None
    except Exception as error:  # on bad bytes the reader raises anything
        raise UserError(f"{path} cannot be read ({_line(error)}): {_AGAIN}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no mapping: {_AGAIN}")
    claimed = sum(value.numel() * value.element_size() for value in _tensors(found))
    check_claim(path, "the tensors that it names", claimed)  # a view may repeat one value
    return found


def _unpacked(path: Path) -> int:
    """The bytes of a file when it is unpacked."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as file:
        return sum(member.file_size for member in file.infolist())


def _tensors(found: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors in mappings and lists, as far down as weights lie."""
    if isinstance(found, Tensor):
        yield found
    elif depth and isinstance(found, Mapping | list | tuple):
        for value in found.values() if isinstance(found, Mapping) else found:
            yield from _tensors(value, depth - 1)


def check_keys(path: Path, expected: Iterable[str], found: Iterable[str], what: str) -> None:
    """Refuse names of weights that are not those expected.

    Args:
        path: where they were found.
        expected: all that there must be, in order.
        found: all that there are, in order.
        what: the network they are for.

    Raises:
        UserError: naming the first that is missing, or else the first that is not expected.
    """
    wanted, there = list(expected), list(found)
    for word, names, others in (
        ("missing", wanted, set(there)),
        ("unexpected", there, set(wanted)),
    ):
        first = next((name for name in names if name not in others), None)
        if first is not None:
            raise UserError(
                f"{path} does not fit {what}: its first {word} key is {first}; give the "
                "checkpoint of such a network"
            )


def check_weights(path: Path, module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights whose names or shapes are not those of a module.

    Raises:
        UserError: naming the first missing or unexpected key, or the first of another shape.
    """
    own = module.state_dict()
    check_keys(path, own, weights, what)
    for name, value in own.items():
        if weights[name].shape != value.shape:
            raise UserError(
                f"{path} does not fit {what}: {name} has the shape {tuple(weights[name].shape)}, "
                f"not {tuple(value.shape)}; give the configuration it was made with"
            )


def _line(error: Exception) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0][:160]
