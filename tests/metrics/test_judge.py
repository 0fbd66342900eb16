"""The judge: how long it trains, on what, and how it is kept."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fewlabel.batch import UNLABELLED
from fewlabel.data import Batches, Dataset, Splits, draw_splits
from fewlabel.errors import UserError
from fewlabel.metrics import judge, judging
from fewlabel.metrics.judge import train_judge
from fewlabel.metrics.report import Report
from fewlabel.run import Run
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.loop import Record


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache for these judges alone, which are too weak for others."""
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "_STEPS", 25)
    return tmp_path / "cache"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Splits]:
    """The splits of every training of a classifier of the judge's kind."""
    found: list[Splits] = []

    class Spied(Batches):
        def __init__(self, dataset: Dataset, splits: Splits, *others: Any, **named: Any) -> None:
            super().__init__(dataset, splits, *others, **named)
            found.append(splits)

    monkeypatch.setattr(judge, "Batches", Spied)
    return found


def blobs(n: int, distance: float = 6.0, fingerprint: str = "blobs") -> Dataset:
    """Three classes in turn, of vectors around the corners of a triangle."""
    labels = np.arange(n) % 3
    noise = np.random.default_rng(0).standard_normal((n, 3))
    values = (distance * np.eye(3)[labels] + noise).astype(np.float32)
    return Dataset(
        name="blobs",
        values=values,
        labels=labels,
        class_names=("a", "b", "c"),
        fingerprint=fingerprint,
        test_fraction=0.3,
    )


def everything(dataset: Dataset) -> Splits:
    """All examples train."""
    return draw_splits(replace(dataset, test_fraction=0.0, validation_fraction=0.0), "all", 0)


class Asked(Exception):
    """What a training was asked for is known."""


@pytest.mark.parametrize(
    ("n", "epochs", "steps"),
    [(3, 200, 200), (18, 200, 200), (64, 200, 200), (6400, 6, 600), (54_000, 3, 2532)],
)
def test_the_fewer_examples_the_more_epochs_but_never_above_200(
    monkeypatch: pytest.MonkeyPatch, n: int, epochs: int, steps: int
) -> None:
    """By hand: epochs of ⌈n/64⌉ steps; at most 200, and at most 600 steps or three epochs."""
    monkeypatch.setattr(judge, "_STEPS", 600)
    asked: dict[str, Any] = {}

    def fit(
        model: nn.Module, objective: Any, batches: Batches, config: Any, *others: Any, **_: Any
    ):
        seen = sum(len(batches.at(step)["labelled"].x) for step in range(3))
        asked.update(rows=seen / 3, steps=config.steps)
        raise Asked

    monkeypatch.setattr(judge, "fit", fit)
    dataset = blobs(n)
    with pytest.raises(Asked):
        train_judge(dataset, everything(dataset))
    assert asked["steps"] == steps
    assert asked["steps"] * asked["rows"] / n == pytest.approx(epochs, rel=0.01)


@pytest.mark.parametrize(
    ("losses", "periods"),
    [
        ([2.0, 1.0, 0.5, *[0.5] * 30], 3 + 5),  # nothing more to learn
        ([2.0, 1.0, 0.5, 0.6, 0.7, 0.7, 0.7, 0.4, *[0.4] * 30], 8 + 5),  # a late gain counts
        ([0.3, 0.004, 0.003, 0.002, 0.001, *[0.0] * 30], 2 + 5),  # gains below 0.01 do not
        ([2 - 0.05 * i for i in range(40)], 30),  # it falls to the end
    ],
)
def test_training_ends_five_periods_after_the_loss_has_ceased_to_fall(
    monkeypatch: pytest.MonkeyPatch, losses: list[float], periods: int
) -> None:
    monkeypatch.setattr(judge, "_STEPS", 600)
    told = []

    def fit(
        model: nn.Module, objective: Any, batches: Batches, config: Any, seed: int,
        checkpoints: Checkpoints, *others: Any, stop: Callable[[], bool], **_: Any,
    ) -> Iterator[Record]:  # fmt: skip
        assert config.log_every == 20  # an epoch is shorter: four steps
        for index, step in enumerate(range(20, config.steps + 1, 20)):
            if stop():
                break
            told.append(losses[index])
            yield Record(step, config.steps, 0.0, {"ce": losses[index]}, {}, False, model)
        checkpoints.save(20 * len(told), {"ema": model.state_dict()})

    monkeypatch.setattr(judge, "fit", fit)
    dataset = blobs(210)
    train_judge(dataset, everything(dataset))
    assert told == losses[:periods]


