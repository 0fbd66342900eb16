import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads wait more than they work

import pytest

from fewlabel.cli import main
from fewlabel.owners import Owner
from fewlabel.run import Run
from fewlabel.training.train import train

_STEPS = 40
_OVERRIDES = (
    "score.widths=[8,32]",
    "score.attention=[false,false]",
    "classifier.widths=[8,8]",
    *(
        f"{stage}.fit.{key}={value}"
        for stage in ("score", "classifier")
        for key, value in {
            "batch": 16,
            "warmup": 5,
            "log_every": 5,
            "validate_every": 20,
            "checkpoint_every": 10,
        }.items()
    ),
)


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the cache of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABEL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides with which a step takes milliseconds."""
    return _OVERRIDES


@pytest.fixture(scope="session")
def tiny_train() -> Callable[..., list[str]]:
    """The arguments of the command that made `finished_run`, with an --out and others."""

    def arguments(out: Path, *others: str, data: str = "digits") -> list[str]:
        sets = [part for text in _OVERRIDES for part in ("--set", text)]
        given = ["--labels", "0.05", "--steps", str(_STEPS), "--out", str(out)]
        return ["train", data, *given, "--device", "cpu", *sets, *others]

    return arguments


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 40 steps a stage, never interrupted; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return train("digits", labels=0.05, steps=_STEPS, out=out, overrides=_OVERRIDES, device="cpu")


@pytest.fixture
def copied_run(finished_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run.folder.path, tmp_path / "copied"))


@pytest.fixture
def left_by_the_dead() -> Callable[[str], str]:
    """The temporary name that a process had for a file, such as "a.png"; it has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()

    def name(file: str) -> str:
        stem, dot, suffix = file.partition(".")
        return f".{stem}~{Owner.this().place}-{ended.pid}-1-{uuid4().hex[:8]}{dot}{suffix}"

    return name


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., SimpleNamespace]:
    """Runs a command in this process: its exit status and both of its outputs."""

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["fewlabel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(status=left.value.code, out=out, err=err)

    return run
