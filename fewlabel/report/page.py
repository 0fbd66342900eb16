"""One HTML page that holds everything: styles and images are inside the file.

The page has no scripts and asks nothing of a network. It is laid out for phones, wide screens,
dark mode and print by `page.html.jinja`.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from fewlabel.errors import UserError
from fewlabel.files import replacing
from fewlabel.report.table import TIED, Comparison, groups, notes
from fewlabel.texts import shown

__all__ = ["Page", "Picture", "Section", "write_page"]

_DPI = 125


@dataclass(frozen=True)
class Picture:
    """A PNG image.

    Attributes:
        image: the file.
        caption: a line below the image.
        alt: what the image shows, for those who do not see it.
    """

    image: str | Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the page; what is left out is not shown, the rest comes in this order.

    Attributes:
        title: the heading.
        text: a paragraph.
        facts: keys and values, such as what was trained on what.
        comparison: a table of methods.
        figures: images.
        commands: shell commands to repeat what is shown.
        notes: lines in small print, such as what weakens the figures.
    """

    title: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    figures: Sequence[Picture] = ()
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """The contents of a page.

    Attributes:
        title: the heading and the name of the page.
        lead: the paragraph below it: what was done and what came out.
        sections: the parts, in order.
    """

    title: str
    lead: str
    sections: Sequence[Section]


def write_page(path: str | Path, page: Page) -> Path:
    """Write a page as one HTML file that needs no other.

    Args:
        path: the file to write.
        page: the contents; every text is escaped.

    Returns:
        The path that was written.

    Raises:
        UserError: an image that is missing or no PNG, a row that does not fit the columns of its
            table, or a file that cannot be written.
    """
    html = _template().render(page=page)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _embedded(figure: Picture) -> dict[str, str | int]:
    """The attributes of the image's element: the file as base64, and its size.

    A picture that tells its dots per inch, as plots do, is shown at 125, be it drawn finer.
    """
    path = Path(figure.image)
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            fine = max(1, picture.info.get("dpi", (_DPI, _DPI))[0] / _DPI)
            width, height = (round(side / fine) for side in picture.size)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a PNG image: save the figure as PNG") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: draw the figure first") from error
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return {"src": source, "width": width, "height": height, "alt": figure.alt}


def _unbroken(heading: str) -> str:
    """A heading that may break at spaces alone, and not before its arrow."""
    return heading.replace("-", "\u2011").replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")


def _visible(value: object) -> object:
    """What is put into the page, with the control characters of texts as escapes."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(shown, value.split("\n")))  # commands may have several lines


@lru_cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(groups=groups, notes=notes)
    environment.filters.update(embedded=_embedded, unbroken=_unbroken)
    environment.globals.update(tied=TIED)
    source = resources.files("fewlabel.report").joinpath("page.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8"))
