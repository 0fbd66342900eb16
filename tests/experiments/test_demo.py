import json
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewlabel.cli import main
from fewlabel.errors import UserError
from fewlabel.experiments import demo
from fewlabel.metrics import fid, intra
from fewlabel.metrics.judge import train_judge
from fewlabel.run import Run, load
from fewlabel.training.train import train

LABELS, OVERRIDES = "2/class", ["classifier.fit.steps=7"]


@dataclass
class Demo:
    """A demo, its document, and the arguments with which it trained."""

    out: Path
    document: dict[str, Any] = field(default_factory=dict)
    trained: list[tuple[Any, ...]] = field(default_factory=list)


@pytest.fixture(scope="module")
def shown(
    finished_run: Run, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Demo:
    """The demo on two runs of seconds, with few samples."""
    shown = Demo(tmp_path_factory.mktemp("demo"))

    def trained(data: str, *, out: Path, **settings: Any) -> Run:
        shown.trained.append((data, out, settings))
        if settings["method"] == finished_run.config.method:
            shutil.copytree(finished_run.folder.path, out)
            return load(out, device="cpu")
        return train(
            "digits", method=settings["method"], labels=0.05, score=finished_run.folder.path,
            steps=2, out=out, overrides=tiny, device="cpu",
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "train", trained)
        patch.setattr(demo, "_SCALES", (1.0, 3.0))
        patch.setattr(demo, "_PER_CLASS_TO_CHOOSE", 10)
        patch.setattr(demo, "_PER_CLASS", 12)
        told = ["--labels", LABELS, "--out", str(shown.out), "--set", *OVERRIDES, "--json"]
        patch.setattr(sys, "argv", ["fewlabel", "demo", "digits", *told])
        with redirect_stdout(StringIO()) as said, pytest.raises(SystemExit, match="0"):
            main()
    shown.document = json.loads(said.getvalue())
    names = {"report": "report.html", "grid": "grid.png"}  # so that the folder may move
    assert shown.document | names == json.loads((shown.out / "table.json").read_text())
    assert {key: shown.document[key] for key in names} == {
        key: str(shown.out / name) for key, name in names.items()
    }
    return shown


@pytest.fixture
def document(shown: Demo) -> dict[str, Any]:
    return shown.document


def test_both_methods_train_alike_and_share_the_score_model(shown: Demo) -> None:
    alike = {"labels": LABELS, "overrides": OVERRIDES, "exist_ok": True, "size": None}
    cg, lpg = (shown.out / method for method in ("cg", "lpg"))
    assert shown.trained == [
        ("digits", cg, {"method": "cg", "score": None, **alike}),
        ("digits", lpg, {"method": "lpg", "score": cg, **alike}),
    ]


def test_what_the_demo_sets_itself_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Both methods would be the same."""
    with pytest.raises(UserError, match=r"--set method=cg: .* give `fewlabel compare --methods`"):
        demo.run_demo(tmp_path / "out", overrides=["method=cg"])
    assert not (tmp_path / "out").exists()


def test_rows_are_those_of_the_contract(document: dict[str, Any]) -> None:
    keys = {(row["method"], row["metric"]) for row in document["rows"]}
    assert keys == {(m, f) for m in ("cg", "lpg") for f in ("accuracy", "intra-fid")}
    assert len(document["rows"]) == len(keys)


def test_the_scale_is_the_best_on_the_validation_split(document: dict[str, Any]) -> None:
    for method in ("cg", "lpg"):
        sweep = {
            row["scale"]: row["value"]
            for row in document["validation"]
            if (row["method"], row["metric"]) == (method, "intra-fid")
        }
        assert set(sweep) == {1.0, 3.0}
        reported = {row["scale"] for row in document["rows"] if row["method"] == method}
        assert reported == {min(sweep, key=sweep.__getitem__)}


@pytest.mark.parametrize(
    ("method", "key", "seed", "per_class"), [("cg", "validation", 1, 10), ("lpg", "rows", 0, 12)]
)
def test_choices_and_reports_are_by_images_and_samples_of_their_own(
    shown: Demo, method: str, key: str, seed: int, per_class: int
) -> None:
    """By hand, from the run: what is chosen by takes no part in what is reported."""
    of_method = [row for row in shown.document["rows"] if row["method"] == method]
    row = next(
        row
        for row in shown.document[key]
        if (row["method"], row["metric"]) == (method, "intra-fid")
        and row["scale"] == of_method[0]["scale"]
    )
    run = load(shown.out / method, device="cpu")
    drawn = run.draw(n=10 * per_class, scale=row["scale"], seed=seed)
    real = run.splits.validation
    if key == "rows":
        real = np.setdiff1d(np.arange(len(run.dataset)), real)
    reader = train_judge(run.dataset)
    features, fake = (reader.read(x)[0] for x in (run.dataset.examples(real), drawn.images))
    mean, _ = intra(fid)(features, run.dataset.labels[real], fake, drawn.labels)
    assert row["value"] == pytest.approx(mean, rel=1e-3)


def test_the_page_tells_the_figures_and_the_next_step(document: dict[str, Any]) -> None:
    class Text(HTMLParser):
        said = ""

        def handle_data(self, data: str) -> None:
            self.said += data

    text = Text()
    text.feed(Path(document["report"]).read_text(encoding="utf-8"))
    for row in document["rows"]:
        expected = f"{row['value']:.1%}" if row["metric"] == "accuracy" else f"{row['value']:.2f}"
        assert expected in text.said
    assert all(command in text.said for command in document["next"])
    assert Path(document["grid"]).is_file()


def test_the_command_prints_the_figures_and_the_next_step(
    document: dict[str, Any], cli: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "run_demo", lambda *what: document)
    lines = cli("demo").out.splitlines()
    for row in document["rows"]:
        where = rf"{row['method']} +scale {row['scale']:g} +{row['metric']} "
        (line,) = (line for line in lines if re.match(where, line))
        assert line.endswith(f" {row['value']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]")
    assert {f"grid    {document['grid']}", f"report  {document['report']}"} <= {*lines}
    assert {f"  {command}" for command in document["next"]} <= {*lines}


def test_a_folder_of_other_data_is_refused(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.folder.path, tmp_path / "cg")
    with pytest.raises(UserError, match=r"another run: there"):
        demo.run_demo(tmp_path, "digits", "0.1")
