"""Whose a temporary file is: its name tells the process that makes it.

`.NAME~PLACE-PROCESS-START-RANDOM.SUFFIX` tells where the process runs, its number there, and when
it began: a number may be given again. A process on another machine, or in another container,
cannot be looked for; then the age of the file has to do.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

__all__ = [
    "Owner",
    "holder_of",
    "owned_name",
    "owner_of",
    "sweep",
    "sweep_once",
    "told_holder",
]

_LONGEST_STEM = 100  # bytes; file names end at 255
_NAME = re.compile(
    r"\..*~(?P<place>[0-9a-f]{8})-(?P<process>\d+)-(?P<start>\d+)-[0-9a-f]{8}(\.\w+)?", re.DOTALL
)
_SUFFIX = re.compile(r"\.\w+")
_HOLDER = "lock.json"
_SHOWN = 60  # letters of a command
_ABANDONED = 3 * 24 * 3600.0
"""Seconds without a change after which a file of another place is nobody's."""


@dataclass(frozen=True)
class Owner:
    """A process, as the names of its temporary files tell it.

    Attributes:
        place: a hash of the machine, of its start and of the container.
        process: the number of the process there.
        start: when it began, in the clock ticks of that machine; 0 if the system does not tell.
    """

    place: str
    process: int
    start: int

    @classmethod
    def this(cls) -> "Owner":
        """This process."""
        return cls(_place(), os.getpid(), _start(os.getpid()) or 0)

    @property
    def is_here(self) -> bool:
        """Whether it can be looked for from this process."""
        return self.place == _place()

    @property
    def is_gone(self) -> bool:
        """Whether it ran where this process runs, and has ended."""
        if not self.is_here:
            return False
        start = _start(self.process)
        return start is None or (0 not in (start, self.start) and start != self.start)


def owned_name(path: Path) -> str:
    """A name for a temporary file or folder of this process that ends as that of `path` does."""
    stem = path.stem.encode(errors="replace")[:_LONGEST_STEM].decode(errors="ignore")
    owner = Owner.this()
    told = f"{owner.place}-{owner.process}-{owner.start}-{uuid4().hex[:8]}"
    return f".{stem}~{told}{path.suffix if _SUFFIX.fullmatch(path.suffix) else ''}"


def owner_of(name: str) -> Owner | None:
    """Whose the file of this name is; None if it is no temporary one."""
    found = _NAME.fullmatch(name)
    return found and Owner(found["place"], int(found["process"]), int(found["start"]))


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders in a folder whose processes are gone.

    Those of a living process stay, and so do those of another machine or container until they
    have not changed for three days.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry) for entry in entries if owner_of(entry.name) is not None]
        for path in left:
            owner = owner_of(path.name)
            if owner is not None and (owner.is_gone or (not owner.is_here and _is_old(path))):
                _remove(path)


def sweep_once(folder: Path) -> None:
    """`sweep` a folder, but only the first time that this process asks."""
    _sweep_of(folder.absolute(), os.getpid())


@cache
def _sweep_of(folder: Path, process: int) -> None:
    sweep(folder)


@contextlib.contextmanager
def told_holder(folder: Path) -> Iterator[None]:
    """Tell in a file who works in a folder while the block runs; only its holder may ask."""
    sweep(folder)
    path = folder / owned_name(folder / _HOLDER)
    told = {"host": socket.gethostname(), "command": _command(), "since": time.time()}
    with contextlib.suppress(OSError):  # it is for people: work goes on without
        path.write_text(json.dumps(told), encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def holder_of(folder: Path) -> str:
    """Who works in a folder, in words."""
    for path in folder.glob(f".{Path(_HOLDER).stem}~*.json"):
        owner = owner_of(path.name)
        if owner is None or owner.is_gone:
            continue
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["since"]))
            return f"process {owner.process} ({told['command']}) on {told['host']}, since {since}"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "another process"


def _command() -> str:
    """What was typed, shortened, to know a process by."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    words = shlex.join([name, *sys.argv[1:]])
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_old(path: Path) -> bool:
    return time.time() - max(_changes(path), default=time.time()) > _ABANDONED


def _changes(path: Path) -> Iterator[float]:
    """When a file, or anything in a folder, was changed."""
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):
            yield file.lstat().st_mtime


@cache
def _place() -> str:
    """A hash that is equal for processes that see each other's numbers."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    for kind in ("pid", "time"):
        with contextlib.suppress(OSError):
            facts.append(os.readlink(f"/proc/self/ns/{kind}"))
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=4).hexdigest()


def _start(process: int) -> int | None:
    """When a process began, in clock ticks; 0 if the system does not tell, None if it is gone."""
    try:
        told = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # another system, or it is hidden there
        return 0 if _is_there(process) else None
    facts = told[told.rindex(b")") + 2 :].split()  # its name, in brackets, may hold anything
    return None if facts[0] in (b"Z", b"X") else int(facts[19])


def _is_there(process: int) -> bool:
    if sys.platform == "win32":  # where there is no signal that only asks
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
