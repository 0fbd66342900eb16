"""Comparisons: what is chosen by what, what is repeated, and what a failed cell does."""

import html
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from fewlabel.data import draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.experiments import compare
from fewlabel.experiments.compare import Results, known_tasks, run_comparison
from fewlabel.experiments.compare_cells import (
    Cell,
    Protocol,
    Row,
    Task,
    candidates,
    cell_of,
    chosen,
)
from fewlabel.experiments.compare_checks import checked
from fewlabel.experiments.compare_results import write_results
from fewlabel.experiments.demo import run_demo
from fewlabel.experiments.grid import Grid
from fewlabel.files import locked
from fewlabel.metrics import fid, intra, judge
from fewlabel.metrics.judge import train_judge
from fewlabel.randomness import generator_for
from fewlabel.run import Run, load

LABELS = "2/class"
METHODS = ["cg", "cg-sc-all", "cond"]


def asked(
    protocol: Protocol,
    methods: Sequence[str] = METHODS,
    labels: Sequence[str] = (LABELS,),
    **repeats: Any,
) -> Grid:
    return Grid(protocol, tuple(methods), tuple(labels), **repeats)


@pytest.fixture(scope="session")
def protocol(tiny: tuple[str, ...]) -> Protocol:
    """A comparison of seconds."""
    steps = ("score.fit.steps=6", "classifier.fit.steps=6", "score.sheet_every=0")
    quick: dict[str, Any] = {"per_class": 10, "steps": 3}
    return Protocol(
        "digits",
        overrides=(*tiny, *steps),
        scales=(1.0, 3.0),
        metrics=("accuracy", "intra-fid"),
        **quick,
    )


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
    out, script, twice = folder / "out", folder / "compare.py", asked(protocol, seeds=2)
    taken = out / "runs" / Cell("cg", LABELS, 1, 1).folder
    taken.parent.mkdir(parents=True)
    taken.write_text("in the way")
    script.write_text(
        "from pathlib import Path\n"
        "from fewlabel.experiments.compare import run_comparison\n"
        "from fewlabel.experiments.grid import Grid\n"
        "from fewlabel.experiments.compare_cells import Protocol\n"
        "if __name__ == '__main__':\n"
        f"    run_comparison(Path({str(out)!r}), {twice!r})\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    while not (out / "results.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = (out / "results.jsonl").read_text()
    assert text.endswith("\n")
    before = [json.loads(line) for line in text.splitlines()]
    return Compared(run_comparison(out, twice, jobs=2), before)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are done in this process, as they are given."""

    class Pool:
        def __init__(self, *how: object) -> None:
            pass

        def submit(self, work: Callable[[Task], list[Row]], task: Task) -> Future[list[Row]]:
            done: Future[list[Row]] = Future()
            try:
                done.set_result(work(task))
            except Exception as error:
                done.set_exception(error)
            return done

        def shutdown(self, **how: object) -> None:
            pass

    monkeypatch.setattr(compare, "ProcessPoolExecutor", Pool)


@pytest.fixture
def weak_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their verdicts are not looked at."""
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "_STEPS", 20)


@pytest.mark.usefixtures("at_once")
def test_the_shared_score_model_teaches_a_method_that_has_none(
    protocol: Protocol, tmp_path: Path
) -> None:
    results = run_comparison(tmp_path, asked(protocol, ["dpt-lp"]))
    assert results.failed == {}
    run = load(tmp_path / "runs" / Cell("dpt-lp", LABELS).folder)
    assert run.config.teacher == f"features:{(tmp_path / 'runs' / 'score').resolve()}"
    assert run.config.score_from is None


