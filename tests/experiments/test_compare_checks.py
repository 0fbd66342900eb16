"""Comparisons that are refused, before anything is trained."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from compare_cases import asked
from PIL import Image

from fewlabel.data import Dataset, Splits, draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.experiments import compare
from fewlabel.experiments.compare import Results, run_comparison
from fewlabel.experiments.compare_cells import CellTask, Protocol, Row
from fewlabel.experiments.compare_checks import checked
from fewlabel.experiments.demo import run_demo
from fewlabel.files import locked
from fewlabel.metrics import classification_score, judge
from fewlabel.run import Run
from fewlabel.training.checkpoint import Checkpoints


def test_the_score_model_of_a_comparison_is_the_same_from_every_folder(
    protocol: Protocol, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run.folder.path
    monkeypatch.chdir(folder.parent)
    whole = checked(asked(replace(protocol, score=folder.name), ["cg"]))
    assert whole.protocol.score == str(folder)
    assert whole == checked(whole)
    with pytest.raises(UserError, match="there is no run folder mine"):
        checked(asked(replace(protocol, score="mine"), ["cond", "cg"]))


@pytest.mark.usefixtures("at_once")
def test_the_command_fails_if_every_cell_does(
    tiny: tuple[str, ...],
    tmp_path: Path,
    cli: Callable[..., SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(task: CellTask, **how: object) -> list[Row]:
        raise OSError("the disk is gone")

    monkeypatch.setattr(compare, "perform", broken)
    sets = [word for override in tiny for word in ("--set", override)]
    done = cli("compare", "digits", "--methods", "cond", "--out", tmp_path / "out", *sets)
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert last == "fewlabel: every cell failed: OSError: the disk is gone"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["cgg"]}, r"method 'cgg' is unknown"),
        ({"methods": ["cg", "cg"]}, r"--methods cg,cg: give each once"),
        ({"labels": ["5000/class"]}, r"5000"),
        ({"seeds": 0}, r"--seeds 0: give at least 1"),
        ({"draws": -1}, r"--draws -1: give at least 1"),
        ({"jobs": 0}, r"--jobs 0: give at least 1"),
        ({"metrics": ("accuracy", "beauty")}, r"metric 'beauty' is unknown"),
        ({"scales": ()}, r"no guidance scale"),
        ({"scales": (1.0, -2.0)}, r"guidance scale -2 is not"),
        ({"sampler": "dpm+"}, r"sampler 'dpm\+' is unknown"),
        ({"steps": 1}, r"steps=1 is too few"),
        ({"per_class": 5}, r"5 samples per class are too few for accuracy"),
        ({"extractor": "jury"}, r"extractor 'jury' is unknown"),
        ({"metrics": ("accuracy",), "overrides": ("score.fit.stepz=3",)}, r"stepz: unknown key"),
        ({"overrides": ("method=lpg",)}, r"--set method=lpg: .* give --methods"),
        ({"overrides": ("seed=7",)}, r"--set seed=7: .* give --seeds"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    protocol: Protocol, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    of_protocol = {k: v for k, v in change.items() if k in vars(protocol)}
    given = {"methods": ["cg"]} | {k: v for k, v in change.items() if k not in of_protocol}
    jobs = given.pop("jobs", 1)
    with pytest.raises(UserError, match=said):
        run_comparison(
            tmp_path / "out", asked(replace(protocol, **of_protocol), **given), jobs=jobs
        )
    assert not (tmp_path / "out").exists()


def birds(root: Path, coots: int) -> str:
    """A folder of two classes, one of 8 images, and 5 images without a label."""
    rng = np.random.default_rng(0)
    for name, n in {"heron": 8, "coot": coots, "unlabeled": 5}.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return str(root)


@pytest.mark.usefixtures("at_once", "weak_judges")
def test_classes_too_small_to_choose_by_are_refused_before_anything_is_trained(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Of 8 labelled images two are held out to choose by, of 7 one, which has no spread."""
    few = replace(protocol, data=birds(tmp_path / "few", 7))
    said = r"intra-fid needs 2 .* in the validation split, and of class coot of few 1 is there"
    with pytest.raises(UserError, match=said):
        run_comparison(tmp_path / "out", asked(few, ["cg"], ["all"]))
    with pytest.raises(UserError, match=said):
        run_demo(tmp_path / "out", str(tmp_path / "few"), "all")
    assert not (tmp_path / "out").exists()
    enough = replace(protocol, data=birds(tmp_path / "enough", 8))
    results = run_comparison(tmp_path / "out", asked(enough, ["cg"], ["all"]))
    assert results.failed == {}
    assert {row["split"] for row in results.rows} == {"validation", "report"}


