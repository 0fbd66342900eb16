"""Every method from data to samples; pseudo-labels; shared score models; chains that resume."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewlabel import methods, samplers
from fewlabel.batch import UNLABELLED, Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.data import Batches
from fewlabel.errors import TrainingError, UserError
from fewlabel.methods import METHODS
from fewlabel.objectives import DenoisingScoreMatching, JointEnergy
from fewlabel.randomness import StepRandom
from fewlabel.run import Run
from fewlabel.training import checkpoint
from fewlabel.training import stages as training
from fewlabel.training.ema import Ema
from fewlabel.training.train import train

STEPS = 3
DATA = {"digits": ((1, 8, 8), 10), "moons": ((2,), 2)}
Trained = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Trained:
    """Runs of a few steps, each made once; those that can share the score model of cg's."""
    folder, runs = tmp_path_factory.mktemp("methods"), {}

    def run(data: str, method: str) -> Run:
        if (data, method) not in runs:
            row = METHODS[method]
            shares = method != "cg" and row.score is METHODS["cg"].score
            runs[data, method] = train(
                data,
                method=method,
                labels=0.05,
                steps=STEPS,
                score=run(data, "cg").folder.path if shares else None,
                teacher=run(data, "cg").folder.path if row.needs_teacher else None,
                out=folder / f"{data}-{method}",
                overrides=tiny,
                device="cpu",
            )
        return runs[data, method]

    return run


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_samples(trained: Trained, data: str, name: str) -> None:
    run, (shape, _) = trained(data, name), DATA[data]
    method = METHODS[name]
    assert [run.folder.steps_done(stage) for stage in method.stages] == [STEPS] * len(
        method.stages
    )
    logged = {r["stage"]: r["losses"] for r in run.folder.records()}
    for stage, losses in logged.items():
        assert losses.keys() == method.losses(stage).keys()
        assert all(np.isfinite(value) for value in losses.values())
    first, second = (run.sample(label=k, n=3, steps=4, seed=1) for k in (0, 1))
    assert first.shape == (3, *shape)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert torch.equal(first, second) == (name == "uncond")  # else the class is heard
    alone = samplers.sample(run.score_model, run.score_model.process, (3, *shape), steps=4, seed=1)
    alone = alone if data == "moons" else alone.clamp(-1, 1)
    if method.guidance == "conditional":
        with pytest.raises(UserError, match=f"{name} samples without guidance"):
            run.sample(label=1, n=3, scale=0, steps=4, seed=1)
    else:
        assert torch.equal(run.sample(label=1, n=3, scale=0, steps=4, seed=1), alone)


@pytest.mark.parametrize("data", DATA)
def test_scale_one_of_classifier_free_runs_is_the_conditional_model(
    trained: Trained, data: str
) -> None:
    run, (shape, _) = trained(data, "cfg-all"), DATA[data]
    model = run.score_model

    def of_class(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, torch.ones(len(x), dtype=torch.int64))

    expected = samplers.sample(of_class, model.process, (3, *shape), steps=4, seed=1)
    expected = expected if data == "moons" else expected.clamp(-1, 1)
    found = run.sample(label=1, n=3, scale=1, steps=4, seed=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run.sample(label=1, n=3, scale=4, steps=4, seed=1), expected)


# Pseudo-labels


