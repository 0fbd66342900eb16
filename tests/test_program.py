import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from fewlabel.program import command


@pytest.mark.parametrize("in_path", [True, False])
def test_a_command_can_be_typed_as_it_is_told(
    in_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder in which it was told, with the environment of the shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/fewlabel" if in_path else None)
    program, *words = shlex.split(command("sample", Path("my runs"), "-n", 4))
    assert words == ["sample", "my runs", "-n", "4"]
    beside = Path(sys.executable).with_name("fewlabel")
    assert program == "fewlabel" if in_path else os.path.abspath(program) == str(beside)
