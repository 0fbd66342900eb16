"""A folder's images decoded once, into an array in the cache that is memory-mapped from then on.

An entry is KEY.npy, (n, size, size, C) uint8, one row for each readable file, and KEY.json,
{index of a broken file: what is wrong with it}.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from fewlabel.data.cache import cache_folder
from fewlabel.data.images import LARGEST_DEFAULT_SIZE, decode, short_side
from fewlabel.errors import UserError

__all__ = ["FORMAT_VERSION", "Broken", "Progress", "open_decoded"]

Progress = Callable[[int, int], None]
"""Called with the number of files that are done and their total."""

Broken = dict[int, str]
"""What is wrong with a file, by its index."""

FORMAT_VERSION = 1
"""Part of every key: raise it when the same files would decode to other pixels."""

_ROWS_AT_ONCE = 1024


def open_decoded(
    files: Sequence[Path], size: int | None, key: str, strict: bool, progress: Progress | None
) -> tuple[NDArray[np.uint8], Broken]:
    """The pixels of the readable files, in order, and what is wrong with the others.

    Args:
        files: the image files.
        size: side of the decoded images; None for the most frequent one, at most 64.
        key: names the entry in the cache; equal only for equal files and size.
        strict: raise if any file is broken, rather than leave it out.
        progress: called after each file that is decoded; never if the cache has the entry.
    """
    target = cache_folder() / f"{key}.npy"
    found = _load(target, len(files))
    if found is None:
        _make(files, size, target, strict, progress)
        found = _load(target, len(files))
        if found is None:
            raise UserError(f"the image cache {target} cannot be read back: remove it")
    _check_broken(files, found[1], strict)
    return found


def _load(target: Path, n_files: int) -> tuple[NDArray[np.uint8], Broken] | None:
    """The entry, or None if it is absent or does not fit."""
    try:
        images = np.load(target, mmap_mode="r")
        noted = json.loads(target.with_suffix(".json").read_text())
    except (OSError, EOFError, ValueError):
        return None
    broken = {int(row): reason for row, reason in noted.items()}
    return (images, broken) if len(images) + len(broken) == n_files else None


def _make(
    files: Sequence[Path],
    size: int | None,
    target: Path,
    strict: bool,
    progress: Progress | None,
) -> None:
    side = size or _most_frequent_side(files)
    with _scratch_folder(target.parent, 2 * len(files) * side * side * 3) as scratch:
        all_rows = Path(scratch) / "all.npy"
        pixels = open_memmap(all_rows, "w+", np.uint8, (len(files), side, side, 3))
        broken, channels = _decode_into(pixels, files, progress)
        _check_broken(files, broken, strict)
        if broken or channels == 1:
            kept = np.setdiff1d(np.arange(len(files)), list(broken))
            ready = Path(scratch) / "kept.npy"
            _copy(pixels, kept, channels, ready)
        else:
            pixels.flush()
            ready = all_rows
        notes = Path(scratch) / "broken.json"
        notes.write_text(json.dumps(broken))
        os.replace(notes, target.with_suffix(".json"))
        os.replace(ready, target)


def _most_frequent_side(files: Sequence[Path]) -> int:
    sides: Counter[int] = Counter()
    for path in files:
        try:
            sides[short_side(path)] += 1
        except Exception:  # a broken file: decoding will say so
            continue
    largest_first = sorted(sides.items(), reverse=True)
    side = max(largest_first, key=lambda item: item[1], default=(LARGEST_DEFAULT_SIZE, 0))[0]
    return min(side, LARGEST_DEFAULT_SIZE)


def _decode_into(
    pixels: NDArray[np.uint8], files: Sequence[Path], progress: Progress | None
) -> tuple[Broken, int]:
    """Fill the rows of pixels; returns the broken files and how many channels are needed."""

    def one(row: int) -> tuple[int, str]:
        try:
            decoded = decode(files[row], pixels.shape[1])
        except Exception as error:  # on bad bytes decoders raise anything
            return 0, _what_is_wrong(error, files[row])
        pixels[row] = decoded
        return decoded.shape[-1], ""

    broken: Broken = {}
    channels = 1
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for row, (n, wrong) in enumerate(pool.map(one, range(len(files)))):
            if wrong:
                broken[row] = wrong
            channels = max(channels, n)
            if progress is not None:
                progress(row + 1, len(files))
    finally:
        pool.shutdown(cancel_futures=True)
    return broken, channels


def _what_is_wrong(error: Exception, path: Path) -> str:
    """The fault of a file. A fault of the system, which may pass, is raised: never cached."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if path.stat().st_size else "an empty file"
    if isinstance(error, OSError) and error.errno is not None:
        raise UserError(
            f"{path} cannot be opened ({error.strerror}): make it readable or remove it"
        ) from error
    return " ".join(str(error).split()) or type(error).__name__


def _check_broken(files: Sequence[Path], broken: Broken, strict: bool) -> None:
    if not broken or (not strict and len(broken) < len(files)):
        return
    first = min(broken)
    raise UserError(
        f"broken image {files[first]} ({broken[first]}), {len(broken)} of {len(files)} images are "
        f"broken: remove or replace {'it' if len(broken) == 1 else 'them'}"
    )


def _copy(pixels: NDArray[np.uint8], rows: NDArray[np.int64], channels: int, path: Path) -> None:
    shape = (len(rows), *pixels.shape[1:3], channels)
    out = open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = rows[start : start + _ROWS_AT_ONCE]
        out[start : start + len(chosen)] = pixels[chosen, ..., :channels]
    out.flush()


def _scratch_folder(cache: Path, n_bytes: int) -> tempfile.TemporaryDirectory[str]:
    """A folder within the cache, so that its files can be renamed into place.

    It must have room: writing to a memory map on a full disk would kill the process.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if free < n_bytes:
            raise UserError(
                f"the image cache {cache} needs {n_bytes / 2**20:.0f} MB but has "
                f"{free / 2**20:.0f} MB: make room or set FEWLABEL_CACHE to another disk"
            )
        return tempfile.TemporaryDirectory(prefix="decoding-", dir=cache)
    except OSError as error:
        raise UserError(
            f"the image cache {cache} cannot be written ({error.strerror}): "
            "set FEWLABEL_CACHE to a folder that can"
        ) from error
