"""Draws samples in children that are killed as they finish a file, and draws them again.

    python killed_samples.py RUN OUT

A child is a fork of this process. It is killed just before the k-th of its files gets its name,
after all of it was written. For each kill this prints the name of the folder, the exit
status, the visible files then, whether each picture among them is whole, and the first image of
each part that was drawn again.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from fewlabel import files
from fewlabel.report import samples
from fewlabel.run import Run, load

run, out = load(sys.argv[1], "cpu"), Path(sys.argv[2])
how: dict[str, Any] = {"label": "3", "n": 10, "scale": 2.0, "sampler": "dpm++", "steps": 3}
samples._TOGETHER = 4
finish, draw = files._finish, Run.draw
POINTS = {"request": 1, "first image": 2, "second part": 7, "arrays": 12, "grid": 14}


def killed(folder: Path, number: signal.Signals, point: int) -> int:
    """Draw in a child that kills itself at a file; what it ended with."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    written = 0

    def finish_or_die(path: Path, mode: int) -> None:
        nonlocal written
        written += 1
        if written == point:
            os.kill(os.getpid(), number)
        finish(path, mode)

    files._finish = finish_or_die
    try:
        samples.draw_to_folder(run, folder, seed=1, batch_size=2, **how)
    finally:
        os._exit(0)


def whole(file: Path) -> bool:
    with Image.open(file) as picture:
        picture.load()
        return "fewlabel" in picture.info


told = []
samples.draw_to_folder(run, out / "whole", seed=1, batch_size=2, **how)
for number in (signal.SIGKILL, signal.SIGTERM):
    for name, point in POINTS.items():
        folder, firsts = out / f"{number.name}-{name}", []
        status = killed(folder, number, point)
        seen = sorted(file.name for file in folder.glob("[!.]*"))
        pictures = all(whole(file) for file in folder.glob("[!.]*.png"))

        def counted(self: Run, *given: Any, **options: Any) -> Any:
            firsts.append(options["first"])  # noqa: B023
            return draw(self, *given, **options)

        Run.draw = counted
        samples.draw_to_folder(run, folder, seed=1, batch_size=2, **how)
        told.append([folder.name, status, seen, pictures, firsts])
print(json.dumps(told))
