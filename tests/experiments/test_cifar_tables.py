"""The CIFAR tables and every recipe, scaled down, on files in CIFAR's format of real images."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cifar_files import write_cifar

from fewlabel.errors import UserError
from fewlabel.experiments.cifar_tables import PUBLISHED
from fewlabel.experiments.reproduce import EXPERIMENTS, ON_DATA, reproduce
from fewlabel.recipes import RECIPES, find_recipe
from fewlabel.run import load

COMMAND = Callable[..., SimpleNamespace]
FEW_LABELS = "cifar10-ncsn++"
"""The recipe of `reproduce cifar10-few-labels`, which takes its whole grid."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cifar")
    return {
        f"cifar{classes}": write_cifar(folder / f"{classes}", classes, train=24, test=12)
        for classes in (10, 100)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name != FEW_LABELS])
def test_a_recipe_runs_from_end_to_end(
    name: str, data: dict[str, str], cli: COMMAND, tmp_path: Path
) -> None:
    given = ["compare", data[name.split("-")[0]], "--recipe", name, "--scale-down", "--json"]
    done = cli(*given, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert_whole(json.loads(done.out), name, tmp_path / "out")


@pytest.mark.slow
def test_the_table_of_few_labels(data: dict[str, str], cli: COMMAND, tmp_path: Path) -> None:
    given = ["reproduce", "cifar10-few-labels", "--data", data["cifar10"], "--scale-down"]
    done = cli(*given, "--out", tmp_path, "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert_whole(document, FEW_LABELS, tmp_path)
    assert all(row["published"] is None for row in document["rows"])
    kept = json.loads((tmp_path / "table.json").read_text())
    assert kept == document | {"report": "report.html"}  # so that the folder may move


def assert_whole(document: dict, name: str, out: Path) -> None:
    """Every method has every figure, on the recipe's own process and networks."""
    recipe = find_recipe(name, scale_down=True)
    assert document["failed"] == {}
    rows = [row for row in document["rows"] if row.get("sigma") is None]
    assert all(math.isfinite(row["value"]) for row in rows)
    found = {(row["labels"], row["method"], row["metric"]) for row in rows}
    assert found == {("0.05", m, metric) for m in recipe.methods for metric in recipe.metrics}
    score = load(out / "runs" / "score").config
    network = name.split("-")[1]
    assert score.process["name"] == {"ncsn++": "ve", "ddpm++": "vp"}[network]
    assert score.score.blocks == network
    commands = (out / "report.html").read_text()
    assert f"--recipe {name} --scale-down" in commands


@pytest.mark.slow
def test_the_table_of_dlsm_has_the_published_figures_beside_ours(
    data: dict[str, str], tmp_path: Path
) -> None:
    document = reproduce("cifar10-dlsm", tmp_path, data=data["cifar10"], scale_down=True)
    assert document["failed"] == {}
    told = {(r["method"], r["metric"]): r for r in document["rows"]}
    assert {key: row["published"] for key, row in told.items()} == {
        (method, metric): value
        for method, figures in PUBLISHED.items()
        for metric, value in figures.items()
    }
    assert told["cg-dlsm", "fid"]["published"] == 2.25
    assert told["cg-x10", "intra-coverage"]["published"] == 0.66
    scales = {
        method: {r["scale"] for (m, _), r in told.items() if m == method} for method in PUBLISHED
    }
    assert scales == {"cg": {1.0}, "cg-x10": {10.0}, "cg-dlsm": {1.0}}
    assert told["cg", "fid"]["value"] != told["cg-x10", "fid"]["value"]
    table = (tmp_path / "table.md").read_text()
    assert "cannot be compared" in table
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = reproduce("cifar10-dlsm", tmp_path, data=data["cifar10"], scale_down=True)
    assert again == document
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


@pytest.mark.parametrize("name", ON_DATA)
def test_without_the_images_one_line_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} needs the images: give --data cifar10:FOLDER"):
        reproduce(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_moons_take_no_images(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} takes no --data"):
        reproduce(name, tmp_path / "out", data="cifar10:x")
