"""Where things that can be made again are kept, each with its digest.

What was damaged since does not agree with its digest: it is as if it were not there.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fewlabel.errors import TrainingError, UserError
from fewlabel.files import replacing, write_json
from fewlabel.owners import sweep_once
from fewlabel.progress import tell

__all__ = [
    "cache_folder",
    "keep_facts",
    "keep_features",
    "kept_facts",
    "kept_features",
    "note_not_kept",
    "read_sealed",
    "sweep_cache",
    "write_sealed",
]


def cache_folder() -> Path:
    """$FEWLABEL_CACHE, else $XDG_CACHE_HOME/fewlabel, else ~/.cache/fewlabel; may not exist."""
    if own := os.environ.get("FEWLABEL_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "fewlabel"
    return Path.home() / ".cache" / "fewlabel"


def sweep_cache() -> None:
    """Remove what processes that were killed left in the cache; once in a process."""
    cache = cache_folder()
    for folder in (cache, *cache.glob("*/"), *cache.glob("*/*/")):
        sweep_once(folder)


def keep_features(path: Path, features: Tensor) -> None:
    """Write features to a safetensors file of the cache, with their digest.

    If it cannot be written a note says so: they can be made again.
    """
    _try_to_keep("features are", lambda: write_sealed(path, "features", features))


def kept_features(path: Path) -> Tensor | None:
    """What `keep_features` wrote, or None if there is no whole file."""
    return read_sealed(path, "features")


def keep_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write what JSON can hold to a file of the cache, with its digest.

    If it cannot be written a note says so: it can be found again.
    """
    document = {"facts": facts, "digest": _digest_of_facts(facts)}
    _try_to_keep(f"{path.stem} is", lambda: write_json(path, document))


def kept_facts(path: Path) -> dict[str, Any] | None:
    """What `keep_facts` wrote, or None if there is no whole file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        facts = document["facts"]
        return facts if document["digest"] == _digest_of_facts(facts) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_sealed(path: Path, name: str, tensor: Tensor) -> None:
    """Write a tensor to a safetensors file, with its digest.

    Args:
        path: the file.
        name: of the tensor in it.
        tensor: what to keep, on the CPU.

    Raises:
        UserError: the file cannot be written there.
        TrainingError: the disk is full, or fails.
    """
    content = save({name: tensor.contiguous(), "digest": _digest(tensor)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_sealed(path: Path, name: str) -> Tensor | None:
    """What `write_sealed` wrote, or None if there is no whole file."""
    try:
        tensors = load_file(path)
        tensor = tensors[name]
        return tensor if tensors["digest"].tolist() == _digest(tensor).tolist() else None
    except (OSError, SafetensorError, KeyError):
        return None


def note_not_kept(what: str, error: Exception) -> None:
    """Say on standard error that something is not kept, and why.

    Args:
        what: the thing and its verb, such as "features are".
        error: why it cannot be written.
    """
    tell(f"note: {what} not kept for the next time, {error} (FEWLABEL_CACHE names one)")


def _try_to_keep(what: str, write: Callable[[], None]) -> None:
    try:
        write()
    except (UserError, TrainingError) as error:
        note_not_kept(what, error)


def _digest_of_facts(facts: Any) -> str:
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _digest(tensor: Tensor) -> Tensor:
    """The digest of type, shape and bytes: the header can be damaged, too."""
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
