"""Where things that can be made again are kept."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """$FEWLABEL_CACHE, else $XDG_CACHE_HOME/fewlabel, else ~/.cache/fewlabel; may not exist."""
    if own := os.environ.get("FEWLABEL_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "fewlabel"
    return Path.home() / ".cache" / "fewlabel"
