"""Labels that a CSV gives to a folder without any, from training to the finished run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from fewlabel.run import Run

Cli = Callable[..., SimpleNamespace]
Arguments = Callable[..., list[str]]


def test_a_folder_without_labels_trains_with_a_csv(
    cli: Cli, tmp_path: Path, tiny_train: Arguments
) -> None:
    (tmp_path / "birds").mkdir()
    rows = ["file,label"]
    for i in range(16):
        Image.new("L", (8, 8), 16 * i).save(tmp_path / "birds" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{'' if i > 11 else 'heron' if i % 2 else 'wren'}")
    csv, out = tmp_path / "few.csv", tmp_path / "run"
    csv.write_text("\n".join(rows))
    refused = cli(*tiny_train(out, "--labels", "all", data=str(tmp_path / "birds")))
    assert refused.status == 2
    assert "no class sub-folders" in refused.err
    given = ("--labels", str(csv), "--method", "cg", "--steps", "1")
    trained = cli(*tiny_train(out, *given, data=str(tmp_path / "birds")))
    assert trained.status == 0, trained.err
    assert trained.err.count("note: 4 lines have no label in few.csv yet: skipped") == 1
    csv.unlink()
    run = Run(out, "cpu")
    assert run.class_names == run.dataset.class_names == ("heron", "wren")
    levels = run.dataset.values[:, 0, 0, 0]
    np.testing.assert_array_equal(run.dataset.labels[levels < 192], [1, 0] * 6)
    assert (run.dataset.labels[levels >= 192] == -1).all()
    assert len(run.splits.labelled) == 12
    drawn = cli("sample", out, "--label", "1", "-n", "1", "--steps", "2", "--json")
    assert json.loads(drawn.out)["label"] == "1"
    assert drawn.err.count("note: --label 1 is class wren, by position") == 1
    by_name = cli("sample", out, "--label", "heron", "-n", "1", "--steps", "2")
    assert "by position" not in by_name.err
    told = json.loads(
        cli("datasets", tmp_path / "birds", "--out", tmp_path / "s.png", "--json").out
    )
    assert (told["classes"], told["unlabelled"], told["notes"]) == ({}, 16, [])


def test_notes_are_told(cli: Cli, tmp_path: Path) -> None:
    labels, names = np.array([0, 1, -1, 0, 1, -1, -1]), np.array(["Wren", "wren", "emu"])
    np.savez(tmp_path / "a.npz", vectors=np.eye(7), labels=labels, class_names=names)
    ended = cli("datasets", tmp_path / "a.npz", "--out", tmp_path / "s.png", "--json")
    notes = json.loads(ended.out)["notes"]
    assert notes[:2] == [
        "3 rows say -1: unlabelled",
        "1 of 3 classes has no example and is left out: emu",
    ]
    assert "differ only by case: Wren and wren" in notes[2]
    assert [line for line in ended.err.splitlines() if line[:5] == "note:"] == [
        f"note: {note}" for note in notes
    ]
