"""Comparisons go on after their folder, data, score model or labels moved."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_cases import LABELS, asked
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from fewlabel.errors import Interrupted, UserError
from fewlabel.experiments import compare_cells
from fewlabel.experiments.compare import Results, run_comparison
from fewlabel.experiments.compare_cells import Cell, Protocol
from fewlabel.experiments.compare_results import write_results
from fewlabel.run import Run, load
from fewlabel.training.ema import Ema
from fewlabel.training.train import train

pytestmark = pytest.mark.usefixtures("at_once", "weak_judges")

METHODS = ["cg", "dpt-lp"]
WRITTEN = ("json", "jsonl", "yaml", "md", "csv", "html")


def write_data(path: Path) -> Path:
    """Sixteen images of each of three digits."""
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.target == k)[:16] for k in range(3)])
    images = (digits.images[rows] * 15.9).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, labels=digits.target[rows])
    return path


@contextmanager
def stopped_in(method: str) -> Iterator[None]:
    """The comparison is interrupted in the third step of a method."""
    begin_training, update, stopped = compare_cells.train, Ema.update, False

    def counting(self: Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if step == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:

        def training(data: str, **how: Any) -> Run:
            if how["method"] == method:
                patch.setattr(Ema, "update", counting)
            return begin_training(data, **how)

        patch.setattr(compare_cells, "train", training)
        try:
            yield
        except Interrupted:
            stopped = True
    assert stopped


def begin(folder: Path, protocol: Protocol, own_score: bool) -> Protocol:
    """Data and, unless the comparison has one of its own, a score model, in a folder."""
    data = write_data(folder / "some.npz")
    quick = replace(protocol, data=str(data), per_class_to_choose=10, scales=(1.0,))
    if own_score:
        return quick
    score = folder / "score"
    train(data, out=score, method="uncond", overrides=protocol.overrides, device="cpu")
    return replace(quick, score=str(score))


def elsewhere(protocol: Protocol, old: Path, new: Path) -> Protocol:
    """The protocol with every place in a folder that moved."""
    score = protocol.score and protocol.score.replace(str(old), str(new))
    return replace(protocol, data=protocol.data.replace(str(old), str(new)), score=score)


@pytest.mark.parametrize("own_score", [True, False])
def test_a_comparison_goes_on_after_everything_moved(
    protocol: Protocol, tmp_path: Path, own_score: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    begun = begin(old, protocol, own_score)
    with stopped_in("dpt-lp"):  # cg was trained
        run_comparison(old / "cmp", asked(begun, METHODS))
    assert not (old / "cmp" / "runs" / Cell("dpt-lp", LABELS).folder / "score").exists()
    old.rename(new)
    before = {p: p.stat().st_mtime_ns for p in (new / "cmp" / "runs").rglob("step-*")}
    assert len(before) == 2 + own_score  # the score model, its copy, the classifier
    moved = elsewhere(begun, old, new)
    results = run_comparison(new / "cmp", asked(moved, METHODS))
    assert results.failed == {}
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in before.items())
    never = begin(tmp_path / "never", protocol, own_score)
    expected = run_comparison(tmp_path / "never" / "cmp", asked(never, METHODS))
    assert results.rows == expected.rows
    assert json.loads((new / "cmp" / "protocol.json").read_text())["data"] == moved.data
    # moved once more, and all over: nothing is left to do, and the page is written again
    third = tmp_path / "third"
    new.rename(third)
    again = asked(elsewhere(moved, new, third), METHODS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Ema, "update")  # nothing trains
        document = write_results(run_comparison(third / "cmp", again), again)
    assert len(document["rows"]) == len(write_results(expected, asked(never, METHODS))["rows"])


def test_no_file_of_a_comparison_names_its_folder(protocol: Protocol, tmp_path: Path) -> None:
    """But for the command on the page, which names it as it was asked for."""
    begun = begin(tmp_path / "project", protocol, own_score=True)
    out = tmp_path / "project" / "cmp"
    grid = asked(begun, METHODS)
    write_results(run_comparison(out, grid), grid)
    cells = [out / "runs" / Cell(m, LABELS).folder for m in METHODS]
    assert load(cells[0]).config.score_from == str(out / "runs" / "score")
    assert load(cells[1]).config.teacher == f"features:{out / 'runs' / 'score'}"
    named = {
        path.relative_to(out): line
        for path in out.rglob("*")
        if path.suffix[1:] in WRITTEN
        for line in path.read_text(encoding="utf-8").splitlines()
        if str(out) in line
    }
    assert list(named) == [Path("report.html")]
    assert f"--out {out}" in named[Path("report.html")]
    written = {path.suffix[1:] for path in out.rglob("*")}
    assert written >= set(WRITTEN)


@pytest.mark.parametrize("what", ["data", "score"])
def test_other_data_and_another_score_model_at_the_same_place_are_refused(
    protocol: Protocol, tmp_path: Path, what: str
) -> None:
    begun = begin(tmp_path, protocol, own_score=False)
    with stopped_in("cg"):
        run_comparison(tmp_path / "cmp", asked(begun, ["cg"]))
    if what == "data":
        content = dict(np.load(begun.data))
        np.savez(begun.data, images=content["images"][:, ::-1], labels=content["labels"])
    else:
        Path(str(begun.score)).rename(tmp_path / "kept")
        other = {"seed": 1, "overrides": protocol.overrides, "device": "cpu"}
        train(begun.data, out=str(begun.score), method="uncond", **other)
    said = rf"is another comparison: there {what} is .* where something else is than before"
    with pytest.raises(UserError, match=said):
        run_comparison(tmp_path / "cmp", asked(begun, ["cg"]))


def test_labels_in_a_csv_are_known_by_its_name_and_what_it_says(
    protocol: Protocol, tmp_path: Path
) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "pets"
    for name in [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(16)]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(data / name)
    listed = tmp_path / "mine.csv"
    listed.write_text("file\ncat/0.png\ndog/0.png\n")
    quick = replace(protocol, data=str(data), per_class_to_choose=10, scales=(1.0,))
    out = tmp_path / "cmp"
    results = run_comparison(out, asked(quick, ["cg"], [str(listed)]))
    assert {row["labels"] for row in results.rows} == {"mine.csv"}
    rows = (out / "results.jsonl").read_bytes()
    (tmp_path / "there").mkdir()
    listed = listed.rename(tmp_path / "there" / "mine.csv")
    grid = asked(quick, ["cg"], [str(listed)])
    document = write_results(run_comparison(out, grid), grid)
    assert (out / "results.jsonl").read_bytes() == rows
    assert {row["labels"] for row in document["rows"]} == {"mine.csv"}
    listed.write_text("file\ncat/1.png\ndog/0.png\n")
    with pytest.raises(UserError, match="was begun with other labels"):
        run_comparison(out, grid)
    twice = asked(quick, ["cg"], [str(listed), str(tmp_path / "mine.csv")])
    with pytest.raises(UserError, match="files of the same name; rename one"):
        run_comparison(out, twice)


def test_a_protocol_that_was_not_looked_at_is_known_by_its_places(
    protocol: Protocol, tmp_path: Path
) -> None:
    Results.open(tmp_path / "cmp", replace(protocol, data_id="a"))
    Results.open(tmp_path / "cmp", protocol)
    Results.open(tmp_path / "cmp", replace(protocol, data="elsewhere", data_id="a"))
    kept = json.loads((tmp_path / "cmp" / "protocol.json").read_text())
    assert (kept["data"], kept["data_id"]) == ("elsewhere", "a")
    with pytest.raises(UserError, match="there data is elsewhere, now it is digits"):
        Results.open(tmp_path / "cmp", protocol)
