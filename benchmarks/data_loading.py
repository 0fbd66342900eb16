"""What the data cost at 32 × 32: the share of a training step, and the memory of an index.

Run with `make bench`. The images are a folder of small PNG files made for it. Time is that of a
step's batches against that of the losses' forward and backward pass (preset small), in turn;
memory is the difference between the peaks of two processes that use folders of two sizes.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from fewlabel import methods
from fewlabel.data import Batches, Splits, draw_splits, open_dataset
from fewlabel.files import write_json
from fewlabel.methods import Models, Stage
from fewlabel.models import build_classifier, build_score_model
from fewlabel.randomness import StepRandom
from fewlabel.training.plan import Plan, plan

REPETITIONS = 7
FEW, MANY = 2_000, 20_000


def make_folder(root: Path, n: int) -> None:
    """Write n coloured images of noise, in two classes."""
    generator, contents = np.random.default_rng(0), []
    for _ in range(16):
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(stream, "PNG")
        contents.append(stream.getvalue())
    for index in range(n):
        path = root / "ab"[index % 2] / f"image-{index:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[index % 16])


def share_of_a_step(planned: Plan, stage: Stage) -> tuple[float, float]:
    """Median seconds of loading a step's data and of its losses."""
    config, dataset, splits = planned.config, planned.dataset, planned.splits
    score = build_score_model(config)
    models = Models(config.shape, score=score)
    if stage == "classifier":
        frozen = score.eval().requires_grad_(False)
        models = Models(config.shape, score=frozen, classifier=build_classifier(config, 2))
    settings, row = config.fit(stage), methods.find_method(config.method)
    objective = methods.objective(row.losses(stage), models, settings.weights)
    rows = {part: settings.batch for part in objective.parts}
    batches = Batches(dataset, splits, rows, seed=0)
    loading, computing = [], []
    for step in range(REPETITIONS + 1):
        began = time.perf_counter()
        batch = batches.at(step)
        loaded = time.perf_counter()
        objective.zero_grad()
        objective.total(objective(batch, StepRandom(0, step, "noise"))).backward()
        if step:
            loading.append(loaded - began)
            computing.append(time.perf_counter() - loaded)
    return median(loading), median(computing)


def use(root: Path, traced: bool) -> int:
    """All that a run does with its data; the peak of its memory in bytes."""
    if traced:
        tracemalloc.start()
    dataset = open_dataset(root)
    splits = draw_splits(dataset, "0.1", 0)
    dataset.spread(splits.train)
    manifest = root.parent / "labels.json"
    write_json(manifest, splits.to_json())
    splits = Splits.from_json(json.loads(manifest.read_text()))
    batches = Batches(dataset, splits, {"labelled": 16, "unlabelled": 16, "all": 16}, seed=0)
    for step in range(len(dataset) // 16):
        batches.at(step)
    if traced:
        return tracemalloc.get_traced_memory()[1]
    status = Path("/proc/self/status").read_text()  # not getrusage: it knows the parent's peak
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FEWLABEL_CACHE"] = f"{scratch}/cache"
        roots = {n: Path(scratch) / str(n) / "images" for n in (FEW, MANY)}
        for n, root in roots.items():
            make_folder(root, n)
        options = {"method": "cg-sc-all", "preset": "small", "labels": "0.1"}
        planned = plan(roots[FEW], options=options)
        print("data loading, as a share of a training step at 32 × 32, preset small")
        for stage in methods.find_method(planned.config.method).stages:
            loading, computing = share_of_a_step(planned, stage)
            share = loading / (loading + computing)
            print(f"  {stage:<12} {share:6.2%}  ({1e3 * loading:.2f} of {1e3 * computing:.0f} ms)")
        print(f"peak memory, {MANY} against {FEW} files")
        for kind in ("traced", "resident"):
            peaks = []
            for n, root in roots.items():
                fresh = os.environ | {"FEWLABEL_CACHE": f"{scratch}/{kind}-{n}"}
                command = [sys.executable, __file__, str(root), kind]
                peaks.append(int(subprocess.check_output(command, env=fresh)))
            print(f"  {kind:<12} {(peaks[1] - peaks[0]) / (MANY - FEW):6.0f} bytes a file")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(use(Path(sys.argv[1]), sys.argv[2] == "traced"))
    else:
        main()
