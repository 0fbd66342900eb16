"""The packaged recipes: as published, overridden by what the user gives, small when asked."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cifar_files import write_cifar

from fewlabel.errors import UserError
from fewlabel.experiments.grid import grid
from fewlabel.methods import METHODS
from fewlabel.metrics.table import METRICS
from fewlabel.recipes import RECIPES, find_recipe
from fewlabel.samplers import SAMPLERS
from fewlabel.training.plan import Plan, plan

PUBLISHED = {"ncsn++": (950_000, 0.999, "ve"), "ddpm++": (1_300_000, 0.9999, "vp")}
"""Steps, EMA and process of the score models: Chao et al. 2022 and Song et al. 2021."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cifar")
    return {
        f"cifar{classes}": write_cifar(folder / f"{classes}", classes, train=6, test=2)
        for classes in (10, 100)
    }


def planned(data: dict[str, str], name: str, options: dict[str, Any], **more: Any) -> Plan:
    return plan(data[name.split("-")[0]], options={"method": "cg"} | options, recipe=name, **more)


def test_there_is_one_a_dataset_and_score_network_and_it_is_packaged() -> None:
    assert {*RECIPES} == {f"{d}-{n}" for d in ("cifar10", "cifar100") for n in PUBLISHED}
    for name in RECIPES:
        assert files("fewlabel.recipes").joinpath(f"{name}.yaml").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_published_settings(name: str, data: dict[str, str]) -> None:
    dataset, network = name.split("-")
    config = planned(data, name, {}).config
    steps, ema, process = PUBLISHED[network]
    assert config.shape == (3, 32, 32)
    assert config.process["name"] == process
    score = config.score.fit
    assert (score.steps, score.batch, score.learning_rate, score.ema) == (steps, 128, 2e-4, ema)
    assert (score.warmup, score.schedule, score.weight_decay) == (5000, "constant", 0)
    assert score.flip
    classifier = config.classifier
    assert classifier.fit.flip
    assert classifier.network == {"cifar10": "resnet18", "cifar100": "resnet34"}[dataset]
    assert (classifier.fit.steps, classifier.fit.batch) == (60_000, 150)
    assert classifier.fit.warmup == {"cifar10": 0, "cifar100": 1000}[dataset]
    recipe = find_recipe(name)
    assert recipe.per_class * int(dataset[5:]) == 50_000
    assert recipe.steps == 1000
    assert recipe.labels == ("0.05", "0.2", "0.4", "0.6", "0.8", "all")
    assert {*recipe.methods} < {*METHODS}
    assert {recipe.sampler} <= {*SAMPLERS}
    assert {*recipe.metrics} <= {*METRICS}


def test_what_the_user_gives_overrides_a_recipe(data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("classifier: {fit: {warmup: 7, ema: 0.5}}\n")
    config = planned(
        data,
        "cifar100-ncsn++",
        {"size": 16},
        steps=9,
        config=tmp_path / "mine.yaml",
        overrides=["score.fit.steps=11", "classifier.fit.ema=0.25"],
    ).config
    assert config.shape == (3, 16, 16)
    assert (config.score.fit.steps, config.classifier.fit.steps) == (11, 9)
    assert (config.classifier.fit.warmup, config.classifier.fit.ema) == (7, 0.25)
    assert config.classifier.network == "resnet34"  # of the recipe


@pytest.mark.parametrize("name", RECIPES)
def test_scaled_down_only_sizes_change(name: str, data: dict[str, str]) -> None:
    large, small = (
        planned(data, name, {}, scale_down=down).config.model_dump() for down in (False, True)
    )
    for of_stage in (large["score"], large["classifier"]):
        assert of_stage["fit"]["steps"] > 1000
    sizes = {"widths", "layers", "sheet_every", "fit"}
    for key in {*large} - {"size", "shape", "sigma_data"}:
        ours, theirs = large[key], small[key]
        if key in ("score", "classifier"):
            ours, theirs = (
                {k: v for k, v in of.items() if k not in sizes} for of in (ours, theirs)
            )
            for k in ("learning_rate", "schedule", "weight_decay", "ema", "clip", "weights"):
                assert large[key]["fit"][k] == small[key]["fit"][k]
        assert ours == theirs, key
    whole, few = find_recipe(name), find_recipe(name, scale_down=True)
    for key in ("methods", "metrics", "sampler"):
        assert getattr(whole, key) == getattr(few, key)


def test_a_grid_takes_from_the_recipe_what_was_not_given() -> None:
    asked = grid("x", "cifar100-ddpm++", methods=["cg"], sampler=None, per_class=30)
    recipe = find_recipe("cifar100-ddpm++")
    assert (asked.methods, asked.labels) == (("cg",), recipe.labels)
    protocol = asked.protocol
    assert (protocol.sampler, protocol.steps, protocol.per_class) == ("em", 1000, 30)
    assert (protocol.size, protocol.preset, protocol.scales) == (32, "ddpm++", recipe.scales)
    assert grid("x", steps=None).protocol.steps is None


def test_an_unknown_recipe_and_none_to_scale_down_are_refused(cli, tmp_path: Path) -> None:
    for command in ("train", "compare"):
        refused = cli(command, "digits", "--scale-down", "--out", tmp_path / "out")
        assert (refused.status, "give --recipe too" in refused.err) == (2, True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"recipe 'cifar' is unknown; choose one of cifar10-ddpm"):
        find_recipe("cifar")