def test_pseudo_labels_reach_the_score_model(
    tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All examples have a label; true ones stay, the others are what the classifier says."""
    made: list[Batches] = []
    seen: list[Any] = []

    class Spied(Batches):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)
            seen.append(arguments[:2])

    monkeypatch.setattr(training, "Batches", Spied)
    run = train(
        "digits", method="dpt", labels=0.05, steps=60, out=tmp_path / "run", device="cpu",
        overrides=(*tiny, "score.fit.steps=1"),
    )  # fmt: skip
    of_classifier, of_score = made
    assert all((of_classifier.at(step)["labelled"].y >= 0).all() for step in range(20))
    dataset, splits = seen[1]
    labels, truth = splits.training_labels(dataset), run.dataset.labels
    train_, labelled, unlabelled = (
        run.splits.indices(part) for part in ("all", "labelled", "unlabelled")
    )
    assert (labels[train_] != UNLABELLED).all()
    held_out = np.setdiff1d(np.arange(len(truth)), train_)
    assert (labels[held_out] == UNLABELLED).all()
    assert np.array_equal(labels[labelled], truth[labelled])
    t = torch.tensor(0.1 * run.config.sigma_data)  # EDM: a time is a σ
    with torch.no_grad():
        said = run.classifier.log_prob(run.dataset.examples(unlabelled), t).argmax(1)
    assert np.array_equal(labels[unlabelled], said.numpy())
    right = np.mean(labels[unlabelled] == truth[unlabelled])
    assert 0.15 < right < 1  # better than chance, and not the hidden truth
    # one epoch of batches is all training examples, each with its own label
    (part,) = of_score.at(0)
    steps = -(-len(train_) // 16)
    batches = [of_score.at(step)[part] for step in range(steps)]
    x = torch.cat([batch.x for batch in batches])[: len(train_)].flatten(1)
    y = torch.cat([batch.y for batch in batches])[: len(train_)]
    rows = run.dataset.examples(train_).flatten(1)
    nearest = torch.cdist(x, rows).argmin(1)
    assert len(nearest.unique()) > 0.99 * len(train_)  # a few digits may be alike
    assert (y == torch.from_numpy(labels[train_])[nearest]).double().mean() > 0.99


# Score models that are not to be shared


@pytest.mark.parametrize("name", ["cond", "cfg-labeled", "cfg-all", "dpt"])
def test_a_method_with_a_score_model_of_its_own_takes_no_other(
    trained: Trained, tiny: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    score = trained("moons", "cg").folder.path
    with pytest.raises(
        UserError, match=rf"^{name} trains a score model of its own; leave --sco"
    ) as e:
        train("moons", method=name, score=score, out=tmp_path / "new", overrides=tiny)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["cond", "cfg-labeled", "cfg-all", "dpt"])
def test_a_conditional_score_model_is_not_given_to_a_classifier(
    trained: Trained, tiny: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    score = trained("moons", name).folder.path
    with pytest.raises(UserError, match=rf"is conditional \({name}\); give a run of a") as e:
        train("moons", method="cg-sc-all", score=score, out=tmp_path / "new", overrides=tiny)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "new").exists()


# Chains that are kept from step to step


class Crash(Exception):
    """The process is gone, without a checkpoint of the step under way."""


def interrupt(at: int, how: str) -> Callable[[Ema, nn.Module, int], None]:
    update = Ema.update

    def interrupting(self: Ema, model: nn.Module, step: int) -> None:
        update(self, model, step)
        if isinstance(model, NoisyClassifier) and step + 1 == at:
            if how == "crashed":
                raise Crash
            os.kill(os.getpid(), getattr(signal, how))

    return interrupting


def forget_chains(folder: Path) -> None:
    """Write the newest checkpoint again without its chains."""
    newest = checkpoint.Checkpoints(folder).newest()
    assert newest is not None
    step, path = newest
    content = {file.stem: load_file(file) for file in path.glob("*.safetensors")}
    content["memory"] = {key: torch.zeros_like(v) for key, v in content["memory"].items()}
    checkpoint.Checkpoints(folder).save(step, content)


@pytest.fixture(scope="module")
def jem(trained: Trained, tiny: tuple[str, ...]):
    """Trains cg-jem with so few chains that each goes on often."""
    few = partial(JointEnergy, chains=24, steps=4)

    def run(out: Path) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(methods, "JointEnergy", few)
            return train(
                "digits", method="cg-jem", labels=0.05, steps=16, device="cpu", out=out,
                score=trained("digits", "cg").folder.path, overrides=tiny,
            )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def uninterrupted(jem, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return state(jem(tmp_path_factory.mktemp("jem") / "whole"))


def state(run: Run) -> dict[str, dict[str, Tensor]]:
    step, path = run.folder.checkpoints("classifier").newest()
    assert step == 16
    return {file.stem: load_file(file) for file in path.glob("*.safetensors")}


def differing(
    ours: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]
) -> set[str]:
    assert ours.keys() == theirs.keys() == {"last", "ema", "optimizer", "memory"}
    assert all(ours[name].keys() == theirs[name].keys() for name in ours)
    return {
        name
        for name, tensors in ours.items()
        if not all(torch.equal(value, theirs[name][key]) for key, value in tensors.items())
    }


@pytest.mark.parametrize(
    ("at", "how", "done"),
    [(7, "SIGTERM", 7), (7, "crashed", 0), (13, "SIGINT", 13), (13, "crashed", 10)],
)
def test_a_joint_energy_run_resumes_bit_for_bit(
    jem, uninterrupted, tmp_path: Path, at: int, how: str, done: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ema, "update", interrupt(at, how))
        with pytest.raises(Crash if how == "crashed" else TrainingError):
            jem(tmp_path / "run")
    checkpoints = checkpoint.Checkpoints(tmp_path / "run" / "classifier")
    newest = checkpoints.newest()
    assert (newest[0] if newest else 0) == done
    if newest:
        chains = load_file(newest[1] / "memory.safetensors")
        assert chains.keys() == {"jem.chain_x", "jem.chain_t", "best.loss", "best.since"}
        assert (chains["jem.chain_t"] > 0).sum() > 20
        assert chains["jem.chain_x"].flatten(1).any(1).sum() > 20
    assert differing(state(jem(tmp_path / "run")), uninterrupted) == set()


def test_without_its_chains_a_run_ends_elsewhere(jem, uninterrupted, tmp_path: Path) -> None:
    """So the test above sees whether they are restored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ema, "update", interrupt(7, "SIGTERM"))
        with pytest.raises(TrainingError):
            jem(tmp_path / "run")
    forget_chains(tmp_path / "run" / "classifier")
    assert differing(state(jem(tmp_path / "run")), uninterrupted) == {
        "last", "ema", "optimizer", "memory",
    }  # fmt: skip


