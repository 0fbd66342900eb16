"""What propagated labels do to a training: where they go, and that they are found once."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel

from fewlabel.classifier import NoisyClassifier
from fewlabel.data import Batches, Dataset
from fewlabel.errors import Interrupted, UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import VE, VP, Process, SubVP
from fewlabel.progress import Task
from fewlabel.run import Run
from fewlabel.teachers import half_whitened, spread_labels
from fewlabel.training import given_teacher, stages, teaching
from fewlabel.training.train import train


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Batches]:
    """The batches that trainings make."""
    found: list[Batches] = []

    class Spied(Batches):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            found.append(self)

    monkeypatch.setattr(stages, "Batches", Spied)
    return found


def taught(out: Path, source: Run, tiny: tuple[str, ...], **settings: Any) -> Run:
    return train(
        "digits", method="lpg", score=source.folder.path, labels="2/class", out=out, steps=4,
        overrides=tiny, device="cpu", **settings,
    )  # fmt: skip


def test_every_training_example_has_probabilities_and_those_with_a_label_keep_it(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run, made: list[Batches]
) -> None:
    run = taught(tmp_path / "run", finished_run, tiny)
    (batches,) = made
    (part,) = batches.at(0)
    epoch = -(-len(run.splits.train) // 16)
    rows = [batches.at(step)[part] for step in range(epoch)]
    x, y = (torch.cat([getattr(row, key) for row in rows]) for key in ("x", "y"))
    q = torch.cat([row.q for row in rows if row.q is not None])
    torch.testing.assert_close(q.sum(1), torch.ones(len(q)))
    known = y >= 0
    assert torch.equal(q[known], torch.eye(10)[y[known]])
    # each row has the probabilities of its own image, and they are mostly right
    truth = {
        image.numpy().tobytes(): label
        for image, label in zip(
            run.dataset.examples(run.splits.train),
            run.dataset.labels[run.splits.train],
            strict=True,
        )
    }
    right = np.mean([truth[i.numpy().tobytes()] == k for i, k in zip(x, q.argmax(1), strict=True)])
    assert 0.6 < right < 1  # chance is 0.1; and the hidden labels themselves were not used


def test_a_resumed_run_reads_what_it_found_before(
    tmp_path: Path,
    tiny: tuple[str, ...],
    finished_run: Run,
    made: list[Batches],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = taught(tmp_path / "run", finished_run, tiny)
    kept = load_file(run.folder.path / "teacher.safetensors")["probabilities"]
    assert kept.shape == (len(run.splits.train), 10)
    monkeypatch.setattr(given_teacher, "spread_labels", None)  # it is not asked again
    for path in (run.folder.path / "classifier").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    again = taught(tmp_path / "run", finished_run, tiny)
    before, after = (batches.at(3)["all"] for batches in made)
    assert before.q is not None
    assert after.q is not None
    assert torch.equal(before.q, after.q)
    weights = (r.classifier.state_dict() for r in (run, again))
    for one, other in zip(*(w.values() for w in weights), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_while_the_teacher_works(
    tmp_path: Path,
    tiny: tuple[str, ...],
    finished_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    def stopped(*_: object) -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("still at work")

    with monkeypatch.context() as patch:
        patch.setattr(given_teacher, "spread_labels", stopped)
        with pytest.raises(Interrupted, match=r"before the classifier; the same command goes on"):
            taught(tmp_path / "run", finished_run, tiny)
    run = taught(tmp_path / "run", finished_run, tiny)
    assert run.folder.is_finished(run.config)


def test_another_run_can_be_the_teacher(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run, made: list[Batches]
) -> None:
    """By its classifier, asked of nearly clean images; the labels that are known stay."""
    run = taught(tmp_path / "run", finished_run, tiny, teacher=finished_run.folder.path)
    (batches,) = made
    batch = batches.at(0)["all"]
    assert batch.q is not None
    t = torch.tensor(0.1 * run.config.sigma_data)  # EDM: a time is a σ
    with torch.no_grad():
        said = finished_run.classifier.log_prob(batch.x, t).exp()
    known = batch.y >= 0
    torch.testing.assert_close(batch.q[~known], said[~known], rtol=1e-4, atol=1e-6)
    assert torch.equal(batch.q[known], torch.eye(10)[batch.y[known]])


@pytest.mark.parametrize("process", [VE(sigma_max=50.0), VP(), SubVP()])
def test_a_classifier_sees_examples_as_its_process_shows_them(process: Process) -> None:
    """Exact classifiers of two classes of large values, that are told apart in x_t/α alone."""
    rng, labels = np.random.default_rng(0), np.arange(400) % 2
    values = (10 + 2 * labels + 0.3 * rng.standard_normal(400))[:, None].astype(np.float32)
    mixture = GaussianMixture(
        torch.tensor([0.5, 0.5]), torch.tensor([[10.0], [12.0]]), torch.tensor([0.3, 0.3])
    )
    exact = SimpleNamespace(
        process=process,
        sigma_data=10.0,
        parameters=lambda: iter([torch.zeros(1)]),
        log_prob=mixture.log_posterior(process),
    )
    dataset = Dataset(
        name="two", values=values, labels=labels, class_names=("a", "b"), fingerprint="two"
    )
    q = teaching._predicted(cast(NoisyClassifier, exact), dataset, np.arange(400), Task())
    assert np.array_equal(q.argmax(1), values[:, 0] > 11)  # Bayes' rule


def test_the_features_of_a_run_teach_without_its_classifier(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run
) -> None:
    """Its classifier knows labels of its own, which a comparison on fewer must not see."""
    own = taught(tmp_path / "own", finished_run, tiny)
    run = taught(tmp_path / "run", finished_run, tiny, teacher=f"features:{finished_run.folder}")
    assert run.config.teacher == f"features:{finished_run.folder.path.resolve()}"
    found = [load_file(r.folder.path / "teacher.safetensors")["probabilities"] for r in (own, run)]
    torch.testing.assert_close(*found)


def test_a_table_can_be_the_teacher(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run
) -> None:
    """What it says of those with a label does not count, and it need not say anything of them."""
    splits, generator = finished_run.splits, np.random.default_rng(0)
    said = generator.dirichlet(np.ones(10), len(finished_run.dataset)).astype(np.float32)
    names = ",".join(finished_run.class_names)
    lines = [f"{i}," + ",".join(f"{p:.8f}" for p in said[i]) for i in splits.train]
    table = tmp_path / "said.csv"
    table.write_text(f"index,{names}\n" + "\n".join(lines))
    run = taught(tmp_path / "run", finished_run, tiny, teacher=table)
    kept = load_file(run.folder.path / "teacher.safetensors")["probabilities"].numpy()
    known = np.isin(run.splits.train, run.splits.labelled)
    np.testing.assert_allclose(kept[~known], said[run.splits.train][~known], atol=1e-6)
    truth = run.dataset.labels[run.splits.labelled]
    np.testing.assert_array_equal(kept[known], np.eye(10)[truth])
    assert known.sum() == 20


def test_a_vision_model_can_be_the_teacher(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run
) -> None:
    """Its features take the place of the score model's; those of a random one are of some use."""
    folder = tmp_path / "vit"
    torch.manual_seed(0)
    model = ViTModel(
        ViTConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            image_size=8, patch_size=4,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    model.eval().save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 8}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    dpt = train(
        "digits", method="dpt-lp", labels="4/class", teacher=f"transformers:{folder}", steps=1,
        out=tmp_path / "run", overrides=tiny, device="cpu",
    )  # fmt: skip
    assert dpt.config.teacher == f"transformers:{folder}"
    found = load_file(dpt.folder.path / "teacher.safetensors")["probabilities"]
    train_rows, labels = dpt.splits.train, dpt.splits.training_labels(dpt.dataset)
    with torch.no_grad():
        x = dpt.dataset.examples(train_rows).expand(-1, 3, -1, -1).clamp(-1, 1)
        tokens = model(pixel_values=x).last_hidden_state[:, 0].numpy()
    expected = spread_labels(half_whitened(tokens), labels[train_rows], 10)
    assert np.abs(found.numpy() - expected).mean() < 0.01  # of neighbours at equal distances
    right = found.argmax(1).numpy() == dpt.dataset.labels[train_rows]
    assert right.mean() > 0.5  # chance is 0.1


