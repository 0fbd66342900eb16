"""Draws and judges in every process that a launcher started.

    accelerate launch … drawing.py RUN OUT

Each process writes the images it got to OUT/rank-….pt; the main one, in the end, the figures.
"""

import json
import os
import sys
from pathlib import Path

import torch

from fewlabel.run import load

run, out, rank = load(sys.argv[1], device="cpu"), Path(sys.argv[2]), os.environ["RANK"]
drawn = run.draw(n=7, sampler="pc", steps=3, batch_size=3)
torch.save(drawn.images, out / f"rank-{rank}.pt")
report = run.evaluate(("accuracy", "intra-fid"), (1.0, 3.0), per_class=10, steps=3)
(out / f"report-{rank}.json").write_text(json.dumps(report.to_dict()))