def test_what_is_easy_is_learned_in_a_part_of_the_steps(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(judge, "_STEPS", 600)
    dataset = blobs(18)
    fresh = blobs(300).examples(np.arange(18, 300))
    found = train_judge(dataset, everything(dataset))
    (folder,) = (cache / "judges").iterdir()
    newest = Checkpoints(folder).newest()
    assert newest is not None
    assert 100 <= newest[0] < 200  # at least the patience, and less than all
    said = found.read(fresh)[1].argmax(1).numpy()
    assert (said == np.arange(18, 300) % 3).mean() > 0.95


def exchanged(splits: Splits, n: int) -> Splits:
    """Other splits: so many of the test examples train, and as many that trained are tested."""
    train, test = splits.train.copy(), splits.test.copy()
    train[:n], test[:n] = splits.test[:n], splits.train[:n]
    few = np.sort(train)[::2]
    return replace(splits, train=np.sort(train), test=np.sort(test), labelled=few)


def test_a_judge_of_given_splits_learns_every_label_there_and_nothing_held_out(
    trained: list[Splits],
) -> None:
    dataset = blobs(120)
    usual = draw_splits(dataset, "all", 0)
    given = exchanged(usual, 20)
    first = train_judge(dataset, given)
    (of_training,) = trained
    assert np.array_equal(of_training.labelled, given.train)  # not the few that show their label
    assert np.array_equal(of_training.train, given.train)

    def blank(rows: np.ndarray) -> judge.Judge:
        values = dataset.values.copy()
        values[rows] = 0
        return train_judge(replace(dataset, values=values, fingerprint=f"{rows[0]}"), given)

    assert blank(given.test).key == blank(given.validation).key == first.key
    assert blank(given.train[:20]).key != first.key
    other = train_judge(dataset)
    assert other.name != first.name
    assert np.array_equal(trained[-1].labelled, usual.train)


def test_it_is_made_once_for_the_same_rows_and_labels(trained: list[Splits]) -> None:
    dataset = blobs(60)
    splits = draw_splits(dataset, "all", 0)
    few = draw_splits(dataset, "2/class", 5)
    judges = [train_judge(dataset), train_judge(dataset, splits), train_judge(dataset, few)]
    assert len(trained) == 1
    assert len({(found.name, found.key) for found in judges}) == 1
    labels = dataset.labels.copy()
    labels[splits.train[0]] = UNLABELLED
    train_judge(replace(dataset, labels=labels), splits)
    assert len(trained) == 2


def test_a_run_is_judged_by_one_that_saw_none_of_its_held_out_images(
    copied_run: Path, trained: list[Splits]
) -> None:
    """Its split may be another than the data would give."""
    manifest = copied_run / "labels.json"
    before = Splits.from_json(json.loads(manifest.read_text()))
    kept = np.setdiff1d(before.train, before.labelled)[:50]
    train = np.sort(np.concatenate([np.setdiff1d(before.train, kept), before.test[:50]]))
    test = np.sort(np.concatenate([before.test[50:], kept]))
    manifest.write_text(json.dumps(replace(before, train=train, test=test).to_json()))
    run = Run(copied_run, "cpu")
    run.evaluate(("accuracy",), (1.0,), per_class=10, steps=2)
    (of_judge,) = trained
    assert np.array_equal(of_judge.labelled, train)


def flipped(content: bytes) -> bytes:
    """Another scale, in a file that can be read."""
    place = content.index(b'"scale"') + len(b'"scale": 0.')
    digit = b"1" if content[place : place + 1] != b"1" else b"2"
    return content[:place] + digit + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: b"null",
        lambda content: b"[1, 2]",
        lambda content: b"{}",
        lambda content: b"\xff" + content,
        lambda content: content.replace(b'"accuracy"', b'"accuracz"'),
        flipped,
    ],
)
def test_what_was_measured_is_measured_anew_if_it_is_damaged(
    cache: Path, trained: list[Splits], damage: Callable[[bytes], bytes]
) -> None:
    dataset = blobs(60, distance=2.0)
    whole = train_judge(dataset)
    (file,) = (cache / "judges").glob("*/measured.json")
    content = file.read_bytes()
    file.write_bytes(damage(content))
    again = train_judge(dataset)
    assert (again.scale, again.accuracy, again.key) == (whole.scale, whole.accuracy, whole.key)
    assert file.read_bytes() == content
    assert len(trained) == 1


def test_damaged_weights_are_trained_anew(cache: Path, trained: list[Splits]) -> None:
    dataset = blobs(60)
    whole = train_judge(dataset)
    (file,) = (cache / "judges").glob("*/step-*/ema.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert train_judge(dataset).key == whole.key
    assert len(trained) == 2


def test_a_cache_that_holds_the_judge_may_be_read_only(
    monkeypatch: pytest.MonkeyPatch, trained: list[Splits]
) -> None:
    dataset = blobs(60)
    whole = train_judge(dataset)

    def locked(folder: Path, patient: bool = False) -> None:
        raise UserError(f"cannot write {folder}: Read-only file system: choose another folder")

    monkeypatch.setattr(judge, "locked", locked)
    assert train_judge(dataset).key == whole.key
    assert len(trained) == 1


def test_without_a_cache_it_is_trained_once_in_a_process_and_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trained: list[Splits],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "file" / "cache"))
    dataset = blobs(60, fingerprint="never kept")
    first, second = train_judge(dataset), train_judge(dataset)
    assert first.key == second.key
    assert first.accuracy is not None
    assert len(trained) == 1
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert "note: the judge is not kept for the next time, cannot write" in note
    assert "FEWLABEL_CACHE" in note


class Verdicts(nn.Module):
    """Pixels as features, and verdicts of classes of its own."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = x.flatten(1)
        return pixels, pixels[:, :5].log_softmax(1)


@pytest.mark.parametrize(
    ("metrics", "extractor", "needed"),
    [
        (("fid", "intra-kid"), nn.Flatten(), False),
        (("fid", "is"), Verdicts(), False),
        (("is",), nn.Flatten(), True),
        (("fid", "accuracy"), Verdicts(), True),
    ],
)
def test_it_is_trained_only_for_metrics_that_ask_it(
    finished_run: Run,
    monkeypatch: pytest.MonkeyPatch,
    metrics: tuple[str, ...],
    extractor: nn.Module,
    needed: bool,
) -> None:
    asked = []

    def spied(*arguments: Any) -> judge.Judge:
        asked.append(arguments)
        return train_judge(*arguments)

    monkeypatch.setattr(judging, "train_judge", spied)
    how = {"per_class": 10, "steps": 2, "extractor": extractor}
    report: Report = finished_run.evaluate(metrics, (1.0, 2.0, 1.0), **how)
    assert len(asked) == needed
    assert (report.judge_accuracy is not None) == needed
    assert [draw.scale for draw in report.draws] == [1.0, 2.0]  # each once
