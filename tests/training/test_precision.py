"""Mixed precision: other weights, the same training; each training has its own."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fewlabel.errors import Interrupted, UserError
from fewlabel.run import Run, load
from fewlabel.training.ema import Ema
from fewlabel.training.train import train


@pytest.fixture(scope="module")
def arguments(tiny: tuple[str, ...]) -> dict[str, Any]:
    """Those of `finished_run`, in bf16."""
    overrides = [*tiny, "precision=bf16"]
    return {"labels": 0.05, "steps": 40, "overrides": overrides, "device": "cpu"}


@pytest.fixture(scope="module")
def bf16(tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, Any]) -> Run:
    return train("digits", out=tmp_path_factory.mktemp("bf16") / "run", **arguments)


def test_bf16_learns_what_float32_does(
    arguments: dict[str, Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Eight bits of mantissa: weights differ, losses by less than a few per cent."""
    bf16 = train("digits", method="cg", out=tmp_path / "bf16", **arguments)
    float32 = train(
        "digits", method="cg", out=tmp_path / "float32", **arguments | {"overrides": tiny}
    )
    for stage in ("score", "classifier"):
        ours, theirs = (
            [r["losses"] for r in run.folder.records() if r["stage"] == stage]
            for run in (bf16, float32)
        )
        assert ours != theirs
        for name in theirs[0]:
            ends = [losses[-1][name] for losses in (ours, theirs)]
            assert ends[0] == pytest.approx(ends[1], rel=0.05)
    assert {p.dtype for p in bf16.classifier.parameters()} == {torch.float32}


def test_another_training_in_this_process_has_its_own_precision(
    bf16: Run, finished_run: Run, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    again = train(
        "digits", labels=0.05, steps=40, out=tmp_path, overrides=tiny, device="cpu",
        score=finished_run.folder.path,
    )  # fmt: skip
    ours, theirs = again.classifier.state_dict(), finished_run.classifier.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_bf16_resumes_bit_for_bit(
    bf16: Run, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Ema.update

    def interrupting(self: Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if step == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Ema, "update", interrupting)
    with pytest.raises(Interrupted, match="stopped at step 13"):
        train("digits", out=tmp_path / "run", **arguments)
    monkeypatch.setattr(Ema, "update", update)
    run = train("digits", out=tmp_path / "run", **arguments)
    for model in ("score_model", "classifier"):
        ours, theirs = (getattr(r, model).state_dict() for r in (run, bf16))
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_bf16_samples_what_float32_does(bf16: Run) -> None:
    """Eight bits of mantissa in the networks alone: other pixels, by less than a few per cent."""
    float32 = load(bf16.folder.path, device="cpu")
    float32.config = bf16.config.model_copy(update={"precision": "no"})
    ours, theirs = (run.sample(n=32, scale=2.0) for run in (bf16, float32))
    assert ours.dtype == theirs.dtype == torch.float32
    assert 0 < (ours - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_fp16_needs_a_gpu(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"fp16 needs a GPU; set precision=bf16"):
        train("digits", out=tmp_path / "run", steps=2, overrides=[*tiny, "precision=fp16"])
    assert not (tmp_path / "run").exists()
