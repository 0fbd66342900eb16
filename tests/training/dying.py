"""`python -m fewlabel …` that sends itself a signal at a chosen moment of training.

    python dying.py SIGNAL STAGE MOMENT STEP train DATA …

MOMENT is "step" (within that step, counted from 1), "writing" (within the checkpoint of that step,
when its weights are written and its manifest is not) or "best" (the same of its best weights).
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from torch import nn

from fewlabel.training import checkpoint, ema

number, stage, moment, step = signal.Signals[sys.argv[1]], *sys.argv[2:4], int(sys.argv[4])
update, write = ema.Ema.update, checkpoint.write_json
model_of = {"score": "ScoreModel", "classifier": "NoisyClassifier"}


def dying_update(self: ema.Ema, model: nn.Module, done: int) -> None:
    update(self, model, done)
    if type(model).__name__ == model_of[stage] and done + 1 == step:
        os.kill(os.getpid(), number)


def dying_write(path: Path, value: Any) -> None:
    kind = "best" if moment == "best" else "step"
    if path.parent.parent.name == stage and path.parent.name.startswith(f".{kind}-{step:08d}"):
        os.kill(os.getpid(), number)
    write(path, value)


if moment == "step":
    ema.Ema.update = dying_update
else:
    checkpoint.write_json = dying_write
sys.argv = ["fewlabel", *sys.argv[5:]]
runpy.run_module("fewlabel", run_name="__main__")
