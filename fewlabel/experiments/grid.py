"""What a comparison is made of: protocol, methods, labels, repeats; by a recipe or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.data.labels import is_drawn
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.experiments.compare_cells import Protocol
from fewlabel.recipes import NO_RECIPE, find_recipe

__all__ = ["Grid", "grid"]

_METHODS = ("cg", "cg-dlsm", "cg-sc-all", "cfg-all", "lpg")
_LABELS = ("0.05",)


@dataclass(frozen=True)
class Grid:
    """The cells of a comparison, and what holds for all of them.

    Attributes:
        protocol: what holds for every cell.
        methods: names in `METHODS`.
        labels: amounts of labels, as `train` takes them.
        seeds: seeds of training.
        draws: draws of the labels, each with every seed; None for one draw a seed.
    """

    protocol: Protocol
    methods: tuple[str, ...] = _METHODS
    labels: tuple[str, ...] = _LABELS
    seeds: int = 1
    draws: int | None = None

    @property
    def tables(self) -> dict[str, str]:
        """The whole path of each CSV of labels, by the name that its cells have."""
        tables = [Path(text).expanduser() for text in self.labels if is_table(text)]
        return {path.name: str(path.resolve()) for path in tables}

    def repeats(self, labels: str) -> list[tuple[int, int]]:
        """Seeds of the draw of labels and of training; labels that are not drawn have one draw."""
        if self.draws is None:
            return [(seed, seed) for seed in range(self.seeds)]
        draws = self.draws if is_drawn(labels) else 1
        return [(draw, seed) for draw in range(draws) for seed in range(self.seeds)]


def grid(
    data: str,
    recipe: str | None = None,
    scale_down: bool = False,
    methods: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    seeds: int = 1,
    draws: int | None = None,
    **given: Any,
) -> Grid:
    """A grid of what was given, of the recipe where nothing was, and of the defaults.

    Args:
        data: images, as `train` takes them.
        recipe: a name in `fewlabel.recipes.RECIPES`.
        scale_down: of the recipe take the small form.
        methods: None means not given.
        labels: None means not given.
        seeds: see `Grid`.
        draws: see `Grid`.
        given: other attributes of a `Protocol`; None means not given.

    Raises:
        UserError: for an unknown recipe, or none to scale down.
    """
    asked = {key: value for key, value in given.items() if value is not None}
    if recipe is None:
        if scale_down:
            raise UserError(NO_RECIPE)
        cells = tuple(methods or _METHODS), tuple(labels or _LABELS)
        return Grid(Protocol(data, **asked), *cells, seeds, draws)
    found = find_recipe(recipe, scale_down)
    of_recipe: dict[str, Any] = {
        "size": found.settings.get("size"),
        "preset": found.settings.get("preset"),
        "scales": found.scales,
        "metrics": found.metrics,
        "per_class": found.per_class,
        "per_class_to_choose": found.per_class_to_choose,
        "sampler": found.sampler,
        "steps": found.steps,
    }
    protocol = Protocol(data, recipe=recipe, scale_down=scale_down, **of_recipe | asked)
    cells = tuple(methods or found.methods), tuple(labels or found.labels)
    return Grid(protocol, *cells, seeds, draws)
