"""Progress of long work, with the time left, on standard error.

In a terminal it is a bar; elsewhere a line when the work begins, every ten seconds, and when it
ends, so that a log shows it too.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fewlabel.texts import shown

__all__ = ["PartOf", "Task", "speaks", "tell", "track"]

_QUIET_SECONDS = 10.0
_PERIOD = 3600.0
"""Seconds over which the speed is told: a step of the work may take minutes."""


class Task:
    """Work of a known length; the base class shows nothing."""

    def set(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done, with a note such as the current loss."""


class PartOf(Task):
    """A part of longer work, which shows how far that is.

    Args:
        whole: the longer work.
        first: how much of it was done before.
        total: its length.
    """

    def __init__(self, whole: Task, first: int, total: int) -> None:
        self._whole, self._first, self._total = whole, first, total

    def set(self, done: int, total: int, note: str = "") -> None:  # noqa: D102
        self._whole.set(self._first + done, self._total, note)


class _Bar(Task):
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, note="")

    def set(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=shown(note))


class _Lines(Task):
    def __init__(self, title: str) -> None:
        self._title = title
        self._first: tuple[float, int] | None = None
        self._shown = 0.0

    def set(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        first_time, first_done = self._first = self._first or (now, done)
        if done < total and now - self._shown < _QUIET_SECONDS:
            return
        self._shown = now
        spent, gained = now - first_time, done - first_done
        left = f", {_clock(spent * (total - done) / gained)} left" if gained else ""
        if done >= total:
            left = f", {_clock(spent)}"
        line = f"{self._title}: {done}/{total}{left}{'  ' + note if note else ''}"
        tell(line)


def tell(text: str) -> None:
    """Put a line for people on standard error, if this process is the one that prints.

    Control characters in it are shown, not sent. Where it cannot be written it is dropped: no
    work ends for want of somebody who reads.
    """
    if speaks():
        with contextlib.suppress(OSError):
            print(shown(text), file=sys.stderr, flush=True)


def speaks() -> bool:
    """Whether this process is the one that prints, of those that train together."""
    return os.environ.get("RANK", "0") == "0"  # set by the launcher


@contextlib.contextmanager
def track(title: str) -> Iterator[Task]:
    """Show the progress of one piece of work while the block runs."""
    if not speaks():
        yield Task()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=_PERIOD) as progress:
        yield _Bar(progress, shown(title))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
