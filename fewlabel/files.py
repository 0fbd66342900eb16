"""Files and folders that are whole or not there: written to a temporary name, then renamed."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from fewlabel.errors import TrainingError, UserError
from fewlabel.limits import read_text
from fewlabel.owners import holder_of, owned_name, sweep_once, told_holder
from fewlabel.progress import tell

__all__ = [
    "append_line",
    "check_free",
    "check_writable",
    "file_stems",
    "locked",
    "printable",
    "read_json",
    "refuse_file",
    "replacing",
    "replacing_folder",
    "scratch_folder",
    "write_json",
    "write_text",
]

_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What ends work that was rightly asked for; other reasons are wrong paths."""

_LONGEST_STEM = 100  # bytes; file names end at 255


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
    temporary = path.with_name(owned_name(path))
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent)
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
def replacing_folder(path: Path, new: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes the folder `path` when the block ends without an error.

    Args:
        path: the folder to write; one that is there is replaced.
        new: refuse to replace a folder that holds anything, even if it came while the block ran.

    Yields:
        An empty folder to write to.

    Raises:
        UserError: the folder cannot be written there, or the block could not read or write a file.
        TrainingError: the disk is full, or fails.
    """
    temporary = path.with_name(owned_name(path))
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent)
        temporary.mkdir()
        mode = temporary.stat().st_mode & 0o666
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _finish(file, mode)
            _put(temporary, path, new)
            _flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, path: Path, new: bool) -> None:
    """Give a folder its name, at once where there is none or an empty one."""
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if new:
            raise UserError(f"{path} is there and not empty; give another --out") from None
        before = path.with_name(owned_name(path))
        path.rename(before)
        temporary.rename(path)
        shutil.rmtree(before, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for files that nobody needs after the block.

    Args:
        parent: where to make it; None for the system's folder of temporary files.

    Yields:
        An empty folder; it is removed with all that is in it.

    Raises:
        OSError: it cannot be made there.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    folder = where / owned_name(Path("fewlabel"))
    where.mkdir(parents=True, exist_ok=True)
    sweep_once(where)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, patient: bool = False) -> Iterator[None]:
    """Keep other processes that do the same from working in a folder while the block runs.

    It writes: what is there already should be looked for first, as a folder may be read-only.

    Args:
        folder: made if it is not there; it gets a file `.lock`, and while the block runs one that
            tells who works in it.
        patient: wait for another process that has it, and say so.

    Raises:
        UserError: another process has it, or the file cannot be written there.
        TrainingError: the disk is full, or fails.
    """
    lock = FileLock(folder / ".lock")
    with _readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held = f"{folder} is being worked in by {holder_of(folder)}"
            if isinstance(lock, SoftFileLock):  # of a disk without locks that end with a process
                held += f"; if that process is gone, remove {folder / '.lock'}"
            if not patient:
                raise UserError(f"{held}; wait for it, or choose another --out") from None
            tell(f"waiting: {held}")
            lock.acquire(timeout=-1)
    try:
        with told_holder(folder):
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


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made; it is made if it is not there.

    Raises:
        UserError: if none can.
        TrainingError: the disk is full, or fails.
    """
    with _readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / owned_name(folder)
        try:
            trial.touch()
        finally:
            trial.unlink(missing_ok=True)


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
