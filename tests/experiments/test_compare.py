"""Comparisons that are killed, go on, and are reported; what a failed cell does."""

import html
import json
import pickle
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from compare_cases import LABELS, METHODS, asked, killed
from scipy import stats

from fewlabel.errors import TrainingError, UserError
from fewlabel.experiments import compare
from fewlabel.experiments.compare import Results, run_comparison
from fewlabel.experiments.compare_cells import Cell, Protocol, Row, candidates, cell_of, chosen
from fewlabel.experiments.compare_results import write_results
from fewlabel.metrics import fid, intra
from fewlabel.metrics.judge import train_judge
from fewlabel.randomness import generator_for
from fewlabel.run import load


@dataclass
class Compared:
    """A comparison that was killed in the middle, and then went on to its end.

    One of its cells failed: its folder is taken.
    """

    results: Results
    before: list[Row]


@pytest.fixture(scope="module")
def compared(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    out, grid, twice = folder / "out", folder / "grid", asked(protocol, seeds=2)
    Results.open(out, protocol)
    taken = out / "runs" / Cell("cg", LABELS, 1, 1).folder
    taken.parent.mkdir(parents=True)
    taken.write_text("in the way")
    grid.write_bytes(pickle.dumps(twice))
    command = [sys.executable, Path(__file__).with_name("killed_compare.py"), out, "2", grid]
    ended = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    text = (out / "results.jsonl").read_text()
    assert text.endswith("\n")
    before = [json.loads(line) | {"kept": True} for line in text.splitlines()]  # a mark
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in before))
    return Compared(run_comparison(out, twice, jobs=2), before)


def test_every_cell_reports_at_the_scale_that_is_best_on_validation(
    compared: Compared,
) -> None:
    results = compared.results
    reported = [r for r in results.rows if r["split"] == "report" and r["metric"] == "intra-fid"]
    overall = [r for r in reported if r["class"] is None]
    assert {(r["method"], r["label_seed"], r["seed"]) for r in overall} == {
        ("cg", 0, 0),
        ("cg-sc-all", 0, 0),
        ("cg-sc-all", 1, 1),
        ("cond", 0, 0),
        ("cond", 1, 1),
    }
    for r in overall:
        cell = Cell(r["method"], LABELS, r["label_seed"], r["seed"], r["weight"])
        assert chosen(results.rows, [cell]) == (cell, r["scale"])
    assert all("10 generated images for" in r["warnings"][0] for r in overall)  # that is few
    # of one method, one weight: the one chosen on the first draw
    weights = {r["weight"] for r in overall if r["method"] == "cg-sc-all"}
    best, _ = chosen(results.rows, candidates(Cell("cg-sc-all", LABELS), 0.0))
    assert weights == {best.weight}


def test_the_weight_and_the_draw_of_a_cell_are_those_of_its_run(
    compared: Compared,
) -> None:
    results = compared.results
    labelled = set()
    for cell in candidates(Cell("cg-sc-all", LABELS), 0.0):
        run = load(results.out / "runs" / cell.folder)
        assert run.config.classifier.fit.weights["sc"] == cell.weight
        labelled.add(tuple(run.splits.labelled.tolist()))
    assert len(labelled) == 1
    other = next(r for r in results.rows if r["label_seed"] == 1 and r["method"] == "cg-sc-all")
    run = load(results.out / "runs" / Cell("cg-sc-all", LABELS, 1, 1, other["weight"]).folder)
    assert tuple(run.splits.labelled.tolist()) not in labelled
    assert run.config.score_from == str((results.out / "runs" / "score").resolve())