@pytest.mark.usefixtures("at_once")
def test_a_teacher_of_the_users_teaches_the_methods_that_take_one(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that calls every image a 3: so does what it taught, and plain guidance does not."""
    dataset = open_dataset("digits")
    names = dataset.class_names
    sure = ",".join("1" if name == "3" else "0" for name in names)
    lines = [",".join(["index", *names]), *(f"{i},{sure}" for i in range(len(dataset)))]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    steps = (*protocol.overrides, "classifier.fit.steps=40")
    taught = replace(protocol, teacher="mine.csv", overrides=steps)
    results = run_comparison(tmp_path / "out", asked(taught, ["cg", "lpg"]))
    assert results.failed == {}
    cg, lpg = (load(tmp_path / "out" / "runs" / Cell(m, LABELS).folder) for m in ("cg", "lpg"))
    assert cg.config.teacher is None
    assert lpg.config.teacher == str((tmp_path / "mine.csv").resolve())
    clean = dataset.examples(cg.splits.validation)
    t = torch.full((len(clean),), 0.1)
    threes = [(r.classifier.log_prob(clean, t).argmax(1) == 3).double().mean() for r in (cg, lpg)]
    assert threes[0] < 0.9 < threes[1]
    with pytest.raises(UserError, match=r"--teacher mine.csv: none of cg takes one; .* add lpg"):
        run_comparison(tmp_path / "no", asked(taught, ["cg"]))


def test_the_score_model_of_a_comparison_is_the_same_from_every_folder(
    protocol: Protocol, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run.folder.path
    monkeypatch.chdir(folder.parent)
    whole = checked(asked(replace(protocol, score=folder.name), ["cg"]))
    assert whole.protocol.score == str(folder)
    assert whole == checked(whole)
    with pytest.raises(UserError, match="there is no run folder mine"):
        checked(asked(replace(protocol, score="mine"), ["cond", "cg"]))


def row(cell: Cell, scale: float, value: float, **more: Any) -> Row:
    keys = {"method": cell.method, "labels": cell.labels, "label_seed": cell.label_seed}
    keys |= {"seed": cell.seed, "weight": cell.weight}
    figure = {"metric": "intra-fid", "class": None, "scale": scale, "value": value}
    return {**keys, "split": "validation", **figure, **more}


def test_the_least_validation_figure_over_weights_and_scales_is_chosen_and_nothing_else() -> None:
    cells = candidates(Cell("cg-sc-all", LABELS), 0.0)
    assert [cell.weight for cell in cells] == [5.0, 20.0, 80.0]
    rows = [row(cell, scale, 10.0) for cell in cells for scale in (1.0, 2.0)]
    rows += [
        row(cells[1], 3.0, 4.0),
        row(cells[2], 2.5, 1.0, split="report"),
        row(cells[2], 2.5, 1.0, metric="accuracy"),
        row(cells[2], 2.5, 1.0, **{"class": 3}),
        row(Cell("cg-sc-all", "all", weight=5.0), 6.0, 1.0),
    ]
    assert chosen(rows, cells) == (cells[1], 3.0)
    with pytest.raises(LookupError):
        chosen(rows, candidates(Cell("cg-dlsm", LABELS), 0.0))


def test_a_method_is_reported_before_the_weights_of_another_are_tried(
    protocol: Protocol, tmp_path: Path
) -> None:
    """What can be done follows from the figures that are there; nothing waits for the rest."""
    sc, cg = candidates(Cell("cg-sc-all", LABELS), 0.0), [Cell("cg", LABELS)]
    results = Results(tmp_path)

    def left() -> set[tuple[str, str, float | None, int, tuple[float, ...]]]:
        tasks = known_tasks(results, [([sc, cg], [(0, 0), (1, 1)])], protocol)
        cells = [(task.cell, task) for task in tasks if not results.is_over(task)]
        return {(c.method, t.split, c.weight, c.seed, t.scales) for c, t in cells}

    tried = {("cg-sc-all", "validation", weight, 0, (1.0, 3.0)) for weight in (5.0, 20.0, 80.0)}
    other = ("cg", "validation", None, 1, (1.0, 3.0))  # it has no weight to wait for
    assert left() == {*tried, ("cg", "validation", None, 0, (1.0, 3.0)), other}
    results.add([row(cg[0], 1.0, 5.0), row(cg[0], 3.0, 4.0)])
    of_cg = {("cg", "report", None, 0, (3.0,)), other}
    assert left() == tried | of_cg
    results.add([row(sc[0], 1.0, 2.0), row(sc[1], 1.0, 1.0)])
    assert left() == {("cg-sc-all", "validation", 80.0, 0, (1.0, 3.0)), *of_cg}
    results.failed[sc[2]] = "no memory"
    of_sc = {
        ("cg-sc-all", "report", 20.0, 0, (1.0,)),
        ("cg-sc-all", "validation", 20.0, 1, (1.0, 3.0)),
    }
    assert left() == of_sc | of_cg


@pytest.mark.parametrize(
    ("labels", "shares"),
    [("1/class", [None, 0.1, 0.25]), ("0.2", [None, 0.25]), ("all", [None])],
)
def test_labels_are_shown_as_often_as_in_the_data_or_more_often(
    labels: str, shares: list[float | None]
) -> None:
    splits = draw_splits(open_dataset("digits"), labels, 0)
    cells = candidates(Cell("cfg-all", labels), splits.labelled_share)
    assert [cell.weight for cell in cells] == shares


@pytest.mark.usefixtures("at_once")
def test_the_share_of_labels_is_chosen_on_validation_and_trained_with(
    protocol: Protocol, tmp_path: Path
) -> None:
    results = run_comparison(tmp_path, asked(protocol, ["cfg-all"]))
    assert results.failed == {}
    cells = candidates(Cell("cfg-all", LABELS), 0.0)
    for cell in cells:
        run = load(tmp_path / "runs" / cell.folder)
        assert run.config.score.fit.labelled_share == cell.weight
    best, scale = chosen(results.rows, cells)
    reports = [r for r in results.rows if r["split"] == "report"]
    assert {(cell_of(r), r["scale"]) for r in reports} == {(best, scale)}
    # figures of a share that is no longer chosen, since another could not be tried, do not count
    other = next(cell.weight for cell in cells if cell != best)
    stale = [r | {"weight": other, "value": 99.0} for r in reports]
    tables = [
        write_results(found, asked(protocol, ["cfg-all"]))["rows"]
        for found in (results, Results(tmp_path, [*stale, *results.rows]))
    ]
    assert tables[0] == tables[1]


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


@pytest.mark.usefixtures("at_once")
def test_the_command_fails_if_every_cell_does(
    tiny: tuple[str, ...],
    tmp_path: Path,
    cli: Callable[..., SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(task: Task, **how: object) -> list[Row]:
        raise OSError("the disk is gone")

    monkeypatch.setattr(compare, "perform", broken)
    sets = [word for override in tiny for word in ("--set", override)]
    done = cli("compare", "digits", "--methods", "cond", "--out", tmp_path / "out", *sets)
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert last == "fewlabel: every cell failed: OSError: the disk is gone"


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
    assert {row["split"] for row in compared.before} == {"validation"}
    assert rows[: len(compared.before)] == compared.before
    keys = ("split", "scale", "metric", "class", "sigma")
    figures = [(cell_of(row), *(row.get(key) for key in keys)) for row in rows]
    assert len(set(figures)) == len(figures)  # none was computed twice


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["cgg"]}, r"method 'cgg' is unknown"),
        ({"methods": ["cg", "cg"]}, r"--methods cg,cg: give each once"),
        ({"labels": ["5000/class"]}, r"5000"),
        ({"seeds": 0}, r"--seeds 0: give at least 1"),
        ({"draws": -1}, r"--draws -1: give at least 1"),
        ({"jobs": 0}, r"--jobs 0: give at least 1"),
        ({"metrics": ("accuracy", "beauty")}, r"metric 'beauty' is unknown"),
        ({"scales": ()}, r"no guidance scale"),
        ({"scales": (1.0, -2.0)}, r"guidance scale -2 is not"),
        ({"sampler": "dpm+"}, r"sampler 'dpm\+' is unknown"),
        ({"steps": 1}, r"steps=1 is too few"),
        ({"per_class": 5}, r"5 samples per class are too few for accuracy"),
        ({"extractor": "jury"}, r"extractor 'jury' is unknown"),
        ({"metrics": ("accuracy",), "overrides": ("score.fit.stepz=3",)}, r"stepz: unknown key"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    protocol: Protocol, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    of_protocol = {k: v for k, v in change.items() if k in vars(protocol)}
    given = {"methods": ["cg"]} | {k: v for k, v in change.items() if k not in of_protocol}
    jobs = given.pop("jobs", 1)
    with pytest.raises(UserError, match=said):
        run_comparison(
            tmp_path / "out", asked(replace(protocol, **of_protocol), **given), jobs=jobs
        )
    assert not (tmp_path / "out").exists()


def birds(root: Path, coots: int) -> str:
    """A folder of two classes, one of 8 images, and 5 images without a label."""
    rng = np.random.default_rng(0)
    for name, n in {"heron": 8, "coot": coots, "unlabeled": 5}.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return str(root)


@pytest.mark.usefixtures("at_once", "weak_judges")
def test_classes_too_small_to_choose_by_are_refused_before_anything_is_trained(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Of 8 labelled images two are held out to choose by, of 7 one, which has no spread."""
    few = replace(protocol, data=birds(tmp_path / "few", 7))
    said = r"intra-fid needs 2 .* in the validation split, and of class coot of few 1 is there"
    with pytest.raises(UserError, match=said):
        run_comparison(tmp_path / "out", asked(few, ["cg"], ["all"]))
    with pytest.raises(UserError, match=said):
        run_demo(tmp_path / "out", str(tmp_path / "few"), "all")
    assert not (tmp_path / "out").exists()
    enough = replace(protocol, data=birds(tmp_path / "enough", 8))
    results = run_comparison(tmp_path / "out", asked(enough, ["cg"], ["all"]))
    assert results.failed == {}
    assert {row["split"] for row in results.rows} == {"validation", "report"}


@pytest.mark.usefixtures("at_once", "weak_judges")
def test_a_comparison_goes_on_with_the_labels_it_was_begun_with(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rows in the same CSV: methods that come later would know other labels."""
    monkeypatch.chdir(tmp_path)
    of_birds, listed = replace(protocol, data=birds(tmp_path / "birds", 10)), tmp_path / "few.csv"
    dataset = open_dataset(of_birds.data)
    rows = draw_splits(dataset, "all", 0).labelled
    assert dataset.files is not None
    names = [dataset.files[row] for row in [*rows[:3], *rows[-3:]]]
    listed.write_text("\n".join(["file", *names[1:-1]]))
    begun = run_comparison(tmp_path / "out", asked(of_birds, ["cg"], ["few.csv"], draws=3))
    assert begun.failed == {}
    assert {row["label_seed"] for row in begun.rows} == {0}
    run_comparison(tmp_path / "out", asked(of_birds, ["cg"], ["few.csv"], draws=3))
    listed.write_text("\n".join(["file", *names]))
    with pytest.raises(UserError, match=r"cg, few.csv labels, draw 0.* begun with other labels"):
        run_comparison(tmp_path / "out", asked(of_birds, ["cond"], ["few.csv"], draws=3))


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [("0.05", True), ("4/class", True), ("all", False), ("1.0", False), ("mine.csv", False)],
)
def test_draws_repeat_only_what_is_drawn(labels: str, drawn: bool) -> None:
    """Another draw of all labels is the same training again: no repeat that tells anything."""
    both = [(draw, seed) for draw in range(3) for seed in range(2)]
    grid = Grid(Protocol("digits"), seeds=2, draws=3)
    assert grid.repeats(labels) == (both if drawn else both[:2])
    assert replace(grid, draws=None).repeats(labels) == [(0, 0), (1, 1)]


def test_a_comparison_is_refused_while_another_has_its_folder(
    protocol: Protocol, tmp_path: Path
) -> None:
    with locked(tmp_path / "out"), pytest.raises(UserError, match="worked in by another process"):
        run_comparison(tmp_path / "out", asked(protocol, ["cg"]))


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
