"""Images → square uint8 pixels, whatever their format, mode, orientation and size."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fewlabel.data.image_memory import (
    Budget,
    bits_of,
    bytes_to_decode,
    without_pillows_limit,
)
from fewlabel.errors import UserError
from fewlabel.files import printable
from fewlabel.limits import max_bytes, raise_it

__all__ = [
    "KINDS",
    "LARGEST_DEFAULT_SIZE",
    "SUFFIXES",
    "TooLarge",
    "check_size",
    "darkness_note",
    "decode",
    "is_too_large",
    "size_of",
    "squares",
    "too_large_note",
]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
"""The files that are taken for images, by the lower-case end of their name."""

KINDS = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
"""The same for people."""

LARGEST_DEFAULT_SIZE = 64
"""The side of images for which no other was asked for, if their own is larger."""

_OVERSAMPLED = 4
"""A JPEG that is larger than this many times the size is read at a half, quarter or eighth of its
own: eight times as fast for a photograph of 12 megapixels, by a grey level or two the same."""

_LARGEST_SIZE = 4096
_TOO_LARGE = "too large"
_DARK = 32  # of 255
_STRIP_PIXELS = 2**20
_16_BIT_IN_32 = ("PNG", "PPM")  # formats of which Pillow keeps 16 bits in 32, and scales others

_BUDGET = Budget()

_TURN = Image.Transpose
_TURNS = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}
"""How to turn an image of each EXIF orientation upright."""


class TooLarge(ValueError):
    """An image whose header claims more memory than the limit."""


def decode(source: Path | BinaryIO, size: int) -> NDArray[np.uint8]:
    """The central square of an image, antialiased to size × size.

    Turned as its EXIF data say, transparency on white, 16-bit grey scaled to 8 bits. The memory
    that its header claims is checked before pixels are read, see `fewlabel.limits`. Threads share
    that limit, and wait for each other where it is reached.

    Returns:
        (size, size, 1) if its pixels are grey, in whatever mode they are stored; else
        (size, size, 3).

    Raises:
        TooLarge: if it claims more.
        ValueError: if the range of its values is unknown.
    """
    with without_pillows_limit(), Image.open(source) as opened:
        own = opened.size
        opened.draft(None, (_OVERSAMPLED * size, _OVERSAMPLED * size))
        claimed = bytes_to_decode(opened, own)
        if claimed > max_bytes():
            by = f"{own[0]:,}×{own[1]:,}"
            raise TooLarge(f"{_TOO_LARGE}: {by} pixels would take {raise_it(claimed)}")
        maximum = _maximum(opened)
        with _BUDGET.taken(claimed):
            image = _square(_central(opened, maximum), size)
            image = _turned(image, opened.getexif().get(ExifTags.Base.Orientation))
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[..., None]
    is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., :1] if is_grey else pixels


def darkness_note(brightest: int) -> str | None:
    """What people should know of images whose brightest level, of 255, is tiny; else None."""
    if brightest >= _DARK:
        return None
    return (
        f"the brightest pixel of all images is {brightest} of 255: if their values fill a part of "
        "the range alone (12 of 16 bits, or 0 to 1), scale them to all of it"
    )


def is_too_large(reason: str) -> bool:
    """Whether this reason, for which a file was left out, is that of `TooLarge`."""
    return reason.startswith(_TOO_LARGE)


def too_large_note(reasons: Mapping[str, str]) -> str | None:
    """What people should know of images that were left out as too large; None if none were.

    Args:
        reasons: why each file was left out, by its name.
    """
    large = {name: reason for name, reason in reasons.items() if is_too_large(reason)}
    if not large:
        return None
    name, reason = next(iter(large.items()))
    more = f" (and so are {len(large) - 1} more)" if len(large) > 1 else ""
    return f"{printable(name)} is left out, {reason}{more}"


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
    """Raise unless a size is None, or positive and of a sensible number of pixels."""
    if size is not None and size < 1:
        raise UserError(f"image size {size} is not positive: give a number of pixels such as 32")
    if size is not None and size > _LARGEST_SIZE:
        raise UserError(f"image size {size} is above {_LARGEST_SIZE}: give one such as 32")


def size_of(source: Path | BinaryIO) -> tuple[int, int]:
    """Width and height of an image in pixels, from its header."""
    with without_pillows_limit(), Image.open(source) as image:
        return image.size


def _square(image: Image.Image, size: int) -> Image.Image:
    square = image if image.width == image.height else image.crop(_centre(image))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def _centre(image: Image.Image) -> tuple[int, int, int, int]:
    """The box of the central square."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _central(image: Image.Image, maximum: int) -> Image.Image:
    """The central square in grey or RGB, converted in strips: a copy of all would be large."""
    left, top, right, bottom = _centre(image)
    side = right - left
    rows = max(1, _STRIP_PIXELS // side)
    whole: Image.Image | None = None
    for begin in range(top, bottom, rows):
        end = min(begin + rows, bottom)
        strip = _to_grey_or_rgb(image.crop((left, begin, right, end)), maximum)
        if strip.height == side:
            return strip
        whole = whole or Image.new(strip.mode, (side, side))
        whole.paste(strip, (0, begin - top))
    if whole is None:
        raise ValueError("it has no pixels")
    return whole


def _maximum(image: Image.Image) -> int:
    """The largest level that the pixels of an image may have, from its header.

    Raises:
        ValueError: if the header does not tell.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers: convert it to 8 or 16 bits")
    if not image.mode.startswith("I"):
        return 255
    if image.mode == "I" and image.format not in _16_BIT_IN_32:
        raise ValueError(
            "its pixels are 32-bit numbers of unknown range: convert it to 8 or 16 bits"
        )
    return 2 ** min(bits_of(image)) - 1 if image.format == "TIFF" else 2**16 - 1


def _to_grey_or_rgb(image: Image.Image, maximum: int) -> Image.Image:
    if image.mode.startswith("I"):  # "I", "I;16", "I;16B"
        levels = np.asarray(image).astype(np.float32)
        return Image.fromarray(np.round(levels * (255 / maximum)).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _turned(image: Image.Image, orientation: int | None) -> Image.Image:
    turn = _TURNS.get(orientation or 1)
    return image if turn is None else image.transpose(turn)
