"""The published experiments that can be done again, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewlabel.errors import UserError
from fewlabel.experiments.cifar_tables import (
    reproduce_cifar10_dlsm,
    reproduce_cifar10_few_labels,
)
from fewlabel.experiments.dlsm_moons import reproduce_dlsm_moons, reproduce_paper
from fewlabel.experiments.few_label_moons import QUICK, reproduce_few_label_moons

__all__ = ["EXPERIMENTS", "ON_DATA", "WHOLE", "reproduce"]

WHOLE = "own"

EXPERIMENTS: dict[str, dict[str, Callable[[Path], dict[str, Any]]]] = {
    "dlsm-moons": {WHOLE: reproduce_dlsm_moons, "paper": reproduce_paper},
    "few-label-moons": {
        WHOLE: reproduce_few_label_moons,
        "quick": lambda out: reproduce_few_label_moons(out, QUICK),
    },
}
"""The recipes of each experiment: ours, that of the publication, a short one."""


ON_DATA: dict[str, Callable[..., dict[str, Any]]] = {
    "cifar10-dlsm": reproduce_cifar10_dlsm,
    "cifar10-few-labels": reproduce_cifar10_few_labels,
}
"""Experiments on data that the user has: (out, data, extractor, scale_down)."""


def reproduce(
    name: str,
    out: Path,
    recipe: str = WHOLE,
    *,
    data: str | None = None,
    extractor: str = "judge",
    scale_down: bool = False,
) -> dict[str, Any]:
    """Do an experiment again; called again it goes on where it was stopped.

    Args:
        name: a name in `EXPERIMENTS` or `ON_DATA`.
        out: the folder; it gets the runs, table.json, table.md and a figure or a page.
        recipe: one of the experiment's.
        data: the images, for those in `ON_DATA`.
        extractor: whose features are compared, for those in `ON_DATA`.
        scale_down: a trial of a minute, for those in `ON_DATA`.

    Returns:
        The document of table.json.

    Raises:
        UserError: for an unknown experiment, a recipe that it does not have, or data that is
            missing or not wanted.
    """
    if name not in (*EXPERIMENTS, *ON_DATA):
        known = ", ".join([*EXPERIMENTS, *ON_DATA])
        raise UserError(f"experiment {name!r} is unknown; choose one of {known}")
    recipes = EXPERIMENTS.get(name, {WHOLE: None})
    if recipe not in recipes:
        raise UserError(f"{name} has no recipe {recipe!r}; choose one of {', '.join(recipes)}")
    if name in ON_DATA:
        if data is None:
            raise UserError(f"{name} needs the images: give --data cifar10:FOLDER")
        return ON_DATA[name](out, data, extractor, scale_down)
    if data is not None or scale_down or extractor != "judge":
        raise UserError(f"{name} takes no --data, --extractor or --scale-down; leave them out")
    return EXPERIMENTS[name][recipe](out)
