"""How much memory a file may ask for: what it claims is checked before any is taken.

A few kilobytes can claim an image of many gigabytes, and a compressed file can unpack to them. The
limit is `FEWLABEL_MAX_MB` megabytes of 2²⁰ bytes, 512 by default.
"""

import os
from pathlib import Path

from fewlabel.errors import TrainingError, UserError

__all__ = [
    "ROW_BYTES",
    "VARIABLE",
    "check_claim",
    "max_bytes",
    "out_of_memory",
    "raise_it",
    "read_text",
]

VARIABLE = "FEWLABEL_MAX_MB"
"""The environment variable that sets the limit."""

ROW_BYTES = 160
"""What an example takes beside its values: its label, its hash and its place in the splits."""

_MEGABYTE = 2**20
_DEFAULT = 512
_USUAL_RATIO = 8  # images and vectors are compressed to an eighth of their size, not to less
_OF_TEXT = 8  # parsed, a text takes about so many times its size


def max_bytes() -> int:
    """The limit in bytes.

    Raises:
        UserError: if the environment variable is no positive whole number.
    """
    text = os.environ.get(VARIABLE) or str(_DEFAULT)
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text)):
        raise UserError(
            f"{VARIABLE}={text[:40]}: give a whole number of megabytes, such as {_DEFAULT}"
        )
    return int(text) * _MEGABYTE


def raise_it(n_bytes: int) -> str:
    """How many megabytes are needed, what the limit is, and how to raise it."""
    needed = -(-n_bytes // _MEGABYTE)
    return (
        f"{needed:,} MB of memory, limit {max_bytes() // _MEGABYTE:,} MB; if that is meant, set "
        f"{VARIABLE}={needed}"
    )


def check_claim(path: Path, what: str, n_bytes: int) -> None:
    """Refuse a file that claims more than the limit, and more than its own size makes likely.

    A large file on disk may unpack to a few times its size, whatever the limit is. Holes in a
    sparse file do not count as size.

    Args:
        path: the file.
        what: what takes the memory, for the message.
        n_bytes: how many bytes it claims.

    Raises:
        UserError: if it does.
    """
    if n_bytes > max_bytes() and n_bytes > _USUAL_RATIO * _on_disk(path):
        raise UserError(f"{path}: {what} would take {raise_it(n_bytes)}")


def out_of_memory(what: str) -> TrainingError:
    """The error for memory that the system did not give."""
    return TrainingError(
        f"not enough memory to read {what}: close other programs, or raise what the system allows "
        "this one (ulimit -v); if the file is small it may be damaged, remove it"
    )


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a small UTF-8 file.

    Raises:
        OSError: if it cannot be read.
        UnicodeDecodeError: if it is not UTF-8, with `errors` "strict".
        UserError: if it is too large to be one.
    """
    n_bytes = path.stat().st_size
    if n_bytes * _OF_TEXT > max_bytes():
        raise UserError(f"{path}: its text would take {raise_it(n_bytes * _OF_TEXT)}")
    return path.read_text(encoding="utf-8", errors=errors)


def _on_disk(path: Path) -> int:
    """The bytes that a file takes on its disk."""
    facts = path.stat()
    blocks = getattr(facts, "st_blocks", None)  # of 512 bytes; unknown on Windows
    return facts.st_size if blocks is None else min(facts.st_size, 512 * blocks)
