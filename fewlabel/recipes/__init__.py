"""Recipes: published settings of a dataset and a score network, as YAML beside this file.

A recipe holds what `train` takes (settings, key by key over those of its preset) and what
`compare` takes (methods, amounts of labels, scales, metrics, samples). Options and `--set`
override it. Scaled down it is the same in all but size, so that it can be tried in a minute.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fewlabel.config import read_yaml
from fewlabel.errors import UserError
from fewlabel.methods import METHODS

__all__ = ["NO_RECIPE", "RECIPES", "Recipe", "find_recipe", "merged"]

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]

_FOLDER = Path(__file__).parent
RECIPES = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
"""The names of the recipes."""

NO_RECIPE = "--scale-down is the small form of a recipe: give --recipe too"
"""What is said if there is none to scale down."""

_METHODS = tuple(name for name in METHODS if name != "uncond")
_SHORT = {"steps": 4, "batch": 8, "warmup": 0, "log_every": 2, "validate_every": 4}
_SCALED_DOWN = {
    "size": 8,
    "score": {"widths": [8, 8, 8, 8], "layers": 1, "sheet_every": 0, "fit": _SHORT},
    "classifier": {"widths": [8, 8, 16, 16], "fit": _SHORT},  # at 1 × 1 a group has two values
}
_FEWEST = 10  # samples of each class, for metrics with an interval


class Recipe(BaseModel):
    """A file of this folder.

    The defaults are the amounts of labels and the measures of Huang, Chen & Lin 2023 (arXiv
    2307.04081), with every method of the table and the inception score of Chao et al. 2022; the
    scales are ours, from Bayes' rule up.

    Attributes:
        summary: one line for `fewlabel recipes`.
        settings: fields of the configuration, as `--config` reads them.
        methods: names in `fewlabel.methods.METHODS`.
        labels: amounts of labels, as `train` takes them.
        scales: guidance scales to choose from.
        metrics: what is reported.
        per_class: samples of each class that are reported.
        per_class_to_choose: samples of each class by which scales and weights are chosen.
        sampler: a name in `fewlabel.samplers.SAMPLERS`.
        steps: its grid points.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    settings: dict[str, Any]
    methods: Names = _METHODS
    labels: Names = ("0.05", "0.2", "0.4", "0.6", "0.8", "all")
    scales: Annotated[tuple[float, ...], Field(min_length=1)] = (1, 1.5, 2, 3, 4, 6, 9)
    metrics: Names = ("accuracy", "intra-fid", "fid", "is")
    per_class: Count
    per_class_to_choose: Count = 40
    sampler: str
    steps: Count

    def scaled_down(self) -> "Recipe":
        """The same with small images and networks, few steps and samples, and the fewest labels.

        Methods, process, blocks, classifier network, losses, sampler and metrics stay.
        """
        return self.model_copy(
            update={
                "settings": merged(self.settings, _SCALED_DOWN),
                "labels": self.labels[:1],
                "scales": self.scales[:1] + self.scales[-1:],
                "per_class": _FEWEST,
                "per_class_to_choose": _FEWEST,
                "steps": 2,
            }
        )


def find_recipe(name: str, scale_down: bool = False) -> Recipe:
    """The recipe called `name`, scaled down if asked for.

    Raises:
        UserError: if there is none.
    """
    if name not in RECIPES:
        raise UserError(f"recipe {name!r} is unknown; choose one of {', '.join(RECIPES)}")
    recipe = Recipe.model_validate(read_yaml(_FOLDER / f"{name}.yaml"))
    return recipe.scaled_down() if scale_down else recipe


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` on top, nested mappings key by key."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
