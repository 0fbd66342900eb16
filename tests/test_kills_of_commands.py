"""Kills at ten moments of every command that writes: nothing half-written, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabel.run import Run

COMMANDS = ("sample", "evaluate", "import", "export", "decoding", "compare")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_kills_of_a_command(tmp_path: Path, finished_run: Run, command: str) -> None:
    script = Path(__file__).with_name("killing_commands.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, command, "10", finished_run.folder.path],
        capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["signal"] for row in found] == ["SIGKILL", "SIGTERM", "SIGINT"]
    for row in found:
        assert row["kills"] >= 1
        assert (row["half"], row["other"], row["left"], row["failed"]) == ([], [], [], []), row