def test_propagated_labels_reach_a_conditional_score_model(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run, made: list[Batches]
) -> None:
    """A score model alone teaches by propagation: the labels are those that lpg learns."""
    score = train(
        "digits", method="uncond", out=tmp_path / "score", steps=1, overrides=tiny, device="cpu"
    )
    lpg = taught(tmp_path / "lpg", score, tiny)
    dpt = train(
        "digits", method="dpt-lp", labels="2/class", out=tmp_path / "dpt", steps=1,
        teacher=score.folder.path, overrides=tiny, device="cpu",
    )  # fmt: skip
    one, other = (
        load_file(run.folder.path / "teacher.safetensors")["probabilities"] for run in (lpg, dpt)
    )
    torch.testing.assert_close(one, other)
    batch = made[-1].at(0)["labelled"]
    shown = {
        image.numpy().tobytes(): label
        for image, label in zip(
            dpt.dataset.examples(dpt.splits.train), other.argmax(1).tolist(), strict=True
        )
    }
    assert [shown[image.numpy().tobytes()] for image in batch.x] == batch.y.tolist()


def test_teachers_that_cannot_teach_are_refused(
    tmp_path: Path, tiny: tuple[str, ...], finished_run: Run
) -> None:
    folder, out = finished_run.folder.path, tmp_path / "run"
    with pytest.raises(UserError, match=r"cg takes no teacher; .* choose one of dpt-lp, lpg"):
        train("digits", method="cg", teacher=folder, out=out, overrides=tiny)
    with pytest.raises(
        UserError, match=r"dpt-lp has no unconditional score model.*--teacher features"
    ):
        train("digits", method="dpt-lp", out=out, overrides=tiny)
    with pytest.raises(UserError, match="knows examples of 8×8 with 1 channel, moons has 2 num"):
        train("moons", method="dpt-lp", teacher=folder, out=out, overrides=tiny)
    for name, says in {
        "none": "there is no run folder",
        "none.csv": "none.csv cannot be read",
        "transformers:./none": "there is no such folder",
    }.items():
        with pytest.raises(UserError, match=says):
            train("digits", method="lpg", teacher=name, out=out, overrides=tiny)
    with pytest.raises(UserError, match="reads images, and moons holds vectors"):
        train("moons", method="lpg", teacher="transformers:x", out=out, overrides=tiny)
