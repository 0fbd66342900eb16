"""Compares as `run_comparison` does, until it is killed with the figures of some tasks kept.

    killed_compare.py OUT TASKS GRID

The grid is pickled. The work of one more task is done, and its figures are lost.
"""

import os
import pickle
import signal
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from fewlabel.experiments.compare import Results, run_comparison
from fewlabel.experiments.compare_cells import Row

add, done = Results.add, count()


def dying(results: Results, rows: Iterable[Row]) -> None:
    if next(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    add(results, rows)


if __name__ == "__main__":
    Results.add = dying  # type: ignore[method-assign]
    run_comparison(Path(sys.argv[1]), pickle.loads(Path(sys.argv[3]).read_bytes()))
