"""What terminals and logs are given: nothing that controls them, and only letters they have."""

import codecs
import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO, cast

from fewlabel.errors import TrainingError

__all__ = ["outlets"]

_PLAIN = {
    "×": "x",
    "÷": "/",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "→": "->",
    "←": "<-",
    "↑": "^",
    "↓": "v",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "·": "*",
    "⁻": "-",
    "√": "sqrt",
    "∇": "grad",
}
"""How signs of our own texts are written where they are lacking."""

_GREEK = "GREEK SMALL LETTER "
_POWER = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")


@contextlib.contextmanager
def outlets() -> Iterator[None]:
    """While the block runs, no output of this program fails for its letters or its readers.

    Letters that the encoding of standard output or standard error lacks are replaced. If nobody
    reads any more (`| head`), output is dropped in silence. A standard output that cannot be
    written for another reason, such as a full disk, raises a `TrainingError`; a standard error
    is given up.
    """
    out, err = _opened("stdout"), _opened("stderr")
    with (
        contextlib.redirect_stdout(cast(TextIO, _Outlet(out, "standard output"))) as outlet,
        contextlib.redirect_stderr(cast(TextIO, _Outlet(err, ""))),
    ):
        try:
            yield
        finally:
            with contextlib.suppress(TrainingError):
                outlet.flush()


class _Outlet:
    """A stream that text can be written to, whatever its letters and whoever reads.

    Args:
        stream: where the text goes.
        name: what to call it in an error; empty if errors are dropped.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # writers that found it would go round this class
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._reached():
            self._stream.write(_with_letters_of(self._stream.encoding or "utf-8", text))
        return len(text)

    def flush(self) -> None:
        with self._reached():
            self._stream.flush()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._give_up()
            if self._name and not isinstance(error, BrokenPipeError):
                reason = error.strerror or str(error)
                raise TrainingError(
                    f"cannot write to {self._name}: {reason}: files that were made before are "
                    "whole; send the output elsewhere"
                ) from None

    def _give_up(self) -> None:
        """Send what is written from now on, and what is still in a buffer, to nowhere."""
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def _opened(name: str) -> TextIO:
    """A standard stream; one that was closed before the program began leads nowhere."""
    return getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")


def _with_letters_of(encoding: str, text: str) -> str:
    if text.isascii():
        return text
    return text.encode(encoding, "fewlabel.plain").decode(encoding)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for letters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = _POWER.sub(r"^\g<0>", error.object[error.start : error.end])
    return "".join(map(_plain, letters)), error.end


def _plain(letter: str) -> str:
    r"""A letter in ASCII: "sigma" for σ, "e" for é, and a number, as ``\u65e5``, for others."""
    if letter.isascii():
        return letter
    if letter in _PLAIN:
        return _PLAIN[letter]
    name = unicodedata.name(letter, "")
    if name.startswith(_GREEK):
        return name.removeprefix(_GREEK).lower()
    parts = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    return (
        parts if parts.isprintable() and parts else letter.encode("unicode_escape").decode("ascii")
    )


codecs.register_error("fewlabel.plain", _replaced)
