"""How the program is started here, for the commands that people are told to type."""

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["command"]


def command(*words: object) -> str:
    """A command of fewlabel as a shell takes it, with the path of the program if it needs one."""
    beside = Path(sys.executable).with_name("fewlabel")
    program = "fewlabel" if shutil.which("fewlabel") else os.path.relpath(beside)
    return shlex.join([program, *map(str, words)])
