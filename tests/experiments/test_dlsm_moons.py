import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from moons_cases import ExactClassifier, ExactScores, SureClassifier, few_moons
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.experiments import dlsm_moons
from fewlabel.experiments.dlsm_moons import (
    PUBLISHED,
    Effort,
    reproduce_dlsm_moons,
    reproduce_paper,
)
from fewlabel.experiments.dlsm_moons_paper import PROCESS
from fewlabel.experiments.moons import Entry, finished_run
from fewlabel.metrics.score_error import plane_grid
from fewlabel.oracle import GaussianMixture
from fewlabel.report.fields import Overview

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
    kept = json.loads((out / "table.json").read_text())
    assert kept == document | {"figure": "moons.png"}  # so that the folder may move


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


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return few_moons(100)


@dataclass
class Exact:
    """By method, metric, noise level and class the figures; and what is drawn."""

    figures: dict[tuple[Any, ...], float]
    shown: Overview


@pytest.fixture(scope="module")
def exact(mixture: GaussianMixture, tmp_path_factory: pytest.TempPathFactory) -> Exact:
    """The figures of exact scores, of an exact classifier, and of one that guides nowhere.

    The samples of class 0 are the left half of its points, those of class 1 lie far from all.
    """
    scores: Any = ExactScores(mixture, PROCESS)
    classifiers: list[Any] = [ExactClassifier(mixture, PROCESS), SureClassifier()]
    entries = {
        "cond": Entry(scores, None, "conditional"),
        "cg": Entry(scores, classifiers[0], "classifier"),
        "cg-dlsm": Entry(scores, classifiers[1], "classifier"),
    }
    left = mixture.means[mixture.classes == 0][25:].repeat(2, 1)

    def drawn(entry: Entry, labels: Tensor, *how: object) -> Tensor:
        assert labels.tolist() == [0] * 50 + [1] * 50
        return torch.cat([left + 0.01, left + 1000])

    shown: list[Overview] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dlsm_moons, "paper_entries", lambda *how: entries)
        patch.setattr(dlsm_moons, "moons_mixture", lambda: mixture)
        patch.setattr(dlsm_moons, "draw_points", drawn)
        patch.setattr(dlsm_moons, "moons_overview", lambda what, path: shown.append(what))
        out = tmp_path_factory.mktemp("exact")
        document = reproduce_paper(out, Effort(points=200, samples=50))
    rows = [*document["rows"], *document["by_noise"]]
    figures = {(r["method"], r["metric"], r["sigma"], r.get("class")): r["value"] for r in rows}
    return Exact(figures, *shown)


def test_exact_scores_have_no_error(exact: Exact) -> None:
    errors = [
        v for (m, d, *_), v in exact.figures.items() if m in ("cond", "cg") and d[:2] == "D_"
    ]
    assert len(errors) == (1 + 3) * (2 + 9)  # cond has D_P alone; the classes, and noise levels
    assert max(errors) < 1e-4


def test_scores_that_are_not_guided_miss_the_likelihood_score(
    exact: Exact, mixture: GaussianMixture
) -> None:
    """By hand on the grid, of each class; and ten times the exact one is off by nine of it."""
    x, t = plane_grid((-40.0, -25.0), (40.0, 25.0), 35), PROCESS.time_at(torch.tensor(7.5))
    for y in range(2):
        missed = mixture.likelihood_score(PROCESS)(x, t, torch.tensor(y)).norm(dim=1).mean()
        assert exact.figures["cg-dlsm", "D_L", 7.5, y] == pytest.approx(float(missed), rel=1e-4)
    off = {
        key[1:]: v for key, v in exact.figures.items() if key[0] == "cg-dlsm" and key[1] == "D_L"
    }
    assert len(off) == 2 + 9
    for (_, *where), value in off.items():
        for metric in ("D_P", "D_L"):
            assert exact.figures["cg-x10", metric, *where] == pytest.approx(9 * value, abs=1e-4)
        assert exact.figures["cg-dlsm", "D_P", *where] == pytest.approx(value, abs=1e-4)


def test_an_exact_classifier_is_calibrated_and_a_sure_one_is_not(exact: Exact) -> None:
    for sigma in (3.0, 5.0, 7.5, 10.0):
        assert exact.figures["cg", "ECE", sigma, None] < 0.05
        assert (
            exact.figures["cond", "ECE", sigma, None] < 0.06
        )  # of the classifier that it implies
        assert exact.figures["cg-dlsm", "ECE", sigma, None] == pytest.approx(0.5, abs=0.06)


def test_half_of_a_class_is_precise_but_recalls_only_that_half(exact: Exact) -> None:
    found = {key[1::2]: v for key, v in exact.figures.items() if key[0] == "cg"}
    assert found["precision", 0] == 1
    assert 0.5 <= found["recall", 0] < 0.6
    assert (found["precision", 1], found["recall", 1]) == (0, 0)


def test_the_fields_of_the_figure_are_those_of_the_upper_class(
    exact: Exact, mixture: GaussianMixture
) -> None:
    assert mixture.means[mixture.classes == 0, 1].mean() > 0
    fields, x, t = exact.shown.fields, exact.shown.grid, PROCESS.time_at(torch.tensor(7.5))
    likelihood = mixture.likelihood_score(PROCESS)(x, t, torch.tensor(0))
    times = {"exact": 1.0, "cg": 1.0, "cg-x10": 10.0, "cg-dlsm": 0.0}
    for name, scale in times.items():
        found = fields[name]
        assert found is not None
        torch.testing.assert_close(found, scale * likelihood, rtol=1e-4, atol=1e-6)
    assert fields.keys() == {*times, "cond"}
    assert fields["cond"] is None
