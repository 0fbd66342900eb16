"""What is written while training: curves, sheets and the time spent."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewlabel import guidance, samplers
from fewlabel.errors import Interrupted, UserError
from fewlabel.pictures.grid import image_grid
from fewlabel.process import EDM
from fewlabel.run import Run
from fewlabel.training.ema import Ema
from fewlabel.training.train import train


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Run:
    """The run of `finished_run`, interrupted at step 27, with curves and sheets."""
    update = Ema.update

    def interrupting(self: Ema, model: torch.nn.Module, step: int) -> None:
        update(self, model, step)
        if step == 26:
            os.kill(os.getpid(), signal.SIGTERM)

    values = {
        "labels": 0.05, "steps": 40, "out": tmp_path_factory.mktemp("watched") / "run",
        "overrides": [*tiny, "score.sheet_every=20"], "device": "cpu", "tensorboard": True,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ema, "update", interrupting)
        with pytest.raises(Interrupted):
            train("digits", **values)
    return train("digits", **values)


def test_curves_show_what_the_log_holds(watched: Run) -> None:
    for stage in ("score", "classifier"):
        curves = EventAccumulator(str(watched.folder.path / "tensorboard" / stage)).Reload()
        records = [r for r in watched.folder.records() if r["stage"] == stage]
        for kind in ("losses", "validation"):
            names = {name for record in records for name in record[kind]}
            assert {f"{kind}/{name}" for name in names} <= set(curves.Tags()["scalars"])
            for name in names:
                expected = [(r["step"], r[kind][name]) for r in records if name in r[kind]]
                found = [(e.step, e.value) for e in curves.Scalars(f"{kind}/{name}")]
                assert [step for step, _ in found] == [step for step, _ in expected]
                assert [v for _, v in found] == pytest.approx([v for _, v in expected], rel=1e-6)


def test_sheets_show_samples_of_the_averaged_weights(
    watched: Run, finished_run: Run, tmp_path: Path
) -> None:
    sheets = sorted((watched.folder.path / "sheets").iterdir())
    assert [path.name for path in sheets] == ["step-00000020.png", "step-00000040.png"]
    model = watched.score_model
    x = samplers.sample(model, model.process, (16, 1, 8, 8), steps=12, seed=0).clamp(-1, 1)
    expected = image_grid(x, tmp_path / "expected.png", "step 00000040")
    with Image.open(sheets[1]) as ours, Image.open(expected) as theirs:
        assert ImageChops.difference(ours, theirs).getbbox() is None
    with Image.open(sheets[0]) as ours, Image.open(expected) as theirs:
        assert ImageChops.difference(ours, theirs).getbbox() is not None
    # Drawing changes nothing of what is trained.
    trained, undisturbed = (r.score_model.state_dict() for r in (watched, finished_run))
    assert all(torch.equal(trained[key], value) for key, value in undisturbed.items())


def test_the_time_spent_is_that_of_all_sessions(watched: Run) -> None:
    spent = [r["seconds"] for r in watched.folder.records() if r["stage"] == "score"]
    assert len(spent) > 8
    assert spent == sorted(spent)


def test_sheets_of_a_conditional_model_show_the_classes_in_turn(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    learnt = ("score.sheet_every=2", "score.fit.warmup=0", "score.fit.learning_rate=0.1")
    values = {"labels": 0.05, "steps": 2, "overrides": [*tiny, *learnt], "device": "cpu"}
    run = train("digits", method="cfg-all", out=tmp_path, **values)
    model, of_sheet = run.score_model, tmp_path / "sheets" / "step-00000002.png"
    same = []
    for first in (0, 1):
        score = guidance.conditional(model, (first + torch.arange(16)) % 10)
        x = samplers.sample(score, model.process, (16, 1, 8, 8), steps=12, seed=0).clamp(-1, 1)
        expected = image_grid(x, tmp_path / "expected.png", "step 00000002")
        with Image.open(of_sheet) as ours, Image.open(expected) as theirs:
            same.append(ImageChops.difference(ours, theirs).getbbox() is None)
    assert same == [True, False]  # so the labels are those, not the next ones


def test_a_sheet_that_cannot_be_drawn_does_not_end_the_training(
    tmp_path: Path,
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prior = EDM.prior
    with monkeypatch.context() as patch:
        patch.setattr(EDM, "prior", lambda self, noise: torch.nan * prior(self, noise))
        sheets = ("score.sheet_every=2",)
        train("digits", method="cg", out=tmp_path, steps=2, overrides=[*tiny, *sheets])
    assert not (tmp_path / "sheets").exists()
    assert (
        "note: no sheet of samples at step 2: 16 of 16 samples are not" in capsys.readouterr().err
    )


def test_sheets_of_points(tmp_path: Path) -> None:
    overrides = ["score.sheet_every=2", "score.fit.batch=16", "classifier.fit.batch=16"]
    values = {"labels": 0.05, "steps": 2, "overrides": overrides, "device": "cpu"}
    train("moons", method="cg", out=tmp_path, **values)
    with Image.open(tmp_path / "sheets" / "step-00000002.png") as sheet:
        assert len(sheet.convert("L").getcolors(100_000)) > 8  # something is drawn


def test_without_the_package_for_curves(
    tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'fewlabel\[tensorboard\]'"):
        train("digits", out=tmp_path / "run", steps=2, overrides=tiny, tensorboard=True)
    assert not (tmp_path / "run").exists()
