"""The published experiments that can be done again, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewlabel.errors import UserError
from fewlabel.experiments.dlsm_moons import reproduce_dlsm_moons, reproduce_paper
from fewlabel.experiments.few_label_moons import QUICK, reproduce_few_label_moons

__all__ = ["EXPERIMENTS", "WHOLE", "reproduce"]

WHOLE = "own"

EXPERIMENTS: dict[str, dict[str, Callable[[Path], dict[str, Any]]]] = {
    "dlsm-moons": {WHOLE: reproduce_dlsm_moons, "paper": reproduce_paper},
    "few-label-moons": {
        WHOLE: reproduce_few_label_moons,
        "quick": lambda out: reproduce_few_label_moons(out, QUICK),
    },
}
"""The recipes of each experiment: ours, that of the publication, a short one."""


def reproduce(name: str, out: Path, recipe: str = WHOLE) -> dict[str, Any]:
    """Do an experiment again; called again it goes on where it was stopped.

    Args:
        name: a name in `EXPERIMENTS`.
        out: the folder; it gets the runs, table.json, table.md and a figure.
        recipe: one of the experiment's.

    Returns:
        The document of table.json.

    Raises:
        UserError: for an unknown experiment, or a recipe that it does not have.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"experiment {name!r} is unknown; choose one of {', '.join(EXPERIMENTS)}")
    recipes = EXPERIMENTS[name]
    if recipe not in recipes:
        raise UserError(f"{name} has no recipe {recipe!r}; choose one of {', '.join(recipes)}")
    return recipes[recipe](out)