def test_figures_of_the_classifier_are_of_every_test_image_once(compared: Compared) -> None:
    """From the run itself, with the same noise: the share of hits, and the images in the bins."""
    results = compared.results
    rows = [r for r in results.rows if r.get("sigma") == 0.5 and r["method"] == "cg"]
    (hits,) = (r for r in rows if r["metric"] == "classifier-accuracy")
    (error,) = (r for r in rows if r["metric"] == "classifier-ece")
    run = load(results.out / "runs" / Cell("cg", LABELS).folder)
    test = run.splits.test
    x, y = run.dataset.examples(test), torch.from_numpy(run.dataset.labels[test])
    process, t = run.classifier.process, run.classifier.process.time_at(torch.tensor(0.5))
    noise = torch.randn(x.shape, generator=generator_for("classifier figures", "0.5"))
    p = run.classifier.log_prob(process.perturb(x, t, noise), t).detach().exp()
    assert hits["value"] == pytest.approx(float((p.argmax(1) == y).double().mean()))
    confidence, accuracy, share = np.transpose(error["bins"])
    assert share.sum() == pytest.approx(1)
    assert (share * accuracy).sum() == pytest.approx(hits["value"])
    assert (share * confidence).sum() == pytest.approx(float(p.amax(1).mean()), rel=1e-4)
    assert error["value"] == pytest.approx((share * np.abs(accuracy - confidence)).sum())
    halves = error["high"] - error["value"], error["value"] - max(error["low"], 0)
    assert halves[0] > 0
    assert halves[0] == pytest.approx(halves[1]) or error["low"] == 0


@pytest.mark.parametrize(
    ("split", "seed", "per_class"), [("validation", 1, 40), ("report", 0, 10)]
)
def test_choices_and_reports_are_by_images_and_samples_of_their_own(
    compared: Compared, split: str, seed: int, per_class: int
) -> None:
    """By hand, from the run: what is chosen by takes no part in what is reported."""
    cell = Cell("cg", LABELS)
    run = load(compared.results.out / "runs" / cell.folder)
    row = next(
        r
        for r in compared.results.rows
        if (r["split"], r["metric"], r["class"]) == (split, "intra-fid", None)
        and cell_of(r) == cell
    )
    drawn = run.draw(n=10 * per_class, scale=row["scale"], steps=3, seed=seed)
    validation, everything = run.splits.validation, np.arange(len(run.dataset))
    chosen = validation if split == "validation" else np.setdiff1d(everything, validation)
    reader = train_judge(run.dataset)
    real, fake = (reader.read(x)[0] for x in (run.dataset.examples(chosen), drawn.images))
    mean, _ = intra(fid)(real, run.dataset.labels[chosen], fake, drawn.labels)
    assert row["value"] == pytest.approx(mean, rel=1e-3)


def test_a_failed_cell_is_told_and_stops_nothing(compared: Compared) -> None:
    results = compared.results
    ((cell, why),) = results.failed.items()
    assert cell == Cell("cg", LABELS, 1, 1)
    assert "is a file, not a folder" in why


def test_the_same_command_repeats_no_finished_cell_and_tries_the_failed_one_again(
    compared: Compared, protocol: Protocol
) -> None:
    results = compared.results
    before = list(results.rows)
    (results.out / "runs" / Cell("cg", LABELS, 1, 1).folder).unlink()
    logs = {path: path.stat().st_mtime_ns for path in results.out.rglob("metrics.jsonl")}
    again = run_comparison(results.out, asked(protocol, seeds=2))
    assert again.failed == {}
    assert again.rows[: len(before)] == before
    new = again.rows[len(before) :]
    assert {(r["method"], r["label_seed"]) for r in new} == {("cg", 1)}
    assert {r["split"] for r in new} == {"validation", "report"}
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in logs.items())


def test_killed_in_the_middle_it_goes_on_with_what_was_finished(compared: Compared) -> None:
    rows = compared.results.rows
    kept = {(cell_of(row).method, row["split"]) for row in compared.before}
    assert kept == {("cg", "validation"), ("cg-sc-all", "validation")}
    assert rows[: len(compared.before)] == compared.before
    keys = ("split", "scale", "metric", "class", "sigma")
    figures = [(cell_of(row), *(row.get(key) for key in keys)) for row in rows]
    assert len(set(figures)) == len(figures)  # none was computed twice


