"""Two processes and one, with the same global batch, end with the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import Tensor

from fewlabel import methods
from fewlabel.errors import UserError
from fewlabel.objectives import Objective, Uniform, Weighted
from fewlabel.run_folder import RunFolder
from fewlabel.training.processes import check_parallelism
from fewlabel.training.train import train

# Two channels a group at least: alone, a bias before a GroupNorm changes nothing, its gradient is
# rounding, and Adam makes steps of full size of it. So it does of the keys' bias of an attention.
SETTINGS = (
    *("score.widths=[16,32]", "score.attention=[false,false]", "classifier.widths=[16,16]"),
    *(f"{stage}.fit.batch=16" for stage in ("score", "classifier")),
    *(f"{stage}.fit.log_every=5" for stage in ("score", "classifier")),
    *(f"{stage}.fit.validate_every=10" for stage in ("score", "classifier")),
)
STEPS = 20


def run_of(out: Path, method: str, **others: Any) -> dict[str, Any]:
    values = {"data": "digits", "method": method, "labels": 0.05, "steps": STEPS}
    return values | {"out": str(out / method), "overrides": SETTINGS} | others


def launched(out: Path, *runs: dict[str, Any]) -> SimpleNamespace:
    """Train the runs in two processes; what they said and saw."""
    out.mkdir()
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    done = subprocess.run(
        [
            *launcher, *options, "--num_processes", "2", "--main_process_port", "0",
            Path(__file__).with_name("together.py"), out, json.dumps(runs),
        ],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = [json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [ranks[-1] for ranks in seen] == [2, 2]
    return SimpleNamespace(out=out, err=done.stderr, seen=seen)


def weights(run: Path, stage: str, name: str) -> dict[str, Tensor]:
    step, folder = RunFolder(run).checkpoints(stage).newest()
    assert step == STEPS
    return load_file(folder / f"{name}.safetensors")


def distance(ours: Path, theirs: Path, stage: str, name: str = "last") -> float:
    first, second = weights(ours, stage, name), weights(theirs, stage, name)
    compared = [key for key in first if not key.endswith("to_k.bias")]
    return max(float((first[key] - second[key]).abs().max()) for key in compared)


def assert_as_alone(together: Path, tmp_path: Path, names: list[str]) -> None:
    """Every run is what one process makes of the same batches.

    All but the first share one score model: rounding may change the neighbours of a teacher.
    """
    for method in names:
        shared = {} if method == names[0] else {"score": together / names[0]}
        train(**run_of(tmp_path / "alone", method, **shared), device="cpu")
        for stage in ("score", "classifier"):
            for name in ("last", "ema"):
                apart = distance(together / method, tmp_path / "alone" / method, stage, name)
                assert apart < 1e-5, f"{method}: {stage}/{name}"


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """DSM, CE, SC and DLSM, and a teacher; one process gets a SIGTERM, both stop and go on."""
    out = tmp_path / "together"
    first = run_of(out, "cg-sc-all", interrupt=7)
    others = [run_of(out, method, score=first["out"]) for method in ("cg-dlsm", "lpg")]
    ended = launched(out, first, *others)
    assert_as_alone(out, tmp_path, ["cg-sc-all", "cg-dlsm", "lpg"])
    assert ended.seen[0] == ended.seen[1]
    assert "stopped at step 7 of 20 of the score model" in ended.seen[0][0]
    hours = ended.seen[0][-2] / 3600
    assert hours > 12, "one process may look at all images of a large dataset alone"
    # One process alone writes and prints.
    assert ended.err.count("training the classifier: 20/20") == 3
    logged = [(r["stage"], r["step"]) for r in RunFolder(out / "cg-sc-all").records()]
    assert logged == [
        *(("score", step) for step in (5, 7, 10, 15, 20)),
        *(("classifier", step) for step in (5, 10, 15, 20)),
    ]


def objective_of(method: str) -> Objective:
    row = methods.METHODS[method]
    built = methods.Models((2,), times=Uniform())
    return Objective(
        {name: Weighted(loss.build(built), "all") for name, loss in row.classifier.items()}
    )


@pytest.mark.slow
def test_micro_batches_and_chains_are_shared_among_processes(tmp_path: Path) -> None:
    out = tmp_path / "together"
    first = run_of(out, "cg-jem")
    parts = [*SETTINGS, "classifier.fit.accumulate=2"]
    launched(out, first, run_of(out, "cg", score=first["out"], overrides=parts))
    assert_as_alone(out, tmp_path, ["cg-jem", "cg"])
    chains = [
        weights(folder / "cg-jem", "classifier", "memory") for folder in (out, tmp_path / "alone")
    ]
    started = [int((values["jem.chain_t"] > 0).sum()) for values in chains]
    assert started[0] == started[1] > 200
    assert torch.allclose(chains[0]["jem.chain_t"], chains[1]["jem.chain_t"], atol=1e-4)


def test_sharded_weights_are_refused() -> None:
    """Without a GPU no sharded training starts here: what is asked is a stand-in."""
    sharded: Any = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(UserError, match=r"FSDP is not supported: .* 'sc' differentiates twice"):
        check_parallelism(objective_of("cg-sc-all"), sharded)
    with pytest.raises(UserError, match="FSDP is not supported: the averaged weights"):
        check_parallelism(objective_of("cg"), sharded)
    for kind in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        check_parallelism(objective_of("cg-sc-all"), SimpleNamespace(distributed_type=kind))  # type: ignore[arg-type]
