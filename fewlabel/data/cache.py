"""Where things that can be made again are kept."""

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fewlabel.files import replacing

__all__ = ["cache_folder", "keep_tensor", "kept_tensor"]


def cache_folder() -> Path:
    """$FEWLABEL_CACHE, else $XDG_CACHE_HOME/fewlabel, else ~/.cache/fewlabel; may not exist."""
    if own := os.environ.get("FEWLABEL_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "fewlabel"
    return Path.home() / ".cache" / "fewlabel"


def keep_tensor(path: Path, tensor: Tensor) -> None:
    """Write a tensor to a safetensors file of the cache, with the digest of its bytes.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(save({"features": tensor, "digest": _digest(tensor)}))


def kept_tensor(path: Path) -> Tensor | None:
    """The tensor that `keep_tensor` wrote, or None if there is no whole one."""
    try:
        tensors = load_file(path)
        tensor = tensors["features"]
        return tensor if torch.equal(tensors["digest"], _digest(tensor)) else None
    except (OSError, SafetensorError, KeyError):
        return None


def _digest(tensor: Tensor) -> Tensor:
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return torch.tensor(list(hashlib.blake2b(content, digest_size=16).digest()), dtype=torch.uint8)
