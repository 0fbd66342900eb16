"""The commands of docs/your-own-model.md that need no model of anyone else, in few steps."""

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

Cli = Callable[..., SimpleNamespace]
PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"


def test_the_recipe_without_a_model_at_hand(
    cli: Cli, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").split("No model at hand?")[1].split("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    fewlabel ")]
    assert len(commands) == 5
    sets = [part for text in tiny for part in ("--set", text)]
    shorter = {"train": ["--steps", "5", *sets], "sample": ["-n", "2", "--steps", "3"]}
    for command in commands:
        words = shlex.split(command)[1:]
        ended = cli(*words, *shorter.get(words[0], []))
        assert ended.status == 0, ended.err
    assert len(list(Path("runs/guided/samples").glob("3-scale-*/3-*.png"))) == 2
