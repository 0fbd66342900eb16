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
from typing import Literal

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image, UnidentifiedImageError

from fewlabel.errors import UserError
from fewlabel.files import replacing
from fewlabel.metrics.intervals import Estimate

__all__ = ["Column", "Comparison", "Figure", "Page", "Section", "write_page"]


@dataclass(frozen=True)
class Column:
    """A column of a comparison.

    Attributes:
        title: its heading, such as "intra-FID ↓".
        best: whether the largest or the smallest value is the best and is set in bold; None for
            a column that is not a contest.
        digits: a format such as ".2f" or ".1%" for values and the ends of intervals.
    """

    title: str
    best: Literal["largest", "smallest"] | None = None
    digits: str = ".3g"


@dataclass(frozen=True)
class Comparison:
    """A table that sets methods beside each other.

    Attributes:
        caption: what is compared, on how many samples, and what the intervals are.
        head: the heading of the first column, such as "method".
        columns: the other columns.
        rows: for each row's name one cell a column: an estimate, text, or None if there is none.
    """

    caption: str
    head: str
    columns: Sequence[Column]
    rows: Mapping[str, Sequence[Estimate | str | None]]


@dataclass(frozen=True)
class Figure:
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
    """

    title: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    figures: Sequence[Figure] = ()
    commands: Sequence[str] = ()


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


@dataclass(frozen=True)
class _Cell:
    """What a cell of a comparison shows."""

    value: str
    interval: str = ""
    best: bool = False


def _cells(comparison: Comparison) -> dict[str, list[_Cell]]:
    """The cells of each row, the best values of each column marked."""
    for name, row in comparison.rows.items():
        if len(row) != len(comparison.columns):
            raise UserError(
                f"row {name!r} has {len(row)} cells for {len(comparison.columns)} columns: "
                "give one a column"
            )
    best = [
        _best(column, [row[i] for row in comparison.rows.values()])
        for i, column in enumerate(comparison.columns)
    ]
    return {
        name: [_cell(*parts) for parts in zip(row, comparison.columns, best, strict=True)]
        for name, row in comparison.rows.items()
    }


def _best(column: Column, entries: Sequence[Estimate | str | None]) -> float | None:
    values = [entry.value for entry in entries if isinstance(entry, Estimate)]
    if column.best is None or len(values) < 2:
        return None
    return max(values) if column.best == "largest" else min(values)


def _cell(entry: Estimate | str | None, column: Column, best: float | None) -> _Cell:
    if not isinstance(entry, Estimate):
        return _Cell(entry or "–")
    value, low, high = (format(v, column.digits) for v in (entry.value, entry.low, entry.high))
    return _Cell(value, f"{low} to {high}", entry.value == best)


def _embedded(figure: Figure) -> dict[str, str | int]:
    """The attributes of the image's element: the file as base64, and its size."""
    path = Path(figure.image)
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            width, height = picture.size
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a PNG image: save the figure as PNG") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: draw the figure first") from error
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    return {"src": source, "width": width, "height": height, "alt": figure.alt}


@lru_cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(cells=_cells, embedded=_embedded)
    source = resources.files("fewlabel.report").joinpath("page.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8"))
