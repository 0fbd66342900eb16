"""What every figure of matplotlib shares: how texts of users enter it, and how it is written."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabel.files import replacing
from fewlabel.texts import brief

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["boxes_for_missing_letters", "plot_text", "save_figure"]

_NO_WIDTH = "\u200b"


def plot_text(text: str, most: int = 40) -> str:
    r"""A text of a user, such as the name of a class, as a figure shows it literally.

    matplotlib sets text between two `$` as a formula. It leaves names that begin with `_` out of
    legends. Every text that is not the package's own passes here before it is drawn.

    Args:
        text: any text.
        most: the largest number of characters; of a longer text the middle becomes `…`.
    """
    plain = brief(text, most).replace("$", r"\$")
    return _NO_WIDTH + plain if plain.startswith("_") else plain


@contextlib.contextmanager
def boxes_for_missing_letters() -> Iterator[None]:
    """Let matplotlib draw boxes for letters that its font lacks, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def save_figure(figure: "Figure", path: Path, dpi: int, note: str | None = None) -> Path:
    """Write a figure; the suffix is the format. Letters that the font lacks become boxes.

    Args:
        figure: what was drawn.
        path: the file to write.
        dpi: dots per inch.
        note: a text that a PNG file keeps under the key "fewlabel".

    Returns:
        The path that was written.

    Raises:
        UserError: if the file cannot be written.
    """
    told: dict[str, Any] = {} if note is None else {"metadata": {"fewlabel": note}}
    with replacing(path) as temporary, boxes_for_missing_letters():
        figure.savefig(temporary, dpi=dpi, facecolor="white", **told)
    return path
