"""Image files decoded once, into an array in the cache that is memory-mapped from then on.

An entry is KEY.npy, (n, size, size, C) uint8, one row for each readable file, and KEY.json: facts
about the files, and a digest of both. An entry that does not match its digest is made again.
Neither the files nor the array are ever held in memory as a whole.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from fewlabel.data.cache import cache_folder, keep_facts, kept_facts, sweep_cache
from fewlabel.data.dataset import fingerprint_of
from fewlabel.data.images import (
    LARGEST_DEFAULT_SIZE,
    darkness_note,
    decode,
    is_too_large,
    size_of,
    too_large_note,
)
from fewlabel.errors import UserError
from fewlabel.files import scratch_folder
from fewlabel.limits import max_bytes, out_of_memory

__all__ = ["Decoded", "Files", "Progress", "open_decoded"]

Progress = Callable[[int, int], None]
"""Called with the number of files that are done and their total."""


@dataclass(frozen=True)
class Decoded:
    """Image files as pixels.

    Attributes:
        images: (n, size, size, C) uint8, memory-mapped: the readable files, in order.
        contents: (n,) uint64, a hash of the bytes of each readable file.
        digest: a hash of all pixels.
        broken: what is wrong with each of the others, by its index.
        sizes: how many readable files there are of each size, as "640×480".
        brightest: the highest level of any pixel.
        notes: what people should know of the files, a line each.
    """

    images: NDArray[np.uint8]
    contents: NDArray[np.uint64]
    digest: str
    broken: dict[int, str]
    sizes: dict[str, int]
    brightest: int
    notes: tuple[str, ...] = ()


_FORMAT = 5  # raise it when the same files would decode to other pixels
_ROWS_AT_ONCE = 256
_SIZES = 200  # as many different ones are counted, so that they do not fill the memory

_CONTENT_BYTES = 8
_PART = 2**14  # bytes of a file that are hashed together


@dataclass(frozen=True)
class _Picture:
    """A readable file."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    content: bytes


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
    reasons = {files.name(row): reason for row, reason in found.broken.items()}
    notes = too_large_note(reasons), darkness_note(found.brightest)
    return replace(found, notes=tuple(note for note in notes if note is not None))


def _kept_side(entry: Path) -> int | None:
    """The most frequent side, as it was found before."""
    facts = kept_facts(entry)
    return None if facts is None else int(facts["side"])


def _load(target: Path, n_files: int) -> Decoded | None:
    """The entry, or None if it is absent, damaged or does not fit."""
    try:
        noted = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        facts, digest = noted["facts"], _digest_of_file(target)
        limit_then, limit_now = facts["limit"], max_bytes()
        if noted["digest"] != fingerprint_of(digest, facts) or limit_then not in (None, limit_now):
            return None
        images = np.load(target, mmap_mode="r")
        found = Decoded(
            images=images,
            contents=np.frombuffer(base64.b64decode(facts["contents"]), "<u8").astype(np.uint64),
            digest=digest,
            broken={int(row): reason for row, reason in facts["broken"].items()},
            sizes=facts["sizes"],
            brightest=facts["brightest"],
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if len(images) + len(found.broken) == n_files else None


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _make(files: Files, side: int, target: Path, strict: bool, progress: Progress | None) -> None:
    with _scratch_folder(target.parent, 2 * len(files) * side * side * 3) as scratch:
        try:
            facts = _decode_into(scratch / "rgb", files, side, progress)
            _check_broken(files, facts.broken, strict)
            shape = (len(files) - len(facts.broken), side, side, facts.channels)
            _write_array(scratch / "ready.npy", scratch / "rgb", shape)
            known = facts.to_json()
            digest = fingerprint_of(_digest_of_file(scratch / "ready.npy"), known)
            text = json.dumps({"digest": digest, "facts": known})
            (scratch / "facts.json").write_text(text, encoding="utf-8")
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
    contents: bytearray = field(default_factory=bytearray)
    channels: int = 1
    brightest: int = 0

    def add(self, picture: _Picture) -> None:
        self.channels = max(self.channels, picture.pixels.shape[-1])
        self.brightest = max(self.brightest, int(picture.pixels.max()))
        self.contents += picture.content
        text = f"{picture.size[0]}×{picture.size[1]}"
        is_new = text not in self.sizes
        self.sizes["others" if is_new and len(self.sizes) >= _SIZES else text] += 1

    def to_json(self) -> dict[str, object]:
        return {
            "broken": {str(row): reason for row, reason in self.broken.items()},
            "sizes": dict(self.sizes),
            "contents": base64.b64encode(self.contents).decode(),
            "brightest": self.brightest,
            "limit": max_bytes() if any(map(is_too_large, self.broken.values())) else None,
        }


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
                facts.add(found)
                pixels[:] = found.pixels
                stream.write(pixels.data)
            if progress is not None:
                progress(row + 1, len(files))
    return facts


def _decoded(files: Files, side: int) -> Iterator[_Picture | str]:
    """Each file as pixels, or what is wrong with it, a few files ahead."""

    def one(row: int) -> _Picture | str:
        with _opened(files, row) as stream:
            try:
                size = size_of(stream)
                stream.seek(0)
                pixels = decode(stream, side)
                stream.seek(0)
                return _Picture(pixels, size, _content(stream))
            except Exception as error:  # on bad bytes decoders raise anything
                return _what_is_wrong(error, stream, files.name(row))

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(files), _ROWS_AT_ONCE):
            yield from pool.map(one, range(start, min(start + _ROWS_AT_ONCE, len(files))))
    finally:
        pool.shutdown(cancel_futures=True)


def _content(stream: BinaryIO) -> bytes:
    """The hash of all bytes of a file."""
    digest = hashlib.blake2b(digest_size=_CONTENT_BYTES)
    while part := stream.read(_PART):
        digest.update(part)
    return digest.digest()


def _opened(files: Files, row: int) -> BinaryIO:
    try:
        return files.open(row)
    except OSError as error:
        raise _unreadable(files.name(row), error) from error


def _what_is_wrong(error: Exception, stream: BinaryIO, name: str) -> str:
    """The fault of a file. A fault of the system, which may pass, is raised: never cached."""
    if isinstance(error, MemoryError):
        raise out_of_memory(name) from error
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


@contextlib.contextmanager
def _scratch_folder(cache: Path, n_bytes: int) -> Iterator[Path]:
    """A folder within the cache, so that its files can be renamed into place.

    It must have room: better to say so before the work than at its end.
    """
    with contextlib.ExitStack() as held:
        try:
            sweep_cache()
            folder = held.enter_context(scratch_folder(cache))
            free = shutil.disk_usage(cache).free
        except OSError as error:
            raise _unwritable(cache, error) from error
        if free < n_bytes:
            raise UserError(
                f"the image cache {cache} needs {n_bytes / 2**20:.0f} MB but has "
                f"{free / 2**20:.0f} MB: make room or set FEWLABEL_CACHE to another disk"
            )
        yield folder


def _unwritable(cache: Path, error: OSError) -> UserError:
    return UserError(
        f"the image cache {cache} cannot be written ({error.strerror or error}): make room or set "
        "FEWLABEL_CACHE to a folder that can"
    )
