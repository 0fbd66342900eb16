import json
import math
from pathlib import Path

import pytest

from fewlabel.errors import UserError
from fewlabel.experiments.dlsm_moons import PUBLISHED, Effort, reproduce_dlsm_moons
from fewlabel.experiments.moons import finished_run

KEYS = {"method", "class", "metric", "sigma", "value", "published"}
SHORT = Effort(score_steps=8, classifier_steps=4, points=40, samples=40, sampler_steps=4)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("dlsm")
    return out, reproduce_dlsm_moons(out, SHORT)


def test_rows_are_those_of_the_contract(short: tuple[Path, dict]) -> None:
    out, document = short
    rows = document["rows"]
    assert all(set(row) == KEYS for row in rows)
    assert all(math.isfinite(row["value"]) for row in rows)
    assert len({(r["method"], r["class"], r["metric"]) for r in rows}) == len(rows)
    assert {row["method"] for row in rows} == {
        "cond",
        "cg",
        "cg-x10",
        "cg-dlsm",
        "cg-sc-labeled",
        "cg-sc-all",
    }
    assert json.loads((out / "table.json").read_text()) == document


def test_published_figures_stand_beside_ours(short: tuple[Path, dict]) -> None:
    found = {
        (r["method"], r["metric"], r["class"]): r["published"]
        for r in short[1]["rows"]
        if r["published"] is not None
    }
    known = {
        (method, metric, y): value
        for method, metrics in PUBLISHED.items()
        for metric, pair in metrics.items()
        for y, value in enumerate(pair)
    }
    assert found == known
    assert found["cg-dlsm", "D_L", 1] == 0.052


def test_the_scaled_row_is_ten_times_the_same_classifier(short: tuple[Path, dict]) -> None:
    of = {(r["method"], r["metric"], r["class"]): r["value"] for r in short[1]["rows"]}
    assert of["cg-x10", "D_L", 0] != of["cg", "D_L", 0]
    assert of["cg-x10", "D_S", 0] == of["cg", "D_S", 0]
    assert ("cond", "D_L", 0) not in of


def test_leaves_a_table_and_a_figure(short: tuple[Path, dict]) -> None:
    out, document = short
    assert (out / "moons.png").stat().st_size > 10_000
    assert document["figure"] == str(out / "moons.png")
    table = (out / "table.md").read_text()
    assert "(0.066/0.064)" in table
    assert "| cg-sc-all |" in table


def test_finished_runs_are_loaded_and_other_settings_refused(short: tuple[Path, dict]) -> None:
    out, document = short
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.safetensors")}
    again = reproduce_dlsm_moons(out, SHORT)
    assert again["rows"] == document["rows"]
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.safetensors")} == before
    with pytest.raises(UserError, match="is another run: there"):
        finished_run(out / "cg", "cg")
