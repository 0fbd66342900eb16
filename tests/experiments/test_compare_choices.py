"""Comparisons: what is chosen by what, who teaches whom, and what is repeated."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compare_cases import LABELS, asked

from fewlabel.data import draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.experiments.compare import Amount, Results, known_tasks, run_comparison
from fewlabel.experiments.compare_cells import Cell, Protocol, Row, candidates, cell_of, chosen
from fewlabel.experiments.compare_results import write_results
from fewlabel.experiments.grid import Grid
from fewlabel.run import load


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
        tasks = known_tasks(results, [Amount([sc, cg], [(0, 0), (1, 1)])], protocol)
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
