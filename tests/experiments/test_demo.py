import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fewlabel.errors import UserError
from fewlabel.experiments import demo
from fewlabel.run import Run


@pytest.fixture(scope="module")
def document(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo on two runs that are already trained, with few samples."""
    out = tmp_path_factory.mktemp("demo")

    def trained(data: str, *, out: Path, **settings: Any) -> Run:
        shutil.copytree(finished_run.folder.path, out)
        return Run(out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "train", trained)
        patch.setattr(demo, "_SCALES", (1.0, 3.0))
        patch.setattr(demo, "_PER_CLASS_TO_CHOOSE", 10)
        patch.setattr(demo, "_PER_CLASS", 20)
        document = demo.run_demo(out)
    assert document == json.loads((out / "table.json").read_text())
    return document


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


def test_reported_figures_are_not_those_of_the_choice(document: dict[str, Any]) -> None:
    """The same run at the same scale, but other samples and other real images."""
    chosen = {(r["method"], r["scale"], r["metric"]): r["value"] for r in document["validation"]}
    for row in document["rows"]:
        if row["metric"] == "intra-fid":
            assert row["value"] != chosen[row["method"], row["scale"], "intra-fid"]


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


def test_a_folder_of_other_data_is_refused(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.folder.path, tmp_path / "cg")
    with pytest.raises(UserError, match=r"another run: there"):
        demo.run_demo(tmp_path, "digits", "0.1")
