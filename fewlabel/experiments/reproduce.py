"""The published experiments that can be done again, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewlabel.errors import UserError
from fewlabel.experiments.dlsm_moons import reproduce_dlsm_moons
from fewlabel.experiments.few_label_moons import QUICK, reproduce_few_label_moons

__all__ = ["EXPERIMENTS", "reproduce"]

Experiment = Callable[[Path], dict[str, Any]]

EXPERIMENTS: dict[str, tuple[Experiment, Experiment | None]] = {
    "dlsm-moons": (reproduce_dlsm_moons, None),
    "few-label-moons": (
        reproduce_few_label_moons,
        lambda out: reproduce_few_label_moons(out, QUICK),
    ),
}
"""Each experiment, and its quick form if it has one."""


def reproduce(name: str, out: Path, quick: bool = False) -> dict[str, Any]:
    """Do an experiment again; called again it goes on where it was stopped.

    Args:
        name: a name in `EXPERIMENTS`.
        out: the folder; it gets the runs, table.json, table.md and a figure.
        quick: the experiment's quick form.

    Returns:
        The document of table.json.

    Raises:
        UserError: for an unknown experiment, or a quick form that it does not have.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"experiment {name!r} is unknown; choose one of {', '.join(EXPERIMENTS)}")
    whole, short = EXPERIMENTS[name]
    if not quick:
        return whole(out)
    if short is None:
        raise UserError(f"{name} takes minutes and has no quick form; leave --quick out")
    return short(out)
