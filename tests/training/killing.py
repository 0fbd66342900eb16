"""Trains a run in children that are killed at random moments, until one comes to its end.

    python killing.py OUT KILLS SEED 'JSON of the arguments of `train`'

The children are forks of this process, which has imported everything. Each tells through a pipe
when it ends a step and when it begins to write a checkpoint; it is killed after a few of these and
a random time, by turns aimed at a step and at a checkpoint. Prints what the kills left behind.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch import nn

from fewlabel.training import checkpoint, ema
from fewlabel.training.train import train

out, kills, arguments = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[4])
moments = random.Random(int(sys.argv[3]))
update, write = ema.Ema.update, checkpoint._write


def child(pipe: int) -> None:
    """Train, and tell "s" after a step and "w" before a checkpoint."""

    def told_update(self: ema.Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        os.write(pipe, b"s")

    def told_write(*values: Any) -> None:
        os.write(pipe, b"w")
        write(*values)

    ema.Ema.update, checkpoint._write = told_update, told_write
    train(**arguments, out=out, device="cpu")


def life(aim: bytes | None) -> bool:
    """Start a child and kill it, or let it live if nothing is aimed at; whether it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(writing)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    if aim:
        told, seconds = b"", []
        events, began = moments.randint(3, 8), time.monotonic()
        while events > 0 or told != aim:
            told = os.read(reading, 1)
            if not told:
                break
            seconds.append(time.monotonic() - began)
            began, events = time.monotonic(), events - 1
        time.sleep(moments.uniform(0, sorted(seconds)[len(seconds) // 2]))
        os.kill(pid, signal.SIGKILL)
    else:
        while os.read(reading, 4096):
            pass
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


aims, left, done = 0, 0, False
while not done and aims < kills:
    done = life(b"w" if aims % 2 else b"s")
    aims += not done
    left += bool([*out.glob("*/.*~*")])
if not done:
    done = life(None)
print(json.dumps({"kills": aims, "leftovers": left, "done": done}))
