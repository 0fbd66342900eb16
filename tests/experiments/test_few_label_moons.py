import math
from collections.abc import Callable
from pathlib import Path

import pytest

from fewlabel.experiments.few_label_moons import Effort, reproduce_few_label_moons

KEYS = {"method", "n_labels", "draw", "metric", "sigma", "value"}
SHORT = Effort(
    ("cg", "cfg-all"),
    (4, 10),
    2,
    score_steps=6,
    classifier_steps=3,
    points=40,
    samples=8,
    sampler_steps=4,
)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("few")
    return out, reproduce_few_label_moons(out, SHORT)


def test_rows_are_those_of_the_contract(short: tuple[Path, dict]) -> None:
    rows = short[1]["rows"]
    assert all(set(row) == KEYS for row in rows)
    assert all(math.isfinite(row["value"]) for row in rows)
    cells = {(r["method"], r["n_labels"], r["draw"], r["metric"], r["sigma"]) for r in rows}
    assert cells == {
        (method, n, draw, metric, sigma)
        for method in ("cg", "cfg-all")
        for n in (4, 10)
        for draw in (0, 1)
        for metric in ("D_P", "D_L", "D_S", "accuracy", "ECE")
        for sigma in (1.0, 3.0, 7.5)
    }
    assert len(cells) == len(rows)


def test_classifiers_share_the_score_model_and_draws_differ(short: tuple[Path, dict]) -> None:
    of_cg = [r for r in short[1]["rows"] if r["method"] == "cg" and r["sigma"] == 1.0]
    assert len({row["value"] for row in of_cg if row["metric"] == "D_S"}) == 1
    assert len({row["value"] for row in of_cg if row["metric"] == "D_L"}) == 4


def test_the_summary_is_the_mean_over_draws(short: tuple[Path, dict]) -> None:
    document = short[1]
    for row in document["summary"]:
        same = ("method", "n_labels", "metric", "sigma")
        values = [r["value"] for r in document["rows"] if all(r[key] == row[key] for key in same)]
        assert row["value"] == pytest.approx(sum(values) / 2)
        assert row["low"] <= row["value"] <= row["high"]


def test_bayes_accuracy_falls_with_the_noise(short: tuple[Path, dict]) -> None:
    low, middle, high = short[1]["bayes_accuracy"].values()
    assert 1 >= low >= middle > high > 0.8


def test_leaves_a_table_and_a_figure(short: tuple[Path, dict]) -> None:
    out, document = short
    assert Path(document["figure"]).stat().st_size > 10_000
    assert "| cfg-all |" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("few-moons",), "experiment 'few-moons' is unknown; choose one of dlsm-moons"),
        (("dlsm-moons", "--quick"), "no recipe 'quick'; choose one of own, paper"),
        (("few-label-moons", "--recipe", "paper"), "choose one of own, quick"),
    ],
)
def test_wrong_usage_is_one_line(
    cli: Callable, tmp_path: Path, arguments: tuple, message: str
) -> None:
    done = cli("reproduce", *arguments, "--out", tmp_path / "rep")
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "rep").exists()
