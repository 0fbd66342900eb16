"""Interrupted runs end with the weights of a run that was never interrupted, bit for bit."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.training import checkpoint
from fewlabel.training.ema import Ema

Cli = Callable[..., SimpleNamespace]
Arguments = Callable[..., list[str]]

CASES = {
    "killed in the score stage": ("SIGKILL", "score", "step", "27"),
    "killed while a checkpoint is written": ("SIGKILL", "classifier", "writing", "20"),
    "terminated": ("SIGTERM", "score", "step", "14"),
}
FILES = ("last", "ema", "optimizer")


@pytest.fixture(scope="module")
def interrupted(
    tmp_path_factory: pytest.TempPathFactory, tiny_train: Arguments
) -> Iterator[dict[str, SimpleNamespace]]:
    """Every case as a process of its own, all at once; their folders, outputs and statuses."""
    script = Path(__file__).with_name("dying.py")
    started = {}
    for name, moment in CASES.items():
        out = tmp_path_factory.mktemp("interrupted") / "run"
        process = subprocess.Popen(
            [sys.executable, script, *moment, *tiny_train(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started[name] = process, out
    ended = {}
    for name, (process, out) in started.items():
        stdout, stderr = process.communicate(timeout=300)
        ended[name] = SimpleNamespace(
            out=out, folder=RunFolder(out), status=process.returncode, stdout=stdout, err=stderr
        )
    yield ended
    for process, _ in started.values():
        process.kill()


def assert_equal_states(run: RunFolder, expected: RunFolder) -> None:
    for stage in ("score", "classifier"):
        (step, found), (last, wanted) = (r.checkpoints(stage).newest() for r in (run, expected))
        assert step == last
        for name in FILES:
            ours = load_file(found / f"{name}.safetensors")
            theirs = load_file(wanted / f"{name}.safetensors")
            assert ours.keys() == theirs.keys()
            different = [key for key in ours if not torch.equal(ours[key], theirs[key])]
            assert different == [], f"{stage}/{name}"


def logged(run: RunFolder) -> list[tuple[str, int]]:
    return [(record["stage"], record["step"]) for record in run.records()]


ALL_STEPS = [(stage, step) for stage in ("score", "classifier") for step in range(5, 41, 5)]


def test_killed_in_the_score_stage(
    interrupted: dict[str, SimpleNamespace], finished_run: Run, cli: Cli, tiny_train: Arguments
) -> None:
    case = interrupted["killed in the score stage"]
    assert case.status == -signal.SIGKILL
    assert case.folder.steps_done("score") == 20
    assert logged(case.folder) == ALL_STEPS[:5]  # step 25 was logged and has to be done again
    resumed = cli(*tiny_train(case.out))
    assert resumed.status == 0
    assert "training the score model: 20/40" in resumed.err
    assert_equal_states(case.folder, finished_run.folder)
    assert logged(case.folder) == ALL_STEPS


def test_killed_while_a_checkpoint_of_the_classifier_is_written(
    interrupted: dict[str, SimpleNamespace],
    finished_run: Run,
    cli: Cli,
    tiny_train: Arguments,
    left_by_the_dead: Callable[[str], str],
) -> None:
    case = interrupted["killed while a checkpoint is written"]
    assert case.status == -signal.SIGKILL
    (leftover,) = (case.out / "classifier").glob(".step-00000020~*")
    assert (leftover / "last.safetensors").is_file()
    assert [case.folder.steps_done(stage) for stage in ("score", "classifier")] == [40, 10]
    shutil.copytree(
        leftover, leftover.with_name(left_by_the_dead("step-00000013"))
    )  # no step of this run
    (case.out / left_by_the_dead("config.yaml")).write_text("half")
    score = (case.out / "score" / "step-00000040" / "checkpoint.json").stat().st_mtime_ns
    assert cli(*tiny_train(case.out)).status == 0
    assert_equal_states(case.folder, finished_run.folder)
    assert logged(case.folder) == ALL_STEPS
    assert score == (case.out / "score" / "step-00000040" / "checkpoint.json").stat().st_mtime_ns
    assert cli("sample", case.out, "-n", 1, "--label", 3).status == 0
    assert {path.name for path in case.out.rglob(".*")} == {".lock"}


def test_killed_before_its_configuration_was_written(
    finished_run: Run,
    cli: Cli,
    tiny_train: Arguments,
    tmp_path: Path,
    left_by_the_dead: Callable[[str], str],
) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / left_by_the_dead("config.yaml")).write_text("half")
    shutil.copy(finished_run.folder.path / "labels.json", tmp_path)
    done = cli(*tiny_train(tmp_path, "--method", "cg", "--steps", "1"))
    assert done.status == 0, done.err
    folder = RunFolder(tmp_path)
    assert folder.is_finished(folder.read_config())
    assert folder.read_splits().to_json() == finished_run.splits.to_json()
    assert {path.name for path in tmp_path.rglob(".*")} == {".lock"}


def test_sigterm_leaves_a_checkpoint_at_the_step_under_way(
    interrupted: dict[str, SimpleNamespace], finished_run: Run, cli: Cli, tiny_train: Arguments
) -> None:
    case = interrupted["terminated"]
    assert case.status == 1
    assert case.stdout == ""
    complaint = [line for line in case.err.splitlines() if line.startswith("fewlabel: ")]
    assert complaint == case.err.splitlines()[-1:]
    assert "stopped at step 14 of 40" in complaint[0]
    assert str(case.out) in complaint[0]
    assert "Traceback" not in case.err
    assert case.folder.steps_done("score") == 14
    assert cli(*tiny_train(case.out)).status == 0
    assert_equal_states(case.folder, finished_run.folder)
    # The line at step 14 is of the interruption; all others are those of an unbroken run.
    assert logged(case.folder) == [*ALL_STEPS[:2], ("score", 14), *ALL_STEPS[2:]]


def test_ctrl_c_in_the_last_step_of_a_stage_stops_too(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny_train: Arguments, tmp_path: Path
) -> None:
    update = Ema.update

    def interrupting(self: Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Ema, "update", interrupting)
    stopped = cli(*tiny_train(tmp_path / "run", "--steps", "2"))
    assert stopped.status == 1
    assert "stopped at step 2 of 2 of the score model" in stopped.err.splitlines()[-1]
    folder = RunFolder(tmp_path / "run")
    assert [folder.steps_done(stage) for stage in ("score", "classifier")] == [2, 0]


def test_checkpoints_that_cannot_be_read_now_are_not_removed(
    cli: Cli, copied_run: Path, tiny_train: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path for path in copied_run.rglob("*")}

    def failing(file: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(file))

    monkeypatch.setattr(checkpoint, "_hash", failing)
    ended = cli(*tiny_train(copied_run))
    assert ended.status == 1
    assert "cannot be read (Input/output error)" in ended.err.splitlines()[-1]
    assert {path for path in copied_run.rglob("*")} == before


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    copied_run: Path, finished_run: Run, cli: Cli, tiny_train: Arguments
) -> None:
    damaged = copied_run / "classifier" / "step-00000040"
    content = (damaged / "optimizer.safetensors").read_bytes()
    (damaged / "optimizer.safetensors").write_bytes(content[: len(content) // 2])
    again = cli(*tiny_train(copied_run))
    assert again.status == 0
    assert [line for line in again.err.splitlines() if "is damaged" in line] == [
        f"{damaged} is damaged; the checkpoint before it is used"
    ]
    assert "training the classifier: 30/40" in again.err
    assert_equal_states(RunFolder(copied_run), finished_run.folder)
    assert logged(RunFolder(copied_run)) == ALL_STEPS


def test_a_broken_last_line_of_the_log_is_forgotten(
    copied_run: Path, cli: Cli, tiny_train: Arguments
) -> None:
    shutil.rmtree(copied_run / "classifier" / "step-00000040")
    log = copied_run / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:-2], lines[-2][:20]]))  # up to step 30 and part of step 35
    assert cli(*tiny_train(copied_run)).status == 0
    assert logged(RunFolder(copied_run)) == ALL_STEPS