# What is said of a run


@pytest.mark.parametrize("name", ["cond", "cfg-all", "cg"])
def test_the_validation_loss_is_that_of_what_was_trained(trained: Trained, name: str) -> None:
    """A conditional model is shown the labels of the held-out examples, another none."""
    run = trained("moons", name)
    held_out = np.array(run.splits.validation)
    x, y = run.dataset.examples(held_out), torch.from_numpy(run.dataset.labels[held_out])
    batch, losses = Batch(x, y), {}
    for dropout in (None, 0.0):
        if dropout is None or name != "cg":
            term = DenoisingScoreMatching(run.score_model, dropout)
            with torch.no_grad():
                losses[dropout] = float(term(batch, StepRandom(0, 0, "validation")).mean())
    (logged,) = [r["validation"] for r in run.folder.records() if r["validation"].get("dsm")]
    wanted = losses[None if name == "cg" else 0.0]
    assert logged["dsm"] == pytest.approx(wanted, rel=1e-5)
    assert all(abs(value - wanted) > 1e-4 for value in losses.values() if value != wanted)


def test_only_what_is_trained_is_announced(
    tmp_path: Path, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cond", "dpt"):
        train("moons", method=name, steps=2, out=tmp_path / name, overrides=tiny, device="cpu")
    said = [line for line in capsys.readouterr().err.splitlines() if "held out" in line]
    assert said[0].split(": ")[-1].split(" →")[0] == "score model 2 steps"
    dpt = said[1].split(": ")[-1].split(" →")[0]
    assert dpt.startswith("classifier 2 steps, score model 2 steps; every training image shows")
