"""What a command is told is what is done: against the functions of Python."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fewlabel import samplers
from fewlabel.data import open_dataset
from fewlabel.metrics import judge
from fewlabel.metrics.report import Report
from fewlabel.report import run_page
from fewlabel.run import Run
from fewlabel.training.train import train

Cli = Callable[..., SimpleNamespace]


def test_samples_are_guided_as_asked(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"sampler": "ddim", "steps": 6, "seed": 2, "temperature": 0.5}
    expected = finished_run.sample(7, 4, 5.0, interval=(0.3, 3.0), **options)
    together, sample = [], samplers.sample

    def spied(score: Any, process: Any, shape: Any, *how: Any, **named: Any) -> torch.Tensor:
        together.append(shape[0])
        return sample(score, process, shape, *how, **named)

    monkeypatch.setattr(samplers, "sample", spied)
    given = [word for key, value in options.items() for word in (f"--{key}", value)]
    told = ["--label", 7, "-n", 4, "--scale", 5, "--interval", "0.3,3", "--batch-size", 3]
    done = cli("sample", finished_run.folder, *told, *given, "--out", tmp_path)
    assert done.status == 0, done.err
    drawn = np.load(tmp_path / "samples.npz")["images"].astype(int)
    pixels = ((expected + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(drawn - pixels).max() < 0.6  # rounded; a batch of others adds 1e-4
    assert together == [3, 1]


def test_samples_do_not_go_where_they_would_be_taken_for_data(
    cli: Cli, copied_run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    config = copied_run / "config.yaml"
    config.write_text(config.read_text().replace("data: digits", f"data: {data}"))
    done = cli("sample", copied_run, "-n", 1, "--steps", 2, "--out", data / "samples")
    assert (done.status, "lies in the data folder" in done.err) == (2, True)
    (tmp_path / "file").write_text("mine")
    done = cli("sample", copied_run, "-n", 1, "--steps", 2, "--out", tmp_path / "file")
    assert (done.status, "is a file, not a folder" in done.err) == (2, True)
    assert [*data.iterdir()] == []


def test_the_files_of_a_class_have_the_same_names_whatever_is_asked_for(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a/b", "a_b", *"23456789")
    monkeypatch.setattr(Run, "class_names", names)
    for name in (None, "a/b", "a_b"):
        told = ["-n", 1, "--steps", 2, "--out", tmp_path / str(name).replace("/", "-")]
        asked = ["--label", name] if name else []
        assert cli("sample", finished_run.folder, *asked, *told).status == 0
    first, second = ({path.name for path in (tmp_path / n).glob("*.png")} for n in ("a-b", "a_b"))
    assert first & second == {"grid.png"}
    assert first | second <= {path.name for path in (tmp_path / "None").glob("*.png")}


def test_samples_of_vectors_are_points_and_data_to_train_on(cli: Cli, tmp_path: Path) -> None:
    sizes = ["score.fit.batch=16", "classifier.fit.batch=16", "score.sheet_every=0"]
    run = train(
        "moons", method="cg", labels=0.05, steps=2, out=tmp_path / "run", overrides=sizes,
        device="cpu",
    )  # fmt: skip
    done = cli("sample", run.folder, "-n", 20, "--steps", 4, "--seed", 3)
    assert done.status == 0, done.err
    samples = run.folder.path / "samples" / "all-scale-4-seed-3"
    with Image.open(samples / "points.png") as picture:
        assert len(picture.convert("RGB").getcolors(100_000)) > 8  # something is drawn
    labels = torch.arange(2).repeat_interleave(20)
    expected = run.draw(labels, 40, steps=4, seed=3).images
    opened = open_dataset(str(samples / "samples.npz"))
    assert opened.class_names == run.class_names
    np.testing.assert_array_equal(opened.labels, labels)
    np.testing.assert_array_equal(opened.examples(np.arange(40)), expected)


def test_the_configuration_keeps_what_train_was_told(
    cli: Cli, finished_run: Run, tiny_train: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder = finished_run.folder.path
    told = ["--teacher", f"features:{folder}", "--seed", "3", "--labels", "4/class"]
    told += ["--balance", "--flip", "--set", "classifier.fit.labelled_share=0.5"]
    done = cli(*tiny_train(tmp_path / "run", "--score", str(folder), "--steps", "1", *told))
    assert done.status == 0, done.err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["teacher"] == f"features:{folder.resolve()}"
    assert config["score_from"] == str(folder.resolve())
    assert (config["seed"], config["labels"]) == (3, "4/class")
    fit = config["classifier"]["fit"]
    assert (fit["balance"], fit["flip"], fit["steps"]) == (True, True, 1)


def test_evaluate_prints_every_way_of_sampling(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_page, "write_run_report", lambda *what, **how: "the page")
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path))  # this judge is too weak for others
    monkeypatch.setattr(judge, "_STEPS", 20)
    monkeypatch.setattr(judge, "_EPOCHS", 0)
    reports: list[Report] = []
    evaluate = Run.evaluate

    def spied(run: Run, *how: Any, **options: Any) -> Report:
        reports.append(evaluate(run, *how, **options))
        return reports[-1]

    monkeypatch.setattr(Run, "evaluate", spied)
    given = ["--sampler", "heun,ddim", "--steps", "4,6", "-n", 10, "--metrics", "accuracy,fid"]
    done = cli("evaluate", finished_run.folder, *given)
    assert done.status == 0, done.err
    (report,) = reports
    evaluations = {("heun", 4): 7, ("heun", 6): 11, ("ddim", 4): 4, ("ddim", 6): 6}
    of = {(f.sampler, f.steps, f.metric): f for f in report.figures if f.class_index is None}
    lines = [line.strip() for line in done.out.splitlines() if "steps" in line]
    for line, ((sampler, steps), nfe) in zip(lines, evaluations.items(), strict=True):
        assert re.match(rf"3, {sampler}, {steps} steps +{2 * nfe} ", line)
        assert f" {of[sampler, steps, 'accuracy'].value:.1%} " in line
        assert f" {of[sampler, steps, 'fid'].value:.2f} " in line
