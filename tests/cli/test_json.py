"""--json: one document with the public keys on standard output, and nothing else there."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabel import __version__
from fewlabel.data.dataset import stored
from fewlabel.methods import METHODS
from fewlabel.metrics import judge
from fewlabel.run import Run

Cli = Callable[..., SimpleNamespace]
Arguments = Callable[..., list[str]]


def document(ended: SimpleNamespace) -> Any:
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_sample(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["-n", 3, "--label", 4, "--scale", 1.5, "--steps", 6, "--seed", 8, "--out", out]
    found = document(cli("sample", finished_run.folder, *arguments, "--json"))
    assert set(found) == {
        *("files", "grid", "n", "label", "scale", "sampler", "steps", "nfe", "seconds", "seed"),
        *("class_grids", "arrays", "folder", "request"),
    }
    assert [Path(grid).name for grid in found["class_grids"]] == ["grid-4.png"]
    assert len(found["files"]) == len(set(found["files"])) == 3
    assert all(Path(file).is_file() for file in [*found["files"], found["grid"]])
    asked = {"n": 3, "label": "4", "scale": 1.5, "sampler": "dpm++", "steps": 6, "seed": 8}
    assert asked.items() <= found.items()
    assert found["nfe"] == 12


def test_sample_of_every_class(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    arguments = ["-n", 1, "--steps", 2, "--out", tmp_path, "--json"]
    found = document(cli("sample", finished_run.folder, *arguments))
    assert (found["n"], len(found["files"]), found["label"]) == (10, 10, None)
    assert len(set(found["class_grids"])) == 10
    arrays = np.load(found["arrays"], allow_pickle=False)
    for file, image in zip(found["files"], arrays["images"], strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), image[:, :, 0])
    with Image.open(tmp_path / "grid-7.png") as grid:  # one image, enlarged, among white
        shown = set(np.unique(np.asarray(grid)))
    assert set(np.unique(arrays["images"][7])) <= shown


def test_samples_are_written_as_they_are_drawn(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces that are those of the whole; what is drawn before an end is there."""
    monkeypatch.setattr("fewlabel.report.samples._TOGETHER", 4)
    monkeypatch.setattr("fewlabel.report.samples._OF_CLASS", 2)
    arguments = ["-n", 3, "--steps", 2, "--batch-size", 2, "--seed", 5]
    found = document(cli("sample", finished_run.folder, *arguments, "--out", tmp_path, "--json"))
    labels = torch.arange(10).repeat_interleave(3)
    whole = stored(finished_run.sample(labels, steps=2, seed=5, batch_size=2))
    assert np.array_equal(np.load(found["arrays"], allow_pickle=False)["images"], whole)
    for file, image in zip(found["files"], whole, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), image[:, :, 0])
    draw, asked = Run.draw, []

    def failing(self: Run, *positional: Any, **options: Any) -> Any:
        asked.append(options["first"])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return draw(self, *positional, **options)

    monkeypatch.setattr(Run, "draw", failing)
    out = tmp_path / "interrupted"
    assert cli("sample", finished_run.folder, *arguments, "--out", out).status == 1
    assert asked == [0, 4, 8]
    names = [Path(file).name for file in found["files"]]
    assert sorted(path.name for path in out.glob("[!.]*")) == [*names[:8], "request.json"]


def test_info(cli: Cli, finished_run: Run) -> None:
    found = document(cli("info", finished_run.folder, "--json"))
    assert found["state"] == "finished"
    assert found["steps"] == {"score": "40/40", "classifier": "40/40"}
    assert (found["data"], found["method"], found["labels"]) == ("digits", "lpg", "0.05")
    assert found["classes"] == [str(digit) for digit in range(10)]
    best = found["best"]["classifier"]
    validations = {
        r["step"]: r["validation"]
        for r in finished_run.folder.records()
        if r["stage"] == "classifier" and r["validation"]
    }
    assert best == {"step": best["step"], **validations[best["step"]]}
    means = {s: sum(v for k, v in f.items() if k[:3] == "ce@") for s, f in validations.items()}
    assert means[best["step"]] == min(means.values())
    times = [r["seconds"] for r in finished_run.folder.records() if r["stage"] == "score"]
    assert found["seconds"]["score"] == round(max(times), 1)
    examples = found["examples"]
    assert sum(examples[part] for part in ("train", "validation", "test")) == 1797
    assert examples["labelled"] == round(0.05 * examples["train"])


def test_lists(cli: Cli) -> None:
    rows = document(cli("methods", "--json"))
    assert [row["name"] for row in rows] == list(METHODS)
    assert all(row["summary"] and row["source"] for row in rows)
    assert "digits" in [row["name"] for row in document(cli("datasets", "--json"))]
    assert cli("--version").out.strip() == __version__


def test_train(cli: Cli, tiny_train: Arguments, tmp_path: Path) -> None:
    arguments = tiny_train(tmp_path / "run", "--steps", "2", "--method", "cg", "--json")
    trained = cli(*arguments)
    found = document(trained)
    assert found == document(cli("info", tmp_path / "run", "--json"))
    assert found["state"] == "finished"
    assert found["method"] == "cg"
    assert "training the classifier: 2/2" in trained.err


def test_evaluate(
    cli: Cli, copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path))  # this judge is too weak for others
    monkeypatch.setattr(judge, "_STEPS", 20)
    monkeypatch.setattr(judge, "_EPOCHS", 0)
    arguments = ["-n", 10, "--steps", 3, "--scale", "0,2", "--metrics", "accuracy,fid", "--json"]
    found = document(cli("evaluate", copied_run, *arguments))
    assert set(found) >= {
        *("run", "method", "labels", "n_samples", "extractor", "seed", "results")
    }
    assert (found["method"], found["labels"], found["n_samples"]) == ("lpg", "0.05", 100)
    rows = found["results"]
    assert all(
        set(r) == {"scale", "sampler", "steps", "metric", "class", "value", "low", "high"}
        for r in rows
    )
    whole = {(r["scale"], r["metric"]) for r in rows if r["class"] is None}
    assert whole == {(s, m) for s in (0.0, 2.0) for m in ("accuracy", "fid")}
    assert {r["class"] for r in rows if r["metric"] == "accuracy"} == {None, *range(10)}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    page = (copied_run / "report.html").read_text(encoding="utf-8")
    assert shlex.join(["fewlabel", "evaluate", str(copied_run), *map(str, arguments)]) in page
    assert f"{next(r['value'] for r in rows if r['metric'] == 'fid'):.2f}" in page
