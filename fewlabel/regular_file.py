"""Files that a user names must be regular ones: reading a pipe or a device may never end."""

import os
import stat
from pathlib import Path

from fewlabel.errors import UserError

__all__ = ["regular"]

_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: Path) -> Path:
    """The path itself, if it can be opened without waiting for others.

    What is missing or a folder passes: opening it fails at once, and says why.

    Args:
        path: a file that is about to be opened for reading.

    Raises:
        UserError: for a pipe (FIFO), a socket or a device.
    """
    try:
        kind = _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return path
    if kind is None:
        return path
    raise UserError(
        f"{path} is {kind}, not a regular file: write its content to a file, give that"
    )
