"""What a comparison is made of: protocol, methods, amounts of labels; by a recipe or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewlabel.errors import UserError
from fewlabel.experiments.compare_cells import Protocol
from fewlabel.recipes import NO_RECIPE, find_recipe

__all__ = ["Grid", "grid"]

_METHODS = ("cg", "cg-dlsm", "cg-sc-all", "cfg-all", "lpg")
_LABELS = ("0.05",)


@dataclass(frozen=True)
class Grid:
    """The arguments of `run_comparison`.

    Attributes:
        protocol: what holds for every cell.
        methods: names in `METHODS`.
        labels: amounts of labels, as `train` takes them.
    """

    protocol: Protocol
    methods: tuple[str, ...] = _METHODS
    labels: tuple[str, ...] = _LABELS


def grid(
    data: str,
    recipe: str | None = None,
    scale_down: bool = False,
    methods: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    **given: Any,
) -> Grid:
    """A grid of what was given, of the recipe where nothing was, and of the defaults.

    Args:
        data: images, as `train` takes them.
        recipe: a name in `fewlabel.recipes.RECIPES`.
        scale_down: of the recipe take the small form.
        methods: None means not given.
        labels: None means not given.
        given: other attributes of a `Protocol`; None means not given.

    Raises:
        UserError: for an unknown recipe, or none to scale down.
    """
    asked = {key: value for key, value in given.items() if value is not None}
    if recipe is None:
        if scale_down:
            raise UserError(NO_RECIPE)
        return Grid(Protocol(data, **asked), tuple(methods or _METHODS), tuple(labels or _LABELS))
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
    return Grid(protocol, tuple(methods or found.methods), tuple(labels or found.labels))
