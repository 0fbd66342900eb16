"""Twenty kills at random moments, checkpoint writes included, change nothing in the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.run import Run
from fewlabel.training.train import train


def contents(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every checkpoint that is kept, by file."""
    return {
        str(file.relative_to(run)): load_file(file)
        for file in sorted(run.glob("*/*/*.safetensors"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_twenty_kills(tmp_path: Path, tiny: tuple[str, ...], seed: int) -> None:
    each_stage = {"checkpoint_every": 2, "validate_every": 3, "log_every": 1, "patience": 1000}
    settings = [f"{s}.fit.{k}={v}" for s in ("score", "classifier") for k, v in each_stage.items()]
    arguments = {"data": "digits", "labels": 0.05, "steps": 60, "overrides": [*tiny, *settings]}
    out, script = tmp_path / "killed", Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, script, out, "20", str(seed), json.dumps(arguments)],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["kills"], said["done"]) == (20, True), done.stderr
    assert said["leftovers"] >= 1  # some were in the midst of a checkpoint
    whole: Run = train(**arguments, out=tmp_path / "whole", device="cpu")
    expected, found = contents(whole.folder.path), contents(out)
    assert found.keys() == expected.keys()
    for file, tensors in expected.items():
        assert found[file].keys() == tensors.keys()
        assert all(torch.equal(found[file][key], value) for key, value in tensors.items()), file
    hidden = [path.name for path in out.rglob(".*")]
    assert hidden == [".lock"]
    steps = [(r["stage"], r["step"]) for r in whole.folder.records()]
    assert [
        (r["stage"], r["step"]) for r in map(json.loads, (out / "metrics.jsonl").open())
    ] == steps
    assert "damaged" not in done.stderr
