"""On a full disk one line says so, nothing half-written remains, and training can go on."""

import errno
import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from fewlabel.errors import TrainingError
from fewlabel.files import append_line
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.training import checkpoint

Cli = Callable[..., SimpleNamespace]
Arguments = Callable[..., list[str]]


@pytest.mark.parametrize("kind", [SafetensorError, OSError])
def test_a_checkpoint_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
    tiny_train: Arguments,
    finished_run: Run,
    tmp_path: Path,
    kind: type[Exception],
) -> None:
    """The disk is full within the third checkpoint of the score model."""
    out, saved = tmp_path / "run", checkpoint.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.parent.name.startswith(".step-00000030~") and path.name == "ema.safetensors":
            path.write_bytes(b"half")
            reason = "I/O error: No space left on device (os error 28)"
            raise kind(errno.ENOSPC, reason) if kind is OSError else kind(reason)
        saved(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    ended = cli(*tiny_train(out))
    assert ended.status == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("fewlabel: cannot write ")
    assert "step-00000030" in last
    assert "No space left on device" in last
    assert "free space" in last
    assert "Traceback" not in ended.err
    kept = sorted(path.name for path in (out / "score").iterdir())
    assert kept == ["best-00000020", "step-00000010", "step-00000020"]
    monkeypatch.setattr(checkpoint, "save_file", saved)
    assert cli(*tiny_train(out)).status == 0
    for stage in ("score", "classifier"):
        folders = RunFolder(out), finished_run.folder
        ours, theirs = (folder.checkpoints(stage).ema_weights() for folder in folders)
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_a_line_of_the_log_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Of files that may not grow beyond 100 bytes, the system writes a part."""
    path = tmp_path / "log"
    append_line(path, "x" * 59)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot write .*log: File too large"):
            append_line(path, "y" * 59)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "x" * 59 + "\n"
    append_line(path, "z")
    assert path.read_text() == "x" * 59 + "\nz\n"
