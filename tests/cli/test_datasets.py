"""`fewlabel datasets`: what was found is what was put there, and the sheet shows it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

Cli = Callable[..., SimpleNamespace]
COLOURS = {"cat": (200, 30, 60), "dog": (20, 160, 90), "unlabeled": (30, 60, 220)}


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five cats, three dogs, two without a label, two broken; each class of its colour."""
    for name, count in {"cat": 5, "dog": 3, "unlabeled": 2}.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(count):
            size = (12, 8) if i == 2 else (8, 8)
            Image.new("RGB", size, COLOURS[name]).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cat" / "empty.png").write_bytes(b"")
    (tmp_path / "pets" / "dog" / "page.png").write_text("<html>")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


def test_the_figures_are_those_of_the_folder(cli: Cli, pets: Path) -> None:
    ended = cli("datasets", "pets", "--json", "--out", "here.png")
    assert ended.status == 0
    found = json.loads(ended.out)
    assert found["examples"] == 10
    assert found["shape"] == [3, 8, 8]
    assert found["sizes"] == {"8×8": 8, "12×8": 2}
    assert found["classes"] == {"cat": 5, "dog": 3}
    assert (found["labelled"], found["unlabelled"], found["test"]) == (8, 2, 0)
    assert found["broken"] == 2
    assert found["broken_files"] == ["cat/empty.png", "dog/page.png"]
    assert found["sheet"] == "here.png"
    assert json.loads(cli("datasets", pets, "--size", "4", "--json").out)["shape"] == [3, 4, 4]


def test_the_sheet_shows_a_row_of_each_class(cli: Cli, pets: Path) -> None:
    said = cli("datasets", "pets").out
    assert "pets-sheet.png" in said
    assert "2: cat/empty.png, dog/page.png" in said
    with Image.open("pets-sheet.png") as opened:
        pixels = np.asarray(opened.convert("RGB"))
    rows = {
        name: {*np.flatnonzero((pixels == colour).all(-1).any(1)).tolist()}
        for name, colour in COLOURS.items()
    }
    assert max(rows["cat"]) < min(rows["dog"]) <= max(rows["dog"]) < min(rows["unlabeled"])
    area = {name: (pixels == colour).all(-1).sum() for name, colour in COLOURS.items()}
    assert area["cat"] * 3 == area["dog"] * 5
    assert area["cat"] * 2 == area["unlabeled"] * 5


def test_strict_refuses_what_is_broken(cli: Cli, pets: Path) -> None:
    refused = cli("datasets", "pets", "--strict")
    assert refused.status == 2
    assert refused.out == ""
    last = refused.err.splitlines()[-1]
    assert "pets/cat/empty.png (an empty file), 2 of 12" in last
    assert "leave --strict out" in last
    assert [path.name for path in Path().iterdir()] == ["pets"]


def test_vectors_are_drawn_as_points(cli: Cli, tmp_path: Path) -> None:
    found = json.loads(cli("datasets", "moons", "--out", tmp_path / "m.png", "--json").out)
    assert found["shape"] == [2]
    assert found["classes"] == {"upper": 5000, "lower": 5000}
    with Image.open(tmp_path / "m.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 50


def test_without_data_every_form_is_listed(cli: Cli) -> None:
    names = [row["name"] for row in json.loads(cli("datasets", "--json").out)]
    assert names[:2] == ["moons", "digits"]
    assert {"FOLDER", "FILE.npz", "hf:PATH", "cifar10:PATH", "mnist:PATH"} <= {*names}
    said = cli("datasets").out
    assert all(line.split()[0] in names for line in said.splitlines())
    assert cli("datasets", "digts").status == 2
