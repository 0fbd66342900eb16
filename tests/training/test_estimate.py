"""Estimates before training, against real steps, closed forms and other counters."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fewlabel import methods
from fewlabel.batch import Batch, Part
from fewlabel.data import draw_splits, load_digits
from fewlabel.errors import UserError
from fewlabel.models import build_classifier, build_score_model
from fewlabel.randomness import StepRandom
from fewlabel.training.estimate import GPUS, UTILISATION, estimate, operations, step_cost
from fewlabel.training.plan import Plan, plan


def planned(tiny: tuple[str, ...], method: str = "cg", *overrides: str, **options: Any) -> Plan:
    given = {"method": method, "labels": "2/class"} | options
    return plan("digits", options=given, overrides=(*tiny, *overrides))


def test_operations_of_a_convolution_and_a_product_are_those_of_the_formula() -> None:
    x, weight = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.zeros(5, 3, 3, 3)
    weight.requires_grad_()
    forward = 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
    convolve = torch.nn.functional.conv2d
    assert operations(lambda: convolve(x, weight, padding=1)) == forward
    assert operations(lambda: convolve(x, weight, padding=1).sum().backward()) == 3 * forward
    assert operations(lambda: torch.zeros(7, 11) @ torch.zeros(11, 13)) == 2 * 7 * 11 * 13


@pytest.mark.parametrize("stage", ["score", "classifier"])
def test_the_operations_of_a_step_are_those_pytorch_counts_on_real_tensors(
    tiny: tuple[str, ...], stage: methods.Stage
) -> None:
    config = planned(tiny).config
    row, score, classifier = methods.METHODS["cg"], build_score_model(config), None
    classifier = build_classifier(config, 10)
    models = methods.Models(config.shape, score, classifier)
    objective = methods.objective(row.losses(stage), models, config.fit(stage).weights)
    batch = Batch(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]))
    batches: dict[Part, Batch] = {"all": batch, "labelled": batch}
    math = sdpa_kernel(SDPBackend.MATH)  # what CPUs take instead is not counted
    with math, FlopCounterMode(display=False) as counter:
        objective.total(objective(batches, StepRandom(0, 0))).backward()
    step = step_cost(config, stage, 10)
    assert step.operations == pytest.approx(counter.get_total_flops() / 3)
    model = score if stage == "score" else classifier
    assert step.parameters == sum(weight.numel() for weight in model.parameters())


def test_double_back_propagation_and_the_frozen_score_model_are_counted(
    tiny: tuple[str, ...],
) -> None:
    """A pass forward is 1, backward 2, and backward through both is twice that again."""
    of = {
        name: step_cost(planned(tiny, name).config, "classifier", 10)
        for name in ("cg", "cg-sc-all", "cg-dlsm", "cg-jem")
    }
    assert of["cg-sc-all"].operations > 2.5 * of["cg"].operations
    config = planned(tiny).config
    score, x = build_score_model(config), torch.zeros(1, 1, 8, 8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        score(x, torch.tensor(1.0))
    extra = of["cg-dlsm"].operations - of["cg-sc-all"].operations
    assert extra == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert of["cg-jem"].operations > 20 * 2 / 3 * of["cg"].operations  # 20 steps of a chain
    assert of["cg-jem"].activations < 10 * of["cg"].activations  # which is not kept
    weights = sum(weight.numel() for weight in score.parameters())
    assert (of["cg-dlsm"].frozen, of["cg-sc-all"].frozen) == (weights, 0)


def test_a_loss_of_every_eighth_row_costs_an_eighth(tiny: tuple[str, ...]) -> None:
    methods_of = {"plain": "lpg", "eighth": "lpg-dlsm", "each": "cg-dlsm", "ce": "cg"}
    of = {
        name: step_cost(planned(tiny, method).config, "classifier", 10).operations
        for name, method in methods_of.items()
    }
    assert of["plain"] == of["ce"]
    assert of["eighth"] - of["plain"] == pytest.approx((of["each"] - of["ce"]) / 8, rel=0.01)


def test_activations_are_what_autograd_keeps_of_real_tensors(tiny: tuple[str, ...]) -> None:
    """Within the copies that real kernels make of tensors in another memory format."""
    config, kept = planned(tiny).config, {}
    model = build_score_model(config)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    row, batch = methods.METHODS["cg"], Batch(torch.rand(8, 1, 8, 8), torch.zeros(8))
    objective = methods.objective(row.score, methods.Models(config.shape, model), {"dsm": 1.0})
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, sdpa_kernel(SDPBackend.MATH):
        values = objective({"all": batch}, StepRandom(0, 0))
    found = step_cost(config, "score", 10).activations
    assert found == pytest.approx(sum(kept.values()) / 8, rel=0.15)
    del values


def test_hours_and_memory_follow_from_batch_steps_precision_and_gpu(
    tiny: tuple[str, ...],
) -> None:
    def of(gpu: str, *overrides: str, method: str = "cg") -> dict[str, Any]:
        return estimate(planned(tiny, method, *overrides), gpu)

    plain, stage = of("a100"), of("a100")["stages"][0]
    rate = GPUS["a100"].half * 1e12 * UTILISATION * 3600
    assert stage["hours"] == pytest.approx(stage["operations_per_step"] * stage["steps"] / rate)
    assert plain["hours"] == pytest.approx(sum(s["hours"] for s in plain["stages"]))
    longer = of("a100", "score.fit.steps=2000")["stages"][0]
    assert longer["hours"] == pytest.approx(2 * stage["hours"])
    parts = of("a100", "score.fit.accumulate=2")["stages"][0]["memory"]
    assert parts["activations"] == pytest.approx(stage["memory"]["activations"] / 2, abs=1)
    assert parts["optimiser"] == stage["memory"]["optimiser"] == 8 * stage["parameters"]
    single = of("a100", "precision=no")["stages"][0]
    assert single["memory"]["activations"] == 2 * stage["memory"]["activations"]
    assert single["hours"] == pytest.approx(stage["hours"] * 312 / 156)
    assert any("no bf16" in note for note in of("v100")["notes"])
    assert [s["stage"] for s in of("h100", method="dpt")["stages"]] == ["classifier", "score"]
    with pytest.raises(UserError, match=r"GPU 'abacus' is unknown; choose one of a100, h100"):
        of("abacus")


def test_a_dry_run_checks_everything_and_writes_nothing(
    tiny_train: Callable[..., list[str]], cli: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = cli(*tiny_train(out, "--dry-run", "--gpu", "H100", "--json"))
    assert done.status == 0
    document = json.loads(done.out)
    assert document["gpu"]["name"] == "h100"
    assert [stage["stage"] for stage in document["stages"]] == ["score", "classifier"]
    n_train = len(draw_splits(load_digits(), "all", 0).train)
    assert f"{n_train} examples" in document["summary"]
    wrong = cli(*tiny_train(out, "--dry-run", "--set", "score.fit.stepz=3"))
    assert wrong.status == 2
    assert "stepz: unknown key" in wrong.err
    uneven = cli(*tiny_train(out, "--dry-run", "--set", "score.fit.accumulate=3"))
    assert (uneven.status, "does not divide among 1 × 3" in uneven.err) == (2, True)
    assert cli(*tiny_train(out, "--dry-run", data=str(tmp_path / "none"))).status == 2
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    taken = cli(*tiny_train(tmp_path / "taken", "--dry-run"))
    assert (taken.status, "holds other files" in taken.err) == (2, True)
    told = cli(*tiny_train(out, "--dry-run"))
    assert "million parameters" in told.out
    assert "30% of the peak" in told.out
    assert not out.exists()
