"""Files and folders that are whole or not there: written to a temporary name, then renamed."""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from fewlabel.errors import TrainingError, UserError
from fewlabel.limits import read_text

__all__ = [
    "append_line",
    "check_free",
    "file_stems",
    "locked",
    "printable",
    "read_json",
    "refuse_file",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "write_json",
    "write_text",
]

_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What ends work that was rightly asked for; other reasons are wrong paths."""

_LONGEST_STEM = 100  # bytes; file names end at 255
_LEFTOVER = re.compile(r"\.(.+-[0-9a-f]{8}(\.\w+)?|.+\.new)")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The temporary name ends as `path` does, so writers that go by the suffix work. Folders that
    are missing are made. If the block fails, the temporary file is removed and what was at
    `path` before stays.

    Args:
        path: the file to write.

    Yields:
        The path to write to.

    Raises:
        UserError: the file cannot be written there, or the block could not read or write another.
        TrainingError: the disk is full, or fails.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}")
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        try:
            yield temporary
            _finish(temporary, mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes the folder `path` when the block ends without an error.

    Args:
        path: the folder to write; one that is there is replaced.

    Yields:
        An empty folder to write to.

    Raises:
        UserError: the folder cannot be written there, or the block could not read or write a file.
        TrainingError: the disk is full, or fails.
    """
    temporary = path.with_name(f".{path.name}.new")
    with _readable_errors(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        mode = temporary.stat().st_mode & 0o666
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _finish(file, mode)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, patient: bool = False) -> Iterator[None]:
    """Keep other processes that do the same from working in a folder while the block runs.

    Args:
        folder: made if it is not there; it gets a file `.lock`.
        patient: wait for another process that has it.

    Raises:
        UserError: another process has it, or the file cannot be written there.
        TrainingError: the disk is full, or fails.
    """
    lock = FileLock(folder / ".lock", timeout=-1 if patient else 0)
    with _readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{folder} is being worked in by another process; wait for it, or choose another "
                "--out"
            ) from None
    try:
        yield
    finally:
        lock.release()


def refuse_file(folder: Path) -> None:
    """Refuse a folder to write in that is a file.

    Raises:
        UserError: if it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder; give another --out")


def check_free(folder: Path, own: str, kind: str) -> None:
    """Refuse a folder to write in that holds files of others.

    Args:
        folder: it may be missing or empty.
        own: the file or folder by which one that was begun before is known.
        kind: what it is then.

    Raises:
        UserError: if it is a file, or holds files and not that one; hidden ones do not count.
    """
    refuse_file(folder)
    if folder.is_dir() and not (folder / own).exists():
        if any(path.name[0] != "." for path in folder.iterdir()):
            raise UserError(f"{folder} holds other files and is no {kind}; give another --out")


def file_stems(names: Iterable[str]) -> list[str]:
    """What the files of these names, such as classes, begin with: one name each, safe anywhere.

    Letters, digits, spaces and ``-_.()+`` stay, anything else becomes ``_``, and so does a leading
    dot. A name that is taken, or is too long for a file, gets its number.
    """
    stems: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names):
        stem = re.sub(r"[^\w \-.()+]|^\.", "_", name).strip() or "_"
        short = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
        stem = short if short == stem else f"{short}-{number}"
        while stem.casefold() in taken:  # some file systems fold case
            stem = f"{stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def printable(name: str) -> str:
    """The name of a file even if it is in another encoding than the system's."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that a killed process left in a folder."""
    for path in folder.glob(".*"):
        if not _LEFTOVER.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, whole or not at all.

    Raises:
        UserError: the file cannot be written there.
        TrainingError: the disk is full, or fails.
    """
    with _readable_errors(path), path.open("ab", buffering=0) as stream:
        before, rest = stream.seek(0, os.SEEK_END), f"{line}\n".encode()
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError:
            stream.truncate(before)
            raise


def read_json(path: Path) -> Any:
    """The document in a JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, is nested too deeply, or too large (a UserError).
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document, whole or not at all, without its text in memory."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.write("\n")


@contextlib.contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        kind = TrainingError if error.errno in _FAILED else UserError
        mend = "free space or choose" if kind is TrainingError else "choose"
        raise kind(f"cannot write {path}: {reason}: {mend} another folder") from error


def _finish(path: Path, mode: int) -> None:
    """Give a file the rights of any other, whatever wrote it, and flush it."""
    if path.is_file():
        with contextlib.suppress(OSError):  # not every file system has them
            path.chmod(mode)
    _flush(path)


def _flush(path: Path) -> None:
    """Make sure that what was written outlives a power cut before it gets its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