def test_a_process_that_was_killed_is_told_and_nothing_is_lost(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the system, for want of memory, that is; the same command goes on."""
    score = tmp_path / "runs" / "score"
    with monkeypatch.context() as patch:
        patch.setattr(compare, "perform", killed)
        with pytest.raises(TrainingError, match=r"was killed, .* use fewer --jobs; the same"):
            run_comparison(tmp_path, asked(protocol, ["cg"]), jobs=2)
    trained = {path: path.stat().st_mtime_ns for path in score.rglob("*") if path.is_file()}
    results = run_comparison(tmp_path, asked(protocol, ["cg"]))
    assert results.failed == {}
    assert {row["split"] for row in results.rows} == {"validation", "report"}
    assert trained == {path: path.stat().st_mtime_ns for path in trained}


def test_figures_of_repeats_that_were_not_asked_for_are_not_shown(
    compared: Compared, protocol: Protocol
) -> None:
    rows = write_results(compared.results, asked(protocol))["rows"]
    assert {row["repeats"] for row in rows} == {1}
    page = (compared.results.out / "report.html").read_text()
    assert f"--labels {LABELS} --seeds 1" in page


def test_a_folder_of_another_comparison_is_refused(compared: Compared, protocol: Protocol) -> None:
    with pytest.raises(
        UserError, match=r"is another comparison: there per_class is 10, now it is 11"
    ):
        run_comparison(compared.results.out, asked(replace(protocol, per_class=11)))


def test_the_table_has_the_mean_over_draws_with_student_intervals(
    compared: Compared, protocol: Protocol
) -> None:
    """Against scipy, from the lines of results.jsonl; without what no share or distance can be."""
    results = Results.open(compared.results.out, protocol)
    document = write_results(results, asked(protocol, seeds=2))
    assert any("10 generated images for" in note for note in document["notes"])
    lines = (results.out / "results.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "report"]
    for told in document["rows"]:
        same = [
            row["value"]
            for row in rows
            if row["class"] is None
            and all(row.get(k) == told.get(k) for k in ("method", "metric", "sigma"))
        ]
        assert told["value"] == pytest.approx(np.mean(same))
        assert told["repeats"] == len(same)
        if len(set(same)) == 1:  # of one run, or by chance: the interval is that of the samples
            assert told["low"] < told["value"] < told["high"] or told["value"] in (0, 1)
        else:
            half = stats.t.ppf(0.975, len(same) - 1) * stats.sem(same)
            most = np.inf if told["metric"] == "intra-fid" else 1.0
            interval = max(0.0, told["value"] - half), min(most, told["value"] + half)
            assert (told["low"], told["high"]) == pytest.approx(interval)
    assert {row["method"] for row in document["rows"]} == set(METHODS)
    table = (results.out / "table.md").read_text()
    for method in METHODS:
        assert f"| {method} |" in table
    assert table.count("the best |") == 2  # accuracy and intra-FID
    page = (results.out / "report.html").read_text()
    assert "fewlabel compare" in page
    assert f"--labels {LABELS} --seeds 2" in page


def test_the_command_prints_one_document_and_repeats_nothing(
    compared: Compared, protocol: Protocol, cli: Callable[..., SimpleNamespace]
) -> None:
    out = compared.results.out
    sets = [word for override in protocol.overrides for word in ("--set", override)]
    grid = ["--methods", ",".join(METHODS), "--labels", LABELS, "--seeds", 2, "--out", out]
    how = ["--scale", "1,3", "--metrics", "accuracy,intra-fid", "-n", 10, "--steps", 3]
    before = (out / "results.jsonl").read_bytes()
    done = cli("compare", "digits", *grid, *how, *sets, "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert document["failed"] == {}
    assert (out / "results.jsonl").read_bytes() == before
    told = [row for row in document["rows"] if row["metric"] == "intra-fid"]
    assert {row["method"] for row in told} == set(METHODS)
    # and the command on the page is one that goes on with the same comparison
    page = html.unescape((out / "report.html").read_text())
    again = next(line for line in page.splitlines() if "fewlabel compare digits" in line)
    words = shlex.split(again[again.index("fewlabel compare") :].split("<")[0])
    assert cli(*words[1:], "--json").status == 0
    assert (out / "results.jsonl").read_bytes() == before
