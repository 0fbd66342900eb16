from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabel.batch import UNLABELLED
from fewlabel.data import load_digits, open_dataset
from fewlabel.errors import UserError
from fewlabel.extractors.extractor import module_extractor
from fewlabel.metrics import fid, intra, judge
from fewlabel.metrics.extractors import find_extractor
from fewlabel.metrics.judge import Judge, train_judge
from fewlabel.run import Run


@pytest.fixture(autouse=True)
def weak_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path))  # these judges are too weak for others
    monkeypatch.setattr(judge, "_STEPS", 20)
    monkeypatch.setattr(judge, "_EPOCHS", 0)


def test_distances_are_the_extractors_and_accuracy_the_judges(finished_run: Run) -> None:
    """With pixels as features the distances are those of the pixels."""
    metrics, options = ("accuracy", "fid", "intra-fid"), {"per_class": 10, "steps": 3, "seed": 4}
    pixels = finished_run.evaluate(metrics, (1.0,), extractor=nn.Flatten(), **options)
    again = finished_run.evaluate(metrics, (1.0,), extractor=nn.Flatten(), **options)
    usual = finished_run.evaluate(metrics, (1.0,), **options)
    assert pixels.figures == again.figures
    assert pixels.extractor.startswith("Flatten-")
    assert usual.extractor.startswith("judge-")

    drawn = finished_run.draw(n=100, scale=1.0, steps=3, seed=4)
    dataset, splits = finished_run.dataset, finished_run.splits
    chosen = np.setdiff1d(np.arange(len(dataset)), splits.validation)
    chosen = chosen[dataset.labels[chosen] != UNLABELLED]
    real, fake = dataset.examples(chosen).flatten(1), drawn.images.flatten(1)
    found = {f.metric: f.value for f in pixels.figures if f.class_index is None}
    assert found["fid"] == pytest.approx(fid(real, fake), rel=1e-6)
    mean, _ = intra(fid)(real, torch.from_numpy(dataset.labels[chosen]), fake, drawn.labels)
    assert found["intra-fid"] == pytest.approx(mean, rel=1e-6)

    def accuracies(figures: list) -> list:
        return [f for f in figures if f.metric == "accuracy"]

    assert accuracies(pixels.figures) == accuracies(usual.figures)
    assert pixels.judge_accuracy == usual.judge_accuracy


def test_real_images_are_read_only_for_what_compares_with_them(finished_run: Run) -> None:
    class Counting(nn.Flatten):
        seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Counting.seen += len(x)
            return super().forward(x)

    how = {"per_class": 10, "steps": 2, "extractor": Counting(), "batch_size": 64}
    finished_run.evaluate(("accuracy",), (1.0, 2.0), **how)
    assert Counting.seen == 200
    finished_run.evaluate(("fid",), (1.0, 2.0), **how)
    real = len(finished_run.dataset) - len(finished_run.splits.validation)
    assert Counting.seen == 400 + real


def test_the_judge_reads_whatever_the_batch(finished_run: Run) -> None:
    found = find_extractor("judge", finished_run.dataset)
    assert isinstance(found, Judge)
    x = finished_run.dataset.examples(np.arange(700))
    features, log_prob = found.read(x)
    torch.testing.assert_close(found.read(x[600:])[0], features[600:], rtol=1e-4, atol=1e-5)
    assert log_prob.exp().sum(1).sub(1).abs().max() < 1e-5
    own = found.read(finished_run.dataset.examples(finished_run.splits.train))[0]
    assert float(own.var(0).mean()) == pytest.approx(1, rel=1e-3)  # unit mean variance
    assert train_judge(finished_run.dataset).key == found.key


def test_the_judge_learns_from_the_training_split_and_is_tested_on_the_test_split(
    finished_run: Run,
) -> None:
    """Blank images held out give the same network; it reads none of those that are tested on."""
    dataset, splits = finished_run.dataset, finished_run.splits
    usual = train_judge(dataset)

    def with_blank(indices: NDArray[np.int64]) -> Judge:
        values = dataset.values.copy()
        values[indices] = 0
        return train_judge(replace(dataset, values=values, fingerprint=f"{indices[0]}"))

    validation, test, training = map(
        with_blank, (splits.validation, splits.test, splits.train[:200])
    )
    assert validation.key == test.key == usual.key != training.key
    assert validation.accuracy == usual.accuracy
    assert usual.accuracy is not None
    assert test.accuracy is not None
    assert test.accuracy.value < 0.2 < usual.accuracy.value


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_judge_of_vectors_is_as_good_in_every_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    """Metres or kilometres: the noise it is trained under is relative to the spread."""
    monkeypatch.setattr(judge, "_STEPS", 100)
    rng, labels = np.random.default_rng(0), np.arange(600) % 3
    vectors = np.eye(3)[labels] + rng.standard_normal((600, 3)) / 3
    np.savez(tmp_path / "v.npz", vectors=unit * vectors, labels=labels)
    dataset = open_dataset(tmp_path / "v.npz")
    verdicts = train_judge(dataset).read(dataset.examples(np.arange(600)))[1].argmax(1)
    nearest = vectors.argmax(1)  # Bayes' rule
    assert (verdicts.numpy() == nearest).mean() > 0.95


def test_an_extractor_is_taken_as_it_is() -> None:
    own = module_extractor(nn.Flatten(), "pixels")
    assert find_extractor(own, load_digits()) is own
    assert find_extractor(nn.Flatten(), load_digits()).key == own.key


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("magic", "digits", "extractor 'magic' is unknown; choose one of judge, inception:FILE"),
        ("inception:", "digits", "extractor 'inception:' is unknown"),
        ("inception:/no/such.pth", "digits", "weights /no/such.pth cannot be read"),
        ("transformers:/no/such", "digits", "transformers:/no/such: there is no such folder"),
        ("inception:x.pth", "moons", "reads images, and moons holds vectors"),
    ],
)
def test_refuses_unknown_names(name: str, data: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_extractor(name, open_dataset(data))


def test_features_that_are_not_finite_stop_the_evaluation(finished_run: Run) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).log()

    with pytest.raises(UserError, match=r"extractor Broken-.*: features hold NaN"):
        finished_run.evaluate(("fid",), (1.0,), per_class=10, steps=3, extractor=Broken())
