"""From a model that was trained elsewhere to a run with a score model and no data."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewlabel import presets
from fewlabel import process as processes
from fewlabel.config import Config, validated
from fewlabel.data import Splits
from fewlabel.errors import UserError
from fewlabel.files import locked
from fewlabel.run_folder import RunFolder

__all__ = ["Imported", "refuse_trained", "write_run"]

_CLASS = "image"  # the run has one class: all that the model makes
_SIGMA_DATA = 0.5  # usual for images in [-1, 1]; a classifier's is measured on its data


@dataclass(frozen=True)
class Imported:
    """An unconditional score model from elsewhere.

    Attributes:
        shape: (C, H, W) of the images.
        process: its noise process, as `Process.config` gives it.
        score: keys of the section `score` of a configuration, without `fit`.
        weights: of its network.
        sigma_data: standard deviation of its data, for a preconditioned network.
        step: how many steps it was trained, 1 if that is unknown.
    """

    shape: tuple[int, ...]
    process: Mapping[str, Any]
    score: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    sigma_data: float = _SIGMA_DATA
    step: int = 1


def refuse_trained(folder: RunFolder) -> None:
    """Refuse the folder of a run, but for one whose import was stopped before it had weights.

    Raises:
        UserError: if it is one.
    """
    if folder.exists:
        before = folder.read_config()
        if before.imported_from is None or folder.steps_done("score"):
            raise UserError(f"{folder} is a run already; choose another --out")


def write_run(model: Imported, out: str | os.PathLike[str], source: str) -> RunFolder:
    """Make a run folder of an imported model; it samples, and `train --score` takes it.

    Args:
        model: what was read.
        out: the folder; it must not be a run yet.
        source: where the model came from.

    Raises:
        UserError: if the folder cannot be made, or the model is none that a run can hold.
    """
    folder = RunFolder(out)
    refuse_trained(folder)
    preset = presets.preset_for(model.shape)
    values = presets.preset_values(preset, model.sigma_data)
    process, times = dict(model.process), {}
    if process["name"] == values["process"]["name"]:  # no source tells of training times
        process, times = values["process"] | process, values["score"].get("times", {})
    processes.from_config(process)
    config = validated(
        {
            "data": "unknown",
            "size": model.shape[-1],
            "method": "uncond",
            "preset": preset,
            "shape": model.shape,
            "sigma_data": model.sigma_data,
            "process": process,
            "score": {**model.score, "times": times, "fit": {"steps": model.step}},
            "classifier": values["classifier"] | {"times": {}},
            "imported_from": source,
        },
        source,
        Config,
    )
    none = np.empty(0, dtype=np.int64)
    splits = Splits(none, none, none, none, "all", 0, "", (_CLASS,), source)
    weights = {f"network.{name}": value for name, value in model.weights.items()}
    with locked(folder.path):
        refuse_trained(folder)  # by now it may be another's
        folder.begin(config, splits)
        folder.remove_leftovers()
        folder.checkpoints("score").clean()
        folder.checkpoints("score").save(model.step, {"ema": weights}, finished=True)
    return folder
