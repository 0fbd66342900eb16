"""Texts of users, such as names of classes and files, as they can be shown."""

import re

__all__ = ["brief", "markdown", "shown"]

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, ends of lines, what turns the direction of writing, and half characters."""

_MARKUP = re.compile(r"[\\`*_\[\]|~$]")
_OF_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def shown(text: str) -> str:
    r"""The text with what cannot be seen, or changes what is around it, as escapes such as `\x1b`.

    Letters of every language stay as they are.
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def brief(text: str, most: int = 40) -> str:
    """The text as `shown` has it, with `…` for the middle of a long one.

    Args:
        text: any text.
        most: the largest number of characters, at least 2.
    """
    whole = shown(text)
    if len(whole) <= most:
        return whole
    ending = most // 3
    return f"{whole[: most - 1 - ending]}…{whole[len(whole) - ending :]}"


def markdown(text: str) -> str:
    """The text as Markdown that shows it literally: no markup, no HTML, one line."""
    line = shown(" ".join(text.split()))
    return _MARKUP.sub(r"\\\g<0>", line).translate(_OF_HTML)