@pytest.mark.usefixtures("at_once", "weak_judges")
def test_a_comparison_goes_on_with_the_labels_it_was_begun_with(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rows in the same CSV: methods that come later would know other labels."""
    monkeypatch.chdir(tmp_path)
    of_birds, listed = replace(protocol, data=birds(tmp_path / "birds", 10)), tmp_path / "few.csv"
    dataset = open_dataset(of_birds.data)
    rows = draw_splits(dataset, "all", 0).labelled
    assert dataset.files is not None
    names = [dataset.files[row] for row in [*rows[:3], *rows[-3:]]]
    listed.write_text("\n".join(["file", *names[1:-1]]))
    begun = run_comparison(tmp_path / "out", asked(of_birds, ["cg"], ["few.csv"], draws=3))
    assert begun.failed == {}
    assert {row["label_seed"] for row in begun.rows} == {0}
    run_comparison(tmp_path / "out", asked(of_birds, ["cg"], ["few.csv"], draws=3))
    listed.write_text("\n".join(["file", *names]))
    with pytest.raises(UserError, match=r"cg, few.csv labels, draw 0.* begun with other labels"):
        run_comparison(tmp_path / "out", asked(of_birds, ["cond"], ["few.csv"], draws=3))


@pytest.mark.usefixtures("at_once", "weak_judges")
def test_the_judge_is_trained_once_for_each_split_and_cas_once_for_each_report(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = birds(tmp_path / "birds", 60)
    dataset, trained = open_dataset(data), []
    splits = draw_splits(dataset, "all", 0)
    assert dataset.files is not None
    held_out = splits.validation[dataset.labels[splits.validation] >= 0]
    most = np.bincount(dataset.labels[held_out]).argmax()  # two of each class have to be left
    ends = [*splits.labelled[[0, -1]], held_out[dataset.labels[held_out] == most][0]]
    listed = tmp_path / "listed.csv"
    listed.write_text("\n".join(["file", *(dataset.files[row] for row in ends)]))
    usual = judge.train_classifier

    def spied(dataset: Dataset, splits: Splits, checkpoints: Checkpoints, title: str, *rest, **of):
        if checkpoints.newest() is None:
            trained.append(title)
        return usual(dataset, splits, checkpoints, title, *rest, **of)

    monkeypatch.setattr(judge, "train_classifier", spied)
    monkeypatch.setattr(classification_score, "train_classifier", spied)
    metrics: Any = {"metrics": ("accuracy", "cas"), "scales": (1.0,), "per_class_to_choose": 10}
    labels = ["all", "2/class", str(listed)]
    asked_for = asked(replace(protocol, data=data, **metrics), ["cg"], labels)
    results = run_comparison(tmp_path / "out", asked_for)
    assert {row["split"] for row in results.rows} == {"validation", "report"}
    assert Counter(trained) == {"judge": 2, "CAS classifier": 3}


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:-1], lines[-1][:20]],
        lambda lines: [lines[0], "", *lines[1:]],
        lambda lines: [lines[0], "5", *lines[1:]],
        lambda lines: [lines[0], lines[1].replace("method", "nethod")],
        lambda lines: [lines[0], lines[1][:9] + "\udcff" + lines[1][9:]],
    ],
)
def test_damaged_figures_are_refused_by_line(
    protocol: Protocol, tmp_path: Path, damage: Callable[[list[str]], list[str]]
) -> None:
    """A task has several lines: which one a damaged line was of is not known."""
    row = {"method": "cg", "labels": "all", "label_seed": 0, "seed": 0, "weight": None}
    rows = [row | {"split": "report", "value": value} for value in (0.1, 0.2)]
    path = tmp_path / "results.jsonl"
    Results.open(tmp_path, protocol).add(rows)
    assert Results.open(tmp_path, protocol).rows == rows
    lines = damage(path.read_text().splitlines())
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=rf"{path}, line 2 is damaged: remove the file") as caught:
        Results.open(tmp_path, protocol)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"data": "dig', b"[1]", b"5", b"\xff{}"])
def test_a_damaged_protocol_is_refused_by_its_path(
    protocol: Protocol, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "protocol.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path} is damaged: choose another --out"):
        Results.refuse_other(tmp_path, protocol)


def test_a_comparison_is_refused_while_another_has_its_folder(
    protocol: Protocol, tmp_path: Path
) -> None:
    with locked(tmp_path / "out"), pytest.raises(UserError, match="is being worked in by process"):
        run_comparison(tmp_path / "out", asked(protocol, ["cg"]))
