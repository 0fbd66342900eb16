"""One folder holds one request of `sample`, and every picture tells how to draw it again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewlabel import __version__
from fewlabel.data.dataset import stored
from fewlabel.errors import UserError
from fewlabel.files import locked
from fewlabel.report.sample_request import REQUEST, request_of
from fewlabel.run import Run, load

Cli = Callable[..., SimpleNamespace]
ASKED = {"label": "4", "n": 2, "scale": 1.5, "steps": 3, "seed": 8, "temperature": 0.5}


def words(**changed: Any) -> list[Any]:
    """The options of a request."""
    asked = ASKED | changed
    options = {f"--{key}" if len(key) > 1 else f"-{key}": value for key, value in asked.items()}
    return [word for option in options.items() for word in option]


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": "5"}, '(label: "4", now "5")'),
        ({"n": 3}, "(n: 2, now 3)"),
        ({"scale": 2}, "(scale: 1.5, now 2.0)"),
        ({"interval": "0.3,5"}, "(interval: null, now [0.3, 5.0])"),
        ({"temperature": 1}, "(temperature: 0.5, now 1.0)"),
        ({"sampler": "heun"}, '(sampler: "dpm++", now "heun")'),
        ({"steps": 4}, "(steps: 3, now 4)"),
        ({"seed": 9}, "(seed: 8, now 9)"),
    ],
)
def test_another_request_is_refused(
    cli: Cli, finished_run: Run, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    out = tmp_path / "out"
    assert cli("sample", finished_run.folder, *words(), "--out", out).status == 0
    before = contents(out)
    refused = cli("sample", finished_run.folder, *words(**changed), "--out", out)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    for part in (str(out), "samples of another request", said, "give another --out"):
        assert part in refused.err
    assert contents(out) == before


def test_other_weights_and_versions_are_other_requests(finished_run: Run, tmp_path: Path) -> None:
    options = {"n": 2, "scale": None, "sampler": "dpm++", "steps": 3, "seed": 0}
    more = {"batch_size": 4, "interval": None, "temperature": 1.0}
    request = request_of(finished_run, [4], **options, **more)
    with request.begun(tmp_path):
        pass
    replace(request, run="/elsewhere", device="cuda", batch_size=1).check(tmp_path)  # the same
    for changed in ({"weights": "00"}, {"fewlabel": "9"}, {"class_names": ("a",)}):
        with pytest.raises(UserError, match=f"another request .{next(iter(changed))}: .*, now "):
            replace(request, **changed).check(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "0-0000.png", REQUEST])
def test_a_folder_of_other_files_is_refused(
    cli: Cli, finished_run: Run, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("[]")
    refused = cli("sample", finished_run.folder, *words(), "--out", tmp_path)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "is no folder of samples" in refused.err
    assert "give another --out" in refused.err
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_folder_in_which_another_process_draws_is_refused(
    cli: Cli, finished_run: Run, tmp_path: Path
) -> None:
    with locked(tmp_path):
        refused = cli("sample", finished_run.folder, *words(), "--out", tmp_path)
    assert (refused.status, "worked in by process" in refused.err) == (2, True)
    assert contents(tmp_path) == {}


def test_the_same_request_ends_with_the_same_bytes(
    cli: Cli, copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing, damaged or another's picture is drawn again; also where the run moved."""
    monkeypatch.setattr("fewlabel.report.samples._TOGETHER", 2)
    asked = [*words(n=6), "--batch-size", 2]
    out, moved = tmp_path / "out", tmp_path / "moved"
    shutil.move(copied_run, moved)
    assert cli("sample", moved, *asked, "--out", tmp_path / "new").status == 0
    shutil.move(moved, copied_run)
    assert cli("sample", copied_run, *asked, "--out", out).status == 0
    shutil.move(copied_run, moved)
    assert cli("sample", moved, *asked, "--out", out).status == 0
    wanted = contents(tmp_path / "new")
    assert len(wanted) == 6 + 4
    assert contents(out) == wanted
    (out / "4-0001.png").unlink()
    (out / "4-0003.png").write_bytes(wanted["4-0003.png"][:-20])
    with Image.open(out / "4-0005.png") as picture:
        picture.point(lambda level: 255 - level).save(out / "4-0005.png")
    assert cli("sample", moved, *asked, "--out", out).status == 0
    assert contents(out) == wanted


