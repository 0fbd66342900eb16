"""Where things that can be made again are kept."""

import hashlib
import os
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fewlabel.errors import TrainingError, UserError
from fewlabel.files import replacing

__all__ = ["cache_folder", "keep_features", "kept_features"]


def cache_folder() -> Path:
    """$FEWLABEL_CACHE, else $XDG_CACHE_HOME/fewlabel, else ~/.cache/fewlabel; may not exist."""
    if own := os.environ.get("FEWLABEL_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "fewlabel"
    return Path.home() / ".cache" / "fewlabel"


def keep_features(path: Path, features: Tensor) -> None:
    """Write features to a safetensors file of the cache, with the digest of their bytes.

    If it cannot be written a note says so: they can be made again.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save({"features": features, "digest": _digest(features)}))
    except (UserError, TrainingError) as error:
        note = f"note: features are not kept for the next time, {error} (FEWLABEL_CACHE names one)"
        print(note, file=sys.stderr)


def kept_features(path: Path) -> Tensor | None:
    """What `keep_features` wrote, or None if there is no whole file."""
    try:
        tensors = load_file(path)
        features = tensors["features"]
        return features if torch.equal(tensors["digest"], _digest(features)) else None
    except (OSError, SafetensorError, KeyError):
        return None


def _digest(features: Tensor) -> Tensor:
    content = features.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return torch.tensor(list(hashlib.blake2b(content, digest_size=16).digest()), dtype=torch.uint8)
