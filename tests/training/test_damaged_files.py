"""Damaged files of a run folder are told by their path, or made again."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load

from fewlabel.errors import UserError
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.train import train

Cli = Callable[..., SimpleNamespace]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),  # a probability
    ],
)
def test_what_a_teacher_said_is_asked_again_if_it_is_damaged(
    tmp_path: Path,
    tiny: tuple[str, ...],
    finished_run: Run,
    damage: Callable[[bytes], bytes],
) -> None:
    def taught() -> Run:
        return train(
            "digits", method="lpg", score=finished_run.folder.path, labels="2/class", steps=2,
            out=tmp_path / "run", overrides=tiny, device="cpu",
        )  # fmt: skip

    run = taught()
    path = run.folder.path / "teacher.safetensors"
    whole = load(path.read_bytes())["probabilities"]  # no map of the file that is damaged
    weights = run.classifier.state_dict()
    for file in (run.folder.path / "classifier").rglob("*.*"):
        if file.is_file():
            file.unlink()
    path.write_bytes(damage(path.read_bytes()))
    again = taught().classifier.state_dict()
    assert torch.equal(load(path.read_bytes())["probabilities"], whole)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "[" * 100_000, "cannot be read"),
        (lambda text: "[]", "no split manifest"),
        (lambda text: text.replace('"train"', '"brain"'), "no split manifest"),
        (lambda text: swapped(text, "train", "validation"), "an example is in two parts"),
        (lambda text: swapped(text, "labelled", "test"), "shows its label and does not train"),
        (lambda text: reversed_(text, "test"), "the indices of test do not ascend"),
    ],
)
def test_a_damaged_manifest_is_told_by_its_path(
    copied_run: Path, cli: Cli, damage: Callable[[str], str], reason: str
) -> None:
    path = copied_run / "labels.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError) as caught:
        RunFolder(copied_run).read_splits()
    told = cli("info", copied_run)
    assert told.status == 2
    for said in (str(caught.value), told.err.strip()):
        assert "\n" not in said
        assert str(path) in said
        assert reason in said
        assert "another" in said


def swapped(text: str, to: str, of: str) -> str:
    """The first index of a part is one of another part."""
    document = json.loads(text)
    document[to] = sorted([document[of][0], *document[to][1:]])
    return json.dumps(document)


def reversed_(text: str, part: str) -> str:
    document = json.loads(text)
    return json.dumps(document | {part: document[part][::-1]})


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: b"5",
        lambda line: b"{}",
        lambda line: b"[]",
        lambda line: line.replace(b'"stage"', b'"stbge"'),
        lambda line: line.replace(b'"seconds": ', b'"seconds": "').replace(b', "los', b'", "los'),
        lambda line: line.replace(b'"losses": {', b'"losses": {"x": "y", '),
        lambda line: line[:15] + b"\xff" + line[16:],
    ],
)
def test_damaged_lines_of_the_log_are_left_out(
    copied_run: Path, cli: Cli, damage: Callable[[bytes], bytes]
) -> None:
    log = copied_run / "metrics.jsonl"
    lines = log.read_bytes().splitlines()
    records = RunFolder(copied_run).records()
    log.write_bytes(b"\n".join([lines[0], damage(lines[1]), *lines[2:], b""]))
    assert RunFolder(copied_run).records() == [records[0], *records[2:]]
    assert cli("info", copied_run, "--json").status == 0
    RunFolder(copied_run).forget_after("score", 10**6)
    assert log.read_bytes() == b"\n".join([lines[0], *lines[2:], b""])


def test_a_checkpoint_that_tells_another_step_than_its_name_is_damaged(copied_run: Path) -> None:
    checkpoints = Checkpoints(copied_run / "score")
    newest, folder = checkpoints.newest() or (0, copied_run)
    file = folder / "checkpoint.json"
    file.write_text(file.read_text().replace(f'"step": {newest}', f'"step": {newest + 10}'))
    step, _ = checkpoints.newest() or (0, copied_run)
    assert step == newest - 10
    file.write_text('{"step": 40, "finished": true, "sha256": []}')
    assert checkpoints.newest() == (newest - 10, folder.with_name(f"step-{newest - 10:08d}"))
