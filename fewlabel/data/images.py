"""Images → square uint8 pixels, whatever their format, mode, orientation and size."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fewlabel.errors import UserError

__all__ = [
    "KINDS",
    "LARGEST_DEFAULT_SIZE",
    "SUFFIXES",
    "check_size",
    "decode",
    "size_of",
    "squares",
]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
"""The files that are taken for images, by the lower-case end of their name."""

KINDS = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
"""The same for people."""

LARGEST_DEFAULT_SIZE = 64
"""The side of images for which no other was asked for, if their own is larger."""

_GREY_16_BIT = 2**16 - 1

_OVERSAMPLED = 4
"""A JPEG that is larger than this many times the size is read at a half, quarter or eighth of its
own: eight times as fast for a photograph of 12 megapixels, by a grey level or two the same."""


def decode(source: Path | BinaryIO, size: int) -> NDArray[np.uint8]:
    """The central square of an image, antialiased to size × size.

    Turned as its EXIF data say, transparency on white, 16-bit grey scaled to 8 bits.

    Returns:
        (size, size, 1) if its pixels are grey, in whatever mode they are stored; else
        (size, size, 3).
    """
    with Image.open(source) as opened:
        opened.draft(None, (_OVERSAMPLED * size, _OVERSAMPLED * size))
        image = _to_grey_or_rgb(ImageOps.exif_transpose(opened))
    pixels = np.asarray(_square(image, size))
    if pixels.ndim == 2:
        return pixels[..., None]
    is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., :1] if is_grey else pixels


def squares(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """The central squares of images in an array, antialiased to size × size.

    Args:
        images: (N, H, W, C) with C 1 or 3.
        size: the side; None for the images' shorter side, at most 64.

    Returns:
        (N, size, size, C); the array itself if it has that size already.

    Raises:
        UserError: for a size that is not positive.
    """
    check_size(size)
    n, height, width, channels = images.shape
    side = size or min(height, width, LARGEST_DEFAULT_SIZE)
    if (height, width) == (side, side):
        return images
    out = np.empty((n, side, side, channels), np.uint8)
    for row, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        out[row] = np.asarray(_square(image, side)).reshape(side, side, channels)
    return out


def check_size(size: int | None) -> None:
    """Raise unless a size is None or positive."""
    if size is not None and size < 1:
        raise UserError(f"image size {size} is not positive: give a number of pixels such as 32")


def size_of(source: Path | BinaryIO) -> tuple[int, int]:
    """Width and height of an image in pixels, from its header."""
    with Image.open(source) as image:
        return image.size


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS)


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
