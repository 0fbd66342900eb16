"""Noise processes: x_t = α(t) x0 + σ(t) z with z ~ N(0, I); see `Process`."""

from dataclasses import fields
from typing import Any

from fewlabel.errors import UserError
from fewlabel.process.base import Process, broadcast
from fewlabel.process.continuous import EDM, VE, VP, SubVP
from fewlabel.process.discrete import Discrete

__all__ = [
    "EDM",
    "PROCESSES",
    "VE",
    "VP",
    "Discrete",
    "Process",
    "SubVP",
    "broadcast",
    "from_config",
]

PROCESSES: dict[str, type[Process]] = {cls.name: cls for cls in (VE, VP, SubVP, EDM, Discrete)}


def from_config(config: dict[str, Any]) -> Process:
    """Build the process that `Process.config` described.

    Raises:
        UserError: for an unknown name or parameter, or values of another kind or out of range.
    """
    parameters = dict(config)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in PROCESSES:
        raise UserError(f"process {name!r} is unknown; choose one of {', '.join(PROCESSES)}")
    known = [field.name for field in fields(PROCESSES[name])]
    if unknown := set(parameters) - set(known):
        raise UserError(
            f"process {name} has no parameter {min(unknown)!r}; it has {', '.join(known)}"
        )
    try:
        return PROCESSES[name](**parameters)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"process {name}: its parameters {', '.join(known)} are numbers in some range; "
            f"got {parameters}"
        ) from None
