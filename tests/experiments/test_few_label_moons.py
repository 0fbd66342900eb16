import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from moons_cases import ExactClassifier, ExactScores, SureClassifier, few_moons

from fewlabel.data import draw_splits
from fewlabel.data.moons import load_moons
from fewlabel.experiments import few_label_moons
from fewlabel.experiments.few_label_moons import PROCESS, Effort, reproduce_few_label_moons
from fewlabel.methods import METHODS
from fewlabel.oracle import GaussianMixture
from fewlabel.report.fields import Overview

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


@dataclass
class Exact:
    """What is told, and what is drawn."""

    document: dict[str, Any]
    shown: Overview


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return few_moons(100)


@pytest.fixture(scope="module")
def exact(mixture: GaussianMixture, tmp_path_factory: pytest.TempPathFactory) -> Exact:
    """Of exact scores: cg has an exact classifier, cg-ls one that guides nowhere."""
    data, shown = load_moons(), []
    scores = ExactScores(mixture, PROCESS)
    classifiers = {"cg": ExactClassifier(mixture, PROCESS), "cg-ls": SureClassifier()}

    def run(out: Path, method: str, **how: Any) -> SimpleNamespace:
        return SimpleNamespace(
            method=METHODS[method],
            score_model=scores,
            classifier=classifiers.get(method),
            folder=SimpleNamespace(path=out),
            dataset=data,
            splits=draw_splits(data, how.get("labels", "all"), 0),
        )

    few = Effort(("cg", "cg-ls", "cfg-all"), (10,), 1, points=400, samples=2, sampler_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_label_moons, "finished_run", run)
        patch.setattr(few_label_moons, "moons_mixture", lambda: mixture)
        patch.setattr(few_label_moons, "moons_overview", lambda what, path: shown.append(what))
        document = reproduce_few_label_moons(tmp_path_factory.mktemp("exact"), few)
    return Exact(document, *shown)


def test_exact_scores_have_no_error(exact: Exact) -> None:
    for rows, levels in ((exact.document["rows"], 3), (exact.document["by_noise"], 8)):
        errors = [r["value"] for r in rows if r["metric"][:2] == "D_" and r["method"] != "cg-ls"]
        assert len(errors) == 2 * 3 * levels
        assert max(errors) < 1e-4
        missed = {(r["metric"], r["sigma"]): r["value"] for r in rows if r["method"] == "cg-ls"}
        for sigma in {sigma for _, sigma in missed}:  # the likelihood score, all of it
            assert missed["D_P", sigma] == pytest.approx(missed["D_L", sigma], abs=1e-4)
            assert missed["D_S", sigma] < 1e-4
        assert all(missed["D_L", sigma] > 0.01 for sigma in (3.0, 7.5))


def test_an_exact_classifier_is_as_right_as_bayes_rule_and_calibrated(exact: Exact) -> None:
    found = {(r["method"], r["metric"], r["sigma"]): r["value"] for r in exact.document["rows"]}
    for sigma in (1.0, 3.0, 7.5):
        best = exact.document["bayes_accuracy"][f"{sigma:g}"]
        assert found["cg", "accuracy", sigma] == best
        assert found["cfg-all", "accuracy", sigma] == pytest.approx(best, abs=0.03)
        assert found["cg", "ECE", sigma] < 0.05
        assert found["cfg-all", "ECE", sigma] < 0.05
        right = found["cg-ls", "accuracy", sigma]  # sure of one class: right as often as it comes
        assert right == pytest.approx(0.5, abs=0.08)
        assert found["cg-ls", "ECE", sigma] == pytest.approx(1 - right)


def test_the_fields_of_the_figure_are_those_of_the_upper_class(
    exact: Exact, mixture: GaussianMixture
) -> None:
    x, t = exact.shown.grid, PROCESS.time_at(torch.tensor(7.5))
    likelihood = mixture.likelihood_score(PROCESS)(x, t, torch.tensor(0))
    for name, found in exact.shown.fields.items():
        assert found is not None
        expected = 0 * likelihood if name == "cg-ls" else likelihood
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert exact.shown.fields.keys() == {"exact", "cg", "cg-ls", "cfg-all"}


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
