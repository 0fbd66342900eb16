"""One image file → square uint8 pixels, whatever its format, mode and orientation."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["SUFFIXES", "decode", "short_side"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
"""The files that are taken for images, by the lower-case end of their name."""

_GREY_16_BIT = 2**16 - 1


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """The central square of an image, antialiased to size × size.

    Turned as its EXIF data say, transparency on white, 16-bit grey scaled to 8 bits.

    Returns:
        (size, size, 1) if its pixels are grey, in whatever mode they are stored; else
        (size, size, 3).
    """
    with Image.open(path) as opened:
        image = _to_grey_or_rgb(ImageOps.exif_transpose(opened))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    if pixels.ndim == 2:
        return pixels[..., None]
    is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., :1] if is_grey else pixels


def short_side(path: Path) -> int:
    """The shorter side of an image in pixels, from its header."""
    with Image.open(path) as image:
        return min(image.size)


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode.startswith("I"):  # "I", "I;16", "I;16B"
        return _from_16_bit(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > _GREY_16_BIT:
        raise ValueError("its pixels do not fit in 16 bits")
    return Image.fromarray(np.round(levels * 255 / _GREY_16_BIT).astype(np.uint8))
