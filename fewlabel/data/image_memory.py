"""The memory that decoding an image takes, from its header, and a share of it a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from fewlabel.limits import max_bytes

__all__ = ["Budget", "bits_of", "bytes_to_decode", "without_pillows_limit"]

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes a pixel in Pillow, of the modes that take fewer than four."""

_ROW_BY_ROW = ("PNG", "BMP", "DIB", "GIF", "JPEG", "MPO", "PPM")
"""Formats that are decoded without another copy."""

_ELSEWHERE = 12  # bytes a pixel that other decoders keep: two canvases and what they hand over
_BITS, _TILE_SIDES = 258, (322, 323)  # tags of TIFF


def bytes_to_decode(image: Image.Image, own_size: tuple[int, int]) -> int:
    """The memory that the pixels of an opened image take, and its central square beside them.

    Args:
        image: as it was opened, or made smaller by its `draft`.
        own_size: what it was opened as.
    """
    pixels, square = image.width * image.height, min(image.size) ** 2
    stored = _STORED.get(image.mode, 4)
    grey = image.mode in ("1", "L") or image.mode.startswith("I")
    total = pixels * stored + square * (1 if grey else 4)
    if isinstance(image, JpegImageFile):
        return total + (2 * own_size[0] * own_size[1] * image.layers if _keeps_all(image) else 0)
    if image.format == "TIFF":
        if image.info.get("compression") == "raw":
            return total
        tags: Any = getattr(image, "tag_v2", {})
        width, height = (tags.get(tag) or 0 for tag in _TILE_SIDES)
        return total + max(pixels, width * height) * sum(bits_of(image)) // 8
    return total + (0 if image.format in _ROW_BY_ROW else _ELSEWHERE * pixels)


def bits_of(image: Image.Image) -> tuple[int, ...]:
    """The bits of each sample of a TIFF."""
    tags: Any = getattr(image, "tag_v2", {})
    return tuple(tags.get(_BITS) or (1,))


def _keeps_all(image: JpegImageFile) -> bool:
    """Whether a JPEG comes in several scans: its coefficients are then all kept, at full size."""
    if image.info.get("progressive"):
        return True
    stream, length = image.fp, 6 + 2 * image.layers  # of a scan's head, which was just read
    if stream is None:
        return True
    place = stream.tell()
    stream.seek(max(0, place - length - 2))
    head = stream.read(length + 2)
    stream.seek(place)
    return not head.startswith(bytes([0xFF, 0xDA, 0, length, image.layers]))


class Budget:
    """Memory that threads share: one waits until the others left it enough."""

    def __init__(self) -> None:
        self._taken, self._changed = 0, threading.Condition()

    @contextmanager
    def taken(self, n_bytes: int) -> Iterator[None]:
        """Have so many bytes while the block runs; more than the limit only alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._fits(n_bytes))
            self._taken += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= n_bytes
                self._changed.notify_all()

    def _fits(self, n_bytes: int) -> bool:
        return self._taken + n_bytes <= max_bytes()


_lock = threading.Lock()
_users = 0
_before: int | None = None


@contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Set Pillow's own limit on pixels aside while the block runs, in however many threads.

    It warns in two raw lines from a size on, and refuses whole photographs from twice that on.
    """
    global _users, _before
    with _lock:
        if not _users:
            _before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                Image.MAX_IMAGE_PIXELS = _before
