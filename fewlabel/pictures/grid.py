"""Grids of images as PNG files.

Tiny images are enlarged smoothly (bicubic): people read an 8 × 8 digit that way, not as squares.
The PNG files of single images keep their pixels.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.files import replacing
from fewlabel.texts import brief

__all__ = ["class_grid", "image_grid", "image_of", "pairs_sheet", "save_images"]

SIDE = 48
"""About how many pixels a tiny image is enlarged to."""
GAP = 3
"""Pixels between images, and of the frame around them."""
BLOCK_GAP = 20
"""Pixels between methods."""
MARGIN = 12
LABEL_GAP = 10
"""Pixels between the names of the classes and the images."""
FONT, LARGEST_FONT = 15, 28
"""Text grows with the width of the grid, so that it can be read where the grid is shown small."""
LABEL_EMS, HEADING_EMS, TITLE_EMS = 12, 30, 60
"""The longest name of a class, heading of a method and title, in multiples of the font's size."""
INK, PAPER, FRAME = (34, 34, 34), (255, 255, 255), (58, 84, 130)
"""Of text, of the ground, and of what parts the images: neither black nor white, as they are."""

_KEY = "fewlabel"
"""Where the text of a PNG file tells what it is."""

Block = Mapping[str, Tensor]
"""The images (n, C, H, W) of each class by the class's name."""