def test_killed_in_the_middle(finished_run: Run, tmp_path: Path) -> None:
    """Whole pictures stay and are kept; the same request ends as if it had not been killed."""
    script = Path(__file__).with_name("killed_samples.py")
    done = subprocess.run(
        [sys.executable, script, finished_run.folder.path, tmp_path],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    wanted = contents(tmp_path / "whole")
    images = [f"3-{i:04d}.png" for i in range(10)]
    assert sorted(wanted) == sorted([*images, "grid.png", "grid-3.png", REQUEST, "samples.npz"])
    begun = [[], [REQUEST], [*images[:5], REQUEST], [*images, REQUEST]]
    begun.append(sorted([*begun[-1], "grid-3.png", "samples.npz"]))
    again = [[0, 4, 8], [0, 4, 8], [4, 8], [8], [8]]
    for i, (name, status, seen, whole, firsts) in enumerate(json.loads(done.stdout)):
        assert status == (-9 if "KILL" in name else -15)
        assert (seen, whole, firsts) == (begun[i % 5], True, again[i % 5]), name
        assert contents(tmp_path / name) == wanted, name
    assert i == 9


def test_a_picture_tells_how_to_draw_it_again(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    names = {"label": None, "interval": "0.3,5", "sampler": "ddim"}
    given = [word for pair in zip(*[iter(words(**names))] * 2, strict=True) if pair[1] is not None
             for word in pair]  # fmt: skip
    done = cli("sample", finished_run.folder, *given, "--batch-size", 1, "--out", tmp_path)
    assert done.status == 0, done.err
    for index, file in ((9, "4-0001.png"), (14, "7-0000.png")):
        with Image.open(tmp_path / file) as picture:
            pixels, told = np.asarray(picture), json.loads(picture.text["fewlabel"])
        assert (told["index"], told["class"]) == (index, file[0])
        run = load(told["run"], told["device"])
        settings = ("scale", "sampler", "steps", "seed", "interval", "temperature", "batch_size")
        how = {key: told[key] for key in settings}
        again = run.draw([told["class_index"]], 1, first=told["index"], **how).images
        assert np.array_equal(stored(again)[0, :, :, 0], pixels)
        other = run.draw([told["class_index"]], 1, first=told["index"] + 1, **how).images
        assert not np.array_equal(stored(other)[0, :, :, 0], pixels)


def test_the_request_stands_in_every_file(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    done = cli("sample", finished_run.folder, *words(), "--out", tmp_path, "--json")
    request = json.loads(done.out)["request"]
    facts = {"label": "4", "n": 2, "scale": 1.5, "interval": None, "temperature": 0.5, "seed": 8,
             "sampler": "dpm++", "steps": 3, "method": "lpg", "fewlabel": __version__}  # fmt: skip
    assert facts.items() <= request.items()
    assert request["class_names"] == [str(digit) for digit in range(10)]
    assert request["run"] == str(finished_run.folder.path.resolve())
    assert json.loads((tmp_path / REQUEST).read_text()) == request
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["request"])) == request
    del request["class_names"]
    more = {
        "grid.png": {},
        "grid-4.png": {"class": "4", "class_index": 4},
        "4-0001.png": {"class": "4", "class_index": 4, "index": 1},
    }
    for file, of_picture in more.items():
        with Image.open(tmp_path / file) as picture:
            assert json.loads(picture.text["fewlabel"]) == request | of_picture


def test_each_request_has_a_folder_of_its_own(cli: Cli, copied_run: Path) -> None:
    def folder(*given: object) -> str:
        done = cli("sample", copied_run, "-n", 1, "--steps", 2, *given, "--json")
        assert done.status == 0, done.err
        document = json.loads(done.out)
        found = Path(document["folder"])
        assert found.parent == copied_run / "samples"
        assert Path(document["grid"]).parent == found
        return found.name

    assert folder() == folder() == "all-scale-3-seed-0"
    assert folder("--seed", 1) == "all-scale-3-seed-1"
    assert folder("--label", 7, "--scale", 1.25) == "7-scale-1.25-seed-0"
    other, another = folder("--sampler", "heun"), folder("--sampler", "ddim")
    assert other.startswith("all-scale-3-seed-0-")
    assert len({other, another, folder()}) == 3
    assert folder("--sampler", "heun") == other
