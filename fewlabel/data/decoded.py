"""Image files decoded once, into an array in the cache that is memory-mapped from then on.

An entry is KEY.npy, (n, size, size, C) uint8, one row for each readable file, and KEY.json,
{"broken": {index of a file: what is wrong with it}, "sizes": {"WIDTH×HEIGHT": how many files}}.
Neither the files nor the array are ever held in memory as a whole.
"""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from fewlabel.data.cache import cache_folder, keep_facts, kept_facts
from fewlabel.data.dataset import fingerprint_of
from fewlabel.data.images import LARGEST_DEFAULT_SIZE, decode, size_of
from fewlabel.errors import UserError

__all__ = ["Decoded", "Files", "Progress", "open_decoded"]

Progress = Callable[[int, int], None]
"""Called with the number of files that are done and their total."""


@dataclass(frozen=True)
class Decoded:
    """Image files as pixels.

    Attributes:
        images: (n, size, size, C) uint8, memory-mapped: the readable files, in order.
        broken: what is wrong with each of the others, by its index.
        sizes: how many readable files there are of each size, as "640×480".
    """

    images: NDArray[np.uint8]
    broken: dict[int, str]
    sizes: dict[str, int]


_FORMAT = 3  # raise it when the same files would decode to other pixels
_ROWS_AT_ONCE = 256
_DAY = 24 * 3600
_SIZES = 200  # as many different ones are counted, so that they do not fill the memory

_OfFile = tuple[NDArray[np.uint8], tuple[int, int]] | str


class Files(Protocol):
    """Image files that are opened one at a time."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, row: int) -> str:
        """What to call one of them to people."""

    def open(self, row: int) -> BinaryIO:
        """Its bytes."""


def open_decoded(
    files: Files,
    size: int | None,
    facts: Sequence[object],
    strict: bool,
    progress: Progress | None,
) -> Decoded:
    """The pixels of the readable files, and what is wrong with the others.

    Args:
        files: the image files.
        size: side of the decoded images; None for the most frequent one, at most 64.
        facts: what JSON can hold, equal only for equal files; with the side they name the entry.
        strict: raise if any file is broken, rather than leave it out.
        progress: called after each file that is decoded; never if the cache has the entry.

    Raises:
        UserError: if no file can be read, or with `strict` any cannot; for a damaged cache.
    """
    own_side = cache_folder() / f"{fingerprint_of(_FORMAT, 'side', *facts)}.json"
    side = size or _kept_side(own_side) or _most_frequent_side(files)
    target = cache_folder() / f"{fingerprint_of(_FORMAT, side, *facts)}.npy"
    found = _load(target, len(files))
    if found is None:
        _make(files, side, target, strict, progress)
        found = _load(target, len(files))
        if found is None:
            raise UserError(f"the image cache {target} cannot be read back: remove it")
    _check_broken(files, found.broken, strict)
    if size is None and _kept_side(own_side) is None:
        keep_facts(own_side, {"side": side})
    return found


def _kept_side(entry: Path) -> int | None:
    """The most frequent side, as it was found before."""
    facts = kept_facts(entry)
    return None if facts is None else int(facts["side"])


def _load(target: Path, n_files: int) -> Decoded | None:
    """The entry, or None if it is absent or does not fit."""
    try:
        images = np.load(target, mmap_mode="r")
        noted = json.loads(target.with_suffix(".json").read_text())
        broken = {int(row): reason for row, reason in noted["broken"].items()}
        found = Decoded(images, broken, noted["sizes"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if len(images) + len(broken) == n_files else None


def _make(files: Files, side: int, target: Path, strict: bool, progress: Progress | None) -> None:
    with _scratch_folder(target.parent, 2 * len(files) * side * side * 3) as folder:
        scratch = Path(folder)
        try:
            facts = _decode_into(scratch / "rgb", files, side, progress)
            _check_broken(files, facts.broken, strict)
            shape = (len(files) - len(facts.broken), side, side, facts.channels)
            _write_array(scratch / "ready.npy", scratch / "rgb", shape)
            noted = {"broken": facts.broken, "sizes": facts.sizes}
            (scratch / "facts.json").write_text(json.dumps(noted))
            os.replace(scratch / "facts.json", target.with_suffix(".json"))
            os.replace(scratch / "ready.npy", target)
        except OSError as error:
            raise _unwritable(target.parent, error) from error


def _most_frequent_side(files: Files) -> int:
    sides: Counter[int] = Counter()
    for row in range(len(files)):
        try:
            with files.open(row) as stream:
                sides[min(size_of(stream))] += 1
        except Exception:  # a broken file: decoding will say so
            continue
    largest_first = sorted(sides.items(), reverse=True)
    side = max(largest_first, key=lambda item: item[1], default=(LARGEST_DEFAULT_SIZE, 0))[0]
    return min(side, LARGEST_DEFAULT_SIZE)


@dataclass
class _Facts:
    """What becomes known of files while they are decoded."""

    broken: dict[int, str] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    channels: int = 1

    def add(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> None:
        self.channels = max(self.channels, pixels.shape[-1])
        text = f"{size[0]}×{size[1]}"
        is_new = text not in self.sizes
        self.sizes["others" if is_new and len(self.sizes) >= _SIZES else text] += 1


def _decode_into(path: Path, files: Files, side: int, progress: Progress | None) -> _Facts:
    """Write readable images as RGB.

    Threads do it side by side: Pillow decodes and resizes without Python's lock.
    """
    facts = _Facts()
    pixels = np.empty((side, side, 3), np.uint8)
    with path.open("wb") as stream:
        for row, found in enumerate(_decoded(files, side)):
            if isinstance(found, str):
                facts.broken[row] = found
            else:
                facts.add(*found)
                pixels[:] = found[0]
                stream.write(pixels.data)
            if progress is not None:
                progress(row + 1, len(files))
    return facts


def _decoded(files: Files, side: int) -> Iterator[_OfFile]:
    """The pixels and the size of each file, or what is wrong with it, a few files ahead."""

    def one(row: int) -> _OfFile:
        with _opened(files, row) as stream:
            try:
                size = size_of(stream)
                stream.seek(0)
                return decode(stream, side), size
            except Exception as error:  # on bad bytes decoders raise anything
                return _what_is_wrong(error, stream, files.name(row))

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(files), _ROWS_AT_ONCE):
            yield from pool.map(one, range(start, min(start + _ROWS_AT_ONCE, len(files))))
    finally:
        pool.shutdown(cancel_futures=True)


def _opened(files: Files, row: int) -> BinaryIO:
    try:
        return files.open(row)
    except OSError as error:
        raise _unreadable(files.name(row), error) from error


def _what_is_wrong(error: Exception, stream: BinaryIO, name: str) -> str:
    """The fault of a file. A fault of the system, which may pass, is raised: never cached."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if stream.seek(0, os.SEEK_END) else "an empty file"
    if isinstance(error, OSError) and error.errno is not None:
        raise _unreadable(name, error) from error
    return " ".join(str(error).split()) or type(error).__name__


