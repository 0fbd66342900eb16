"""A comparison of seconds, for tests to ask for; what may happen to its processes."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from fewlabel.experiments.compare_cells import CellTask, Protocol, Row
from fewlabel.experiments.grid import Grid

LABELS = "2/class"
METHODS = ["cg", "cg-sc-all", "cond"]


def asked(
    protocol: Protocol,
    methods: Sequence[str] = METHODS,
    labels: Sequence[str] = (LABELS,),
    **repeats: Any,
) -> Grid:
    return Grid(protocol, tuple(methods), tuple(labels), **repeats)


def killed(task: CellTask, **how: object) -> list[Row]:
    """As by the system, for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still there")
