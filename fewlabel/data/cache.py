"""Where things that can be made again are kept."""

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fewlabel.errors import TrainingError, UserError
from fewlabel.files import replacing
from fewlabel.owners import sweep_once
from fewlabel.progress import tell

__all__ = ["cache_folder", "keep_features", "kept_features", "sweep_cache"]


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
    """Write features to a safetensors file of the cache, with the digest of their bytes.

    If it cannot be written a note says so: they can be made again.
    """
    sweep_cache()
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save({"features": features, "digest": _digest(features)}))
    except (UserError, TrainingError) as error:
        tell(f"note: features are not kept for the next time, {error} (FEWLABEL_CACHE names one)")


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