def _unreadable(name: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"{name} cannot be opened ({reason}): make it readable or remove it")


def _check_broken(files: Files, broken: dict[int, str], strict: bool) -> None:
    if not broken or (not strict and len(broken) < len(files)):
        return
    first = min(broken)
    them = "it" if len(broken) == 1 else "them"
    skip = ", or leave --strict out to skip " + them if len(broken) < len(files) else ""
    raise UserError(
        f"broken image {files.name(first)} ({broken[first]}), {len(broken)} of {len(files)} "
        f"images are broken: remove or replace {them}{skip}"
    )


def _write_array(path: Path, rgb: Path, shape: tuple[int, int, int, int]) -> None:
    """An .npy file of the first channels of RGB pixels."""
    row_bytes = shape[1] * shape[2] * 3
    with path.open("wb") as out, rgb.open("rb") as source:
        facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
        write_array_header_1_0(out, facts)
        while content := source.read(_ROWS_AT_ONCE * row_bytes):
            pixels = np.frombuffer(content, np.uint8).reshape(-1, 3)
            out.write(np.ascontiguousarray(pixels[:, : shape[-1]]).data)
        out.flush()
        os.fsync(out.fileno())


def _scratch_folder(cache: Path, n_bytes: int) -> tempfile.TemporaryDirectory[str]:
    """A folder within the cache, so that its files can be renamed into place.

    It must have room: better to say so before the work than at its end.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for left in cache.glob("decoding-*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        free = shutil.disk_usage(cache).free
        if free < n_bytes:
            raise UserError(
                f"the image cache {cache} needs {n_bytes / 2**20:.0f} MB but has "
                f"{free / 2**20:.0f} MB: make room or set FEWLABEL_CACHE to another disk"
            )
        return tempfile.TemporaryDirectory(prefix="decoding-", dir=cache)
    except OSError as error:
        raise _unwritable(cache, error) from error


def _unwritable(cache: Path, error: OSError) -> UserError:
    return UserError(
        f"the image cache {cache} cannot be written ({error.strerror or error}): make room or set "
        "FEWLABEL_CACHE to a folder that can"
    )
