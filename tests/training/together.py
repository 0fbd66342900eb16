"""Trains runs in every process that a launcher started, as `fewlabel train` does.

    accelerate launch … together.py OUT 'JSON of the arguments of `train`, one dictionary a run'

A run with "interrupt": n is interrupted by a SIGTERM that process 1 alone gets, in step n of the
score model, and then trained again. What each process saw, how long it would wait for
another, and how many there are is written to OUT/rank-….json.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from fewlabel.errors import Interrupted
from fewlabel.score import ScoreModel
from fewlabel.training.ema import Ema
from fewlabel.training.train import train

out, runs, seen = Path(sys.argv[1]), json.loads(sys.argv[2]), []
update = Ema.update


def interrupting(at: int):
    def dying(self: Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if isinstance(model, ScoreModel) and step + 1 == at and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    return dying


for arguments in runs:
    if at := arguments.pop("interrupt", None):
        Ema.update = interrupting(at)
        try:
            train(**arguments, device="cpu")
        except Interrupted as error:
            seen.append(str(error))
        Ema.update = update
    train(**arguments, device="cpu")
group = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
seen.append(group.options._timeout.total_seconds())
seen.append(PartialState().num_processes)
(out / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(seen))
