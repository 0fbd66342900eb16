"""Two processes draw what one draws, and one of them judges and writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fewlabel.run import Run


def launch(*command: object) -> str:
    """Run a program in two processes on the CPU; what they said."""
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    done = subprocess.run(
        [
            *(*launcher, *options, "--num_processes", "2", "--main_process_port", "0"),
            *map(str, command),
        ],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_draw_and_judge_as_one(finished_run: Run, tmp_path: Path) -> None:
    """Seven samples: one process draws four, the other three; each gets all."""
    launch(Path(__file__).with_name("drawing.py"), finished_run.folder, tmp_path)
    alone = finished_run.draw(n=7, sampler="pc", steps=3, batch_size=3).images
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert together.shape == alone.shape
        assert (together - alone).abs().max() < 1e-5
    assert not (tmp_path / "report-1.json").exists()
    told = json.loads((tmp_path / "report-0.json").read_text())
    report = finished_run.evaluate(("accuracy", "intra-fid"), (1.0, 3.0), per_class=10, steps=3)
    expected = report.to_dict()
    assert len(told["results"]) == len(expected["results"]) > 0
    for ours, theirs in zip(told["results"], expected["results"], strict=True):
        assert {k: ours[k] for k in ("scale", "metric", "class")} == {
            k: theirs[k] for k in ("scale", "metric", "class")
        }
        assert ours["value"] == pytest.approx(theirs["value"], rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_the_command_writes_once_what_two_processes_drew(
    finished_run: Run, tmp_path: Path, cli
) -> None:
    given = [
        "sample",
        finished_run.folder.path,
        "--label",
        "3",
        "-n",
        "5",
        "--steps",
        "3",
        "--json",
    ]
    document = json.loads(launch("-m", "fewlabel", *given, "--out", tmp_path / "together"))
    assert document["n"] == 5
    assert len(document["files"]) == 5
    assert cli(*given, "--out", tmp_path / "alone").status == 0
    ours, theirs = (
        np.load(tmp_path / name / "samples.npz")["images"].astype(int)
        for name in ("together", "alone")
    )
    assert np.abs(ours - theirs).max() <= 1  # of 255: rounding
