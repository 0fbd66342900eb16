"""What a comparison would cost, counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fewlabel import guidance, samplers
from fewlabel.errors import UserError
from fewlabel.experiments.cost import estimate_comparison
from fewlabel.experiments.grid import grid
from fewlabel.methods import METHODS
from fewlabel.models import build_classifier, build_score_model
from fewlabel.training.estimate import GPUS, UTILISATION, step_cost
from fewlabel.training.plan import plan

GIVEN = {"scales": (1.0, 3.0), "per_class": 30, "per_class_to_choose": 20}


def test_trainings_and_samples_are_those_of_the_grid(tiny: tuple[str, ...]) -> None:
    """Two amounts of labels, two draws: a weight is chosen on the first draw alone."""
    methods, labels = ("cg", "cg-sc-all", "cond"), ("2/class", "all")
    asked = grid("digits", None, False, methods, labels, 2, overrides=tiny, steps=5, **GIVEN)
    document = estimate_comparison(asked, "a100")
    rows = {row["method"]: row for row in document["rows"]}
    assert list(rows) == ["score model", *methods]
    assert {name: row["trainings"] for name, row in rows.items()} == {
        "score model": 1,
        "cg": 2 * 2,
        "cg-sc-all": 2 * (3 + 1),  # three weights, then the best once more
        "cond": 2 * 2,
    }
    ten = 10  # classes
    assert rows["cg"]["samples"] == 2 * 2 * ten * (2 * 20 + 30)
    assert rows["cg-sc-all"]["samples"] == 2 * ten * ((3 + 1) * 2 * 20 + 2 * 30)
    assert rows["cond"]["samples"] == 2 * 2 * ten * (20 + 30)  # it has no scale
    assert [s["stage"] for s in rows["cg"]["stages"]] == ["classifier"]
    of = {"method": "cg", "labels": "all"}
    config = plan("digits", options=of, overrides=tiny).config
    rate = GPUS["a100"].half * 1e12 * UTILISATION * 3600
    once = step_cost(config, "classifier", 10).operations * 16 * config.classifier.fit.steps
    assert rows["cg"]["training_hours"] == pytest.approx(4 * once / rate)
    hours = sum(row["training_hours"] + row["sampling_hours"] for row in rows.values())
    assert document["hours"] == pytest.approx(hours)


@pytest.mark.parametrize("labels", [("1/class", "0.2", "all"), ("all", "0.2", "1/class")])
def test_a_share_of_labels_is_tried_where_the_data_have_fewer(
    tiny: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    asked = grid("digits", None, False, ("cfg-all",), labels, 2, overrides=tiny, **GIVEN)
    (row,) = estimate_comparison(asked, "a100")["rows"]
    assert row["trainings"] == (3 + 1) + (2 + 1) + (1 + 1)


def test_labels_that_spread_along_a_score_model_cost_that_model_too(
    tiny: tuple[str, ...],
) -> None:
    asked = grid("digits", None, False, ("dpt-lp",), ("2/class",), overrides=tiny, **GIVEN)
    rows = estimate_comparison(asked, "a100")["rows"]
    assert [row["method"] for row in rows] == ["score model", "dpt-lp"]
    assert [stage["stage"] for stage in rows[1]["stages"]] == ["score"]  # and one of its own


@pytest.mark.parametrize(
    ("method", "sampler", "steps", "precision"),
    [("cg", "ddim", 6, "no"), ("cfg-all", "ddim", 6, "no"), ("cg", "pc", 4, "bf16")],
)
def test_a_sample_costs_what_pytorch_counts_while_it_is_drawn(
    tiny: tuple[str, ...], method: str, sampler: str, steps: int, precision: str
) -> None:
    how = {"overrides": (*tiny, f"precision={precision}")}
    asked = grid("digits", methods=[method], sampler=sampler, steps=steps, **how, **GIVEN)
    row = estimate_comparison(asked, "a100")["rows"][-1]
    config = plan("digits", options={"method": method, "labels": "all"}, **how).config
    score = build_score_model(config, 10 * METHODS[method].conditional)
    classifier = build_classifier(config, 10).requires_grad_(False)

    def likelihood(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """As a step backward, which the counter knows."""
        x = x.clone().requires_grad_()
        with torch.enable_grad():
            classifier.log_prob(x, t).gather(1, y[:, None]).sum().backward()
        return x.grad

    labels, kind = torch.tensor([0, 1, 2]), METHODS[method].guidance
    guided = guidance.of_kind(kind, score, likelihood, labels, 3.0)
    math = sdpa_kernel(SDPBackend.MATH)  # what CPUs take instead is not counted
    with math, FlopCounterMode(display=False) as counter:
        samplers.sample(guided, score.process, (3, *config.shape), sampler, steps)
    peak = {"no": GPUS["a100"].single, "bf16": GPUS["a100"].half}[precision]
    seconds = row["samples"] * counter.get_total_flops() / 3 / (peak * 1e12 * UTILISATION)
    assert row["sampling_hours"] == pytest.approx(seconds / 3600)


def test_a_dry_run_of_the_command_checks_and_writes_nothing(
    tiny: tuple[str, ...], cli: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    given = ["compare", "digits", "--methods", "cg,cfg-all", "--out", tmp_path / "out"]
    sets = [part for text in tiny for part in ("--set", text)]
    done = cli(*given, *sets, "--dry-run", "--json")
    assert done.status == 0
    assert [row["method"] for row in json.loads(done.out)["rows"]] == [
        "score model",
        "cg",
        "cfg-all",
    ]
    assert "in all, on one a100" in cli(*given, *sets, "--dry-run").out
    refused = cli(*given, "--labels", "5000/class", "--dry-run")
    assert (refused.status, "5000" in refused.err) == (2, True)
    assert not (tmp_path / "out").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "protocol.json").write_text('{"data": "birds"}')
    refused = cli(*given[:-1], other, "--dry-run")
    assert (refused.status, "is another comparison" in refused.err) == (2, True)
    with pytest.raises(UserError, match="GPU 'abacus' is unknown"):
        estimate_comparison(grid("digits"), "abacus")