def class_grid(
    columns: Mapping[str, Block],
    path: str | Path,
    title: str | None = None,
    note: str | None = None,
) -> Path:
    """Draw one row a class with the methods side by side.

    Args:
        columns: for each method's title, such as "real" or "cg, scale 2", the images of each
            class by its name: (n, C, H, W) in [−1, 1], C being 1 or 3, all of one size. A class
            that a method lacks is left blank.
        path: the PNG file to write.
        title: a line above the grid.
        note: a text that the file keeps under the key "fewlabel".

    Returns:
        The path that was written.

    Raises:
        UserError: no images, images of different sizes, NaN, or a file that cannot be written.
    """
    blocks = [_block_pictures(heading, block) for heading, block in columns.items()]
    names = list(dict.fromkeys(name for block in blocks for name in block))
    layout = _Layout.of([row for block in blocks for row in block.values()])
    wide = [max(map(len, block.values()), default=0) for block in blocks]
    font = _font(sum(map(layout.width, wide)))
    labels = [_shortened(name, font, LABEL_EMS) for name in names]
    headings = [_shortened(heading, font, HEADING_EMS) for heading in columns]
    left = MARGIN + math.ceil(max(font.getlength(label) for label in labels)) + LABEL_GAP
    top = MARGIN + _line_height(font) * (2 if title else 1)
    widths = [
        max(layout.width(n), math.ceil(font.getlength(heading)))
        for n, heading in zip(wide, headings, strict=True)
    ]
    right = left + sum(widths) + BLOCK_GAP * (len(widths) - 1)
    canvas, draw = _canvas(right, top + layout.height(len(names)), title, font)
    rows = [layout.row(top, i) for i in range(len(names))]
    for label, y in zip(labels, rows, strict=True):
        draw.text((left - LABEL_GAP, y + layout.cell[1] // 2), label, INK, font, anchor="rm")
    for heading, block, width in zip(headings, blocks, widths, strict=True):
        draw.text((left, top - GAP - 3), heading, INK, font, anchor="ld")
        for name, y in zip(names, rows, strict=True):
            layout.paste(canvas, block.get(name, []), left, y)
        left += width + BLOCK_GAP
    return _write(canvas, path, note)


def image_grid(
    images: Tensor,
    path: str | Path,
    title: str | None = None,
    per_row: int | None = None,
    note: str | None = None,
) -> Path:
    """Draw images in rows.

    Args:
        images: (n, C, H, W) in [−1, 1], C being 1 or 3.
        path: the PNG file to write.
        title: a line above the grid.
        per_row: how many images a row holds; by default about as many as there are rows.
        note: a text that the file keeps under the key "fewlabel".

    Returns:
        The path that was written.

    Raises:
        UserError: no images, NaN, or a file that cannot be written.
    """
    pictures = _pictures(images, "images")
    layout = _Layout.of([pictures])
    per_row = min(per_row or math.ceil(math.sqrt(len(pictures))), len(pictures))
    rows = [pictures[i : i + per_row] for i in range(0, len(pictures), per_row)]
    font = _font(layout.width(per_row))
    top = MARGIN + (_line_height(font) if title else 0)
    right, bottom = MARGIN + layout.width(per_row), top + layout.height(len(rows))
    canvas, _ = _canvas(right, bottom, title, font)
    for i, row in enumerate(rows):
        layout.paste(canvas, row, MARGIN, layout.row(top, i))
    return _write(canvas, path, note)


def pairs_sheet(
    generated: Tensor,
    nearest: Tensor,
    distances: Tensor,
    path: str | Path,
    title: str | None = None,
    per_row: int = 8,
) -> Path:
    """Draw each generated image above its nearest training image, the closest pairs first.

    Args:
        generated: (n, C, H, W) in [−1, 1], C being 1 or 3.
        nearest: the training image nearest to each, of the same shape.
        distances: (n,), written below each pair.
        path: the PNG file to write.
        title: a line above the pairs.
        per_row: how many pairs a row holds.

    Returns:
        The path that was written.

    Raises:
        UserError: no images, as many of one as not of the other, NaN, or a file that cannot be
            written.
    """
    if nearest.shape != generated.shape or distances.shape != generated.shape[:1]:
        shapes = f"{tuple(generated.shape)}, {tuple(nearest.shape)}, {tuple(distances.shape)}"
        raise UserError(f"images and distances of shapes {shapes} are no pairs: give n of each")
    order = distances.argsort()
    pictures = _pictures(generated[order], "generated"), _pictures(nearest[order], "nearest")
    texts = [f"{distance:#.3g}" for distance in distances[order].tolist()]
    layout, per_row = _Layout.of(pictures), min(per_row, len(texts))
    font, names = _font(layout.width(per_row)), ("generated", "nearest", "distance")
    step = max(layout.cell[0] + 2 * GAP, *(math.ceil(font.getlength(t)) for t in texts)) + GAP
    left = MARGIN + math.ceil(max(map(font.getlength, names))) + LABEL_GAP
    height = layout.height(2) + 2 * _line_height(font)
    top = MARGIN + (_line_height(font) if title else 0)
    bottom = top + height * math.ceil(len(texts) / per_row)
    canvas, draw = _canvas(left + step * per_row, bottom, title, font)
    for i, text in enumerate(texts):
        x, y = left + step * (i % per_row), top + height * (i // per_row)
        places = [layout.row(y, 0), layout.row(y, 1), y + layout.height(2) + 2 * GAP]
        for row, place in zip(pictures, places, strict=False):
            layout.paste(canvas, [row[i]], x, place)
        draw.text((x + layout.cell[0] / 2, places[2]), text, INK, font, anchor="ma")
        if i % per_row == 0:
            middle = [place + layout.cell[1] // 2 for place in places[:2]]
            for name, at in zip(names, [*middle, places[2]], strict=True):
                anchor = "ra" if name == "distance" else "rm"
                draw.text((left - LABEL_GAP, at), name, INK, font, anchor=anchor)
    return _write(canvas, path)


def save_images(images: Tensor, paths: Sequence[Path], notes: Sequence[str] | None = None) -> None:
    """Write each image at its own size.

    Args:
        images: (n, C, H, W) in [−1, 1], C being 1 or 3; −1 becomes 0 and 1 becomes 255.
        paths: a PNG file for each; their folder is made if it is not there.
        notes: a text for each, which the file keeps under the key "fewlabel".

    Raises:
        UserError: no images, NaN, or a file that cannot be written.
    """
    told = [None] * len(paths) if notes is None else notes
    for picture, path, note in zip(_pictures(images, "images"), paths, told, strict=True):
        _write(picture, path, note)


def image_of(path: Path, note: str) -> NDArray[np.uint8] | None:
    """The pixels (H, W, C) of a file that `save_images` wrote.

    Args:
        path: a PNG file.
        note: the text that it should keep.

    Returns:
        None if the file is not there, is not whole, or keeps another text: if it is not byte for
        byte what would be written.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    except Exception:  # of a damaged file the decoder may raise anything
        return None
    again = io.BytesIO()
    _save(Image.fromarray(pixels), again, note)
    return pixels.reshape(*pixels.shape[:2], -1) if again.getvalue() == data else None


@dataclass(frozen=True)
class _Layout:
    """How large images of one size are drawn; `cell` is (width, height) in pixels."""

    cell: tuple[int, int]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Image.Image]]) -> "_Layout":
        sizes = sorted({picture.size for row in rows for picture in row})
        if len(sizes) != 1:
            found = " and ".join(f"{w}×{h}" for w, h in sizes) or "no images"
            raise UserError(f"a grid needs images of one size and got {found}: resize them first")
        width, height = sizes[0]
        zoom = max(1, round(SIDE / max(width, height)))
        return cls((width * zoom, height * zoom))

    def width(self, n: int) -> int:
        return n * (self.cell[0] + GAP) - GAP

    def height(self, n: int) -> int:
        return n * (self.cell[1] + GAP) - GAP

    def row(self, top: int, i: int) -> int:
        return top + i * (self.cell[1] + GAP)

    def paste(
        self, canvas: Image.Image, pictures: Sequence[Image.Image], left: int, top: int
    ) -> None:
        """Draw a row of pictures in their frame."""
        if pictures:
            size = self.width(len(pictures)) + 2 * GAP, self.cell[1] + 2 * GAP
            canvas.paste(FRAME, (left - GAP, top - GAP, left - GAP + size[0], top - GAP + size[1]))
        for picture in pictures:
            canvas.paste(picture.resize(self.cell, Image.Resampling.BICUBIC), (left, top))
            left += self.cell[0] + GAP


def _block_pictures(heading: str, block: Block) -> dict[str, list[Image.Image]]:
    return {name: _pictures(x, f"{heading}, class {name}") for name, x in block.items()}


def _pictures(images: Tensor, name: str) -> list[Image.Image]:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise UserError(
            f"{name}: shape {tuple(images.shape)}: give (n, C, H, W) with n ≥ 1 and C 1 or 3"
        )
    if images.isnan().any():
        raise UserError(f"{name}: pixels are NaN: check the sampler's scale and steps")
    levels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round()
    arrays = levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a) for a in arrays]


def _font(width: int) -> ImageFont.FreeTypeFont:
    """The font for a grid whose images are `width` pixels wide together."""
    import matplotlib  # for its font, which has more letters than Pillow's own

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(file, min(max(FONT, width // 48), LARGEST_FONT))


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    """The height of a line of text with the space below it."""
    return sum(font.getmetrics()) + 8


def _shortened(text: str, font: ImageFont.FreeTypeFont, ems: float) -> str:
    """A text of a user as a picture can show it, no wider than so many times the font's size."""
    text = whole = brief(text, round(4 * ems))  # narrow letters are wider than a quarter
    while font.getlength(text) > ems * font.size:
        whole = whole[:-1]
        text = whole + "…"
    return text


def _canvas(
    right: int, bottom: int, title: str | None, font: ImageFont.FreeTypeFont
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A canvas with the title on it and a margin beyond `right`, `bottom` and the title."""
    if title:
        title = _shortened(title, font, TITLE_EMS)
        right = max(right, MARGIN + math.ceil(font.getlength(title)))
    canvas = Image.new("RGB", (right + MARGIN, bottom + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN), title, INK, font)
    return canvas, draw


def _write(picture: Image.Image, path: str | Path, note: str | None = None) -> Path:
    with replacing(path) as temporary:
        _save(picture, temporary, note)
    return Path(path)


def _save(picture: Image.Image, target: Path | io.BytesIO, note: str | None) -> None:
    kept = PngInfo()
    if note is not None:
        kept.add_text(_KEY, note)
    picture.save(target, format="PNG", pnginfo=kept)
