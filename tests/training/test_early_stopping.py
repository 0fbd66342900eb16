"""Validation decides which weights are kept, and when training ends."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error
from toys import Scalar, Slope, run_fit, settings

import fewlabel
from fewlabel.data import draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.process import EDM, VE, VP, Process
from fewlabel.randomness import generator_for
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.score import ScoreModel
from fewlabel.training.best import validation_loss
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.train import train
from fewlabel.training.validation import classifier_validation, score_validation, spread_out

Cli = Callable[..., SimpleNamespace]
EARLY = (
    "classifier.fit.patience=2",
    "classifier.fit.validate_every=3",
    "classifier.fit.learning_rate=0.1",  # overshoots at once: validation gets worse
)


def valley(model: nn.Module) -> dict[str, float]:
    """Least where the weight is −0.1."""
    return {"dsm": abs(float(model.w) + 0.1)}


def test_the_weights_of_the_best_validation_are_kept(tmp_path: Path) -> None:
    """The weight walks down by 0.01 a step: it is best after ten."""
    model = Scalar()
    config = settings(steps=30, learning_rate=0.01, schedule="constant", validate_every=5)
    records = list(run_fit(model, {"s": Slope(model)}, config, tmp_path, validate=valley))
    step, folder = Checkpoints(tmp_path).best()
    assert step == 10
    assert load_file(folder / "ema.safetensors")["w"].item() == pytest.approx(-0.1, rel=1e-4)
    assert Checkpoints(tmp_path).ema_weights()["w"].item() == pytest.approx(-0.3, rel=1e-4)
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-00000010"]
    assert [r.step for r in records if r.validation] == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize(("patience", "end"), [(1, 15), (3, 25), (4, 30), (None, 30)])
def test_training_ends_when_patience_does(tmp_path: Path, patience: int | None, end: int) -> None:
    model = Scalar()
    config = settings(
        steps=30, learning_rate=0.01, schedule="constant", validate_every=5, patience=patience
    )
    *_, last = run_fit(model, {"s": Slope(model)}, config, tmp_path, validate=valley)
    assert (last.step, last.finished) == (end, True)
    assert Checkpoints(tmp_path).is_finished(30)
    assert list(run_fit(model, {"s": Slope(model)}, config, tmp_path, validate=valley)) == []


@pytest.mark.parametrize("stop_at", [7, 10, 14, 15, 17])
def test_an_interruption_does_not_change_when_it_ends(tmp_path: Path, stop_at: int) -> None:
    config = settings(
        steps=30, learning_rate=0.01, schedule="cosine", validate_every=2, patience=3, ema=0.5
    )

    def ended(folder: Path, stop_at: int | None) -> tuple[int, int, torch.Tensor]:
        model = Scalar()
        terms = {"s": Slope(model)}
        *_, last = run_fit(model, terms, config, folder, stop_at=stop_at, validate=valley)
        checkpoints = Checkpoints(folder)
        return last.step, checkpoints.best()[0], checkpoints.ema_weights(best=True)["w"]

    assert ended(tmp_path / "broken", stop_at)[0] == stop_at
    assert not Checkpoints(tmp_path / "broken").is_finished(30)
    assert ended(tmp_path / "broken", None) == ended(tmp_path / "whole", None)


def test_the_loss_that_decides_is_the_mean_over_noise_levels() -> None:
    figures = {"ce@0.1": 1.0, "ce@2": 2.0, "accuracy@0.1": 0.9, "ece@0.1": 0.3, "ece@2": 7.0}
    assert validation_loss(figures) == 1.5
    assert validation_loss({"dsm": 0.25}) == 0.25
    assert validation_loss({}) is None


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...], finished_run: Run):
    """A run whose classifier was stopped early."""
    return train(
        "digits", method="cg", labels=0.05, steps=40, score=finished_run.folder.path,
        out=tmp_path_factory.mktemp("early") / "run", overrides=[*tiny, *EARLY], device="cpu",
    )  # fmt: skip


def test_a_run_that_stopped_early_is_finished_and_uses_its_best_weights(
    early: Run, cli: Cli
) -> None:
    checkpoints = early.folder.checkpoints("classifier")
    (best, folder), (last, _) = checkpoints.best(), checkpoints.newest()
    assert best < last < 40
    used = early.classifier.state_dict()
    kept = load_file(folder / "ema.safetensors")
    assert all(torch.equal(used[key], kept[key]) for key in kept)
    losses = {
        r["step"]: validation_loss(r["validation"])
        for r in early.folder.records()
        if r["stage"] == "classifier" and r["validation"]
    }
    assert best == min(losses, key=losses.get)
    assert '"state": "finished"' in cli("info", early.folder, "--json").out
    with pytest.raises(UserError, match="is finished"):
        train(config=early.folder.path / "config.yaml", out=early.folder.path, device="cpu")


def test_a_score_model_that_stopped_early_is_shared_with_its_best_weights(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    early = {"patience": 1, "validate_every": 1, "warmup": 0, "learning_rate": 1.0}
    source = train(
        "digits", method="uncond", steps=9, out=tmp_path / "source", device="cpu",
        overrides=[*tiny, *(f"score.fit.{key}={value}" for key, value in early.items())],
    )  # fmt: skip
    checkpoints = source.folder.checkpoints("score")
    (best, folder), (last, newest) = checkpoints.best(), checkpoints.newest()
    assert best < last < 9
    sharer = train(
        "digits", method="cg", labels=0.05, score=source.folder.path, out=tmp_path / "sharer",
        overrides=tiny, steps=1, device="cpu",
    )  # fmt: skip
    used = sharer.score_model.state_dict()
    kept, others = (load_file(path / "ema.safetensors") for path in (folder, newest))
    assert all(torch.equal(used[key], kept[key]) for key in kept)
    assert not all(torch.equal(used[key], others[key]) for key in others)


def test_best_weights_that_are_damaged_give_way_to_the_newest(
    early: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(shutil.copytree(early.folder.path, tmp_path / "run"))
    (folder.checkpoints("classifier").best()[1] / "ema.safetensors").write_bytes(b"cut")
    found = fewlabel.load(folder.path, device="cpu").classifier.state_dict()
    newest = folder.checkpoints("classifier").ema_weights()
    assert all(torch.equal(found[key], newest[key]) for key in newest)
    (said,) = capsys.readouterr().err.splitlines()
    assert "has no whole best-*" in said


def test_patience_without_held_out_labels_is_refused(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run
) -> None:
    x = np.random.default_rng(0).integers(0, 255, (4, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=x, labels=np.arange(4) % 2)
    with pytest.raises(UserError, match=r"patience=2 needs held-out examples and .*few.npz"):
        train(
            tmp_path / "few.npz", method="cg", steps=2, out=tmp_path / "run", device="cpu",
            overrides=[*tiny, "classifier.fit.patience=2"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("process", [VE(0.01, 50.0), VP(), EDM()], ids=lambda p: p.name)
@pytest.mark.parametrize("data", ["digits", "moons"])
def test_a_classifier_is_validated_at_its_noise_levels(data: str, process: Process) -> None:
    """By hand, of a classifier of x and t, at σ/α = 0.1, 0.5 and 2; times σ_data for vectors."""
    dataset = open_dataset(data)
    splits = draw_splits(dataset, "all", 0)
    labelled, classes = splits.validation, dataset.n_classes
    x, y = dataset.examples(labelled), torch.from_numpy(dataset.labels[labelled])

    class Linear(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            return flat[:, torch.arange(classes) % flat.shape[1]] / 5 + t * torch.arange(classes)

    most = []

    class Counted(Linear):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            most.append(len(x))
            return super().forward(x, t)

    validate = classifier_validation(dataset, splits, process, torch.device("cpu"), 50)
    figures = validate(Counted())
    assert max(most) == 50
    assert sum(most) == 3 * len(x)
    noise = torch.randn(x.shape, generator=generator_for("validation"))
    unit = dataset.spread(splits.train) if data == "moons" else 1.0
    for level in (0.1, 0.5, 2.0):
        t = process.time_at(torch.tensor(unit * level))
        assert process.sigma(t) / process.alpha(t) == pytest.approx(unit * level, rel=1e-4)
        logits = Linear()(process.alpha(t) * x + process.sigma(t) * noise, t)
        expected = nn.functional.cross_entropy(logits, y)
        assert figures[f"ce@{level:g}"] == pytest.approx(float(expected), rel=1e-4)
        right = float((logits.argmax(1) == y).double().mean())
        assert figures[f"accuracy@{level:g}"] == pytest.approx(right)
        error = multiclass_calibration_error(logits.softmax(1), y, num_classes=classes, n_bins=15)
        assert figures[f"ece@{level:g}"] == pytest.approx(float(error), abs=1e-5)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_score_model_is_validated_in_parts_of_any_size(conditional: bool) -> None:
    """With the same noise on each example, so that the loss is the same up to rounding."""
    dataset = open_dataset("digits")
    splits, most = draw_splits(dataset, "all", 0), []

    class Network(nn.Module):
        def forward(
            self, u: torch.Tensor, c_noise: torch.Tensor, y: torch.Tensor | None = None
        ) -> torch.Tensor:
            most.append(len(u))
            given = 0.0 if y is None else (y + 1).reshape(-1, 1, 1, 1) / 10
            return (u * c_noise.reshape(-1, 1, 1, 1)).sin() + given

    model = ScoreModel(Network(), EDM(), 0.7)
    whole, *others = (
        score_validation(dataset, splits, torch.device("cpu"), at_once, conditional)(model)["dsm"]
        for at_once in (10_000, 64, 7)
    )
    assert others == pytest.approx([whole, whole], rel=1e-5)
    assert most[0] == len(splits.validation)
    assert set(most[1:]) == {64, 7, most[0] % 64, most[0] % 7} - {0}


def test_what_is_spread_out_is_of_every_class() -> None:
    """Files may lie in the order of their classes: the first thousand would be of one."""
    labels = np.repeat(np.arange(3), [600, 900, 1500])
    found = spread_out(np.arange(3000), 1000)
    assert np.bincount(labels[found]).tolist() == [200, 300, 500]
    assert len(np.unique(found)) == 1000
    assert spread_out(found, 1000) is found
