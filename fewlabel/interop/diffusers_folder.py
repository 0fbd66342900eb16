"""Pipelines of the diffusers library: DDPM, DDIM and their kin, score-SDE VE, and a bare UNet.

A folder holds `model_index.json`, `unet/` and `scheduler/`, or the files of all three side by side
as in google/ddpm-cifar10-32, or a UNet's `config.json` and weights alone. Only JSON and tensors
are read; code that lies in it is not.

The network of a discrete schedule is told the timestep; the process `Discrete` runs through the
same noise levels. That of score-SDE VE is told σ and gives the score, both for images in [0, 1];
for images in [-1, 1] σ is twice that, so k = 1/2 in `fewlabel.score`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel.config import ScoreConfig, validated
from fewlabel.errors import UserError
from fewlabel.files import read_json
from fewlabel.interop.imported import Imported
from fewlabel.interop.tensors import check_weights, read_weights
from fewlabel.models import score_network
from fewlabel.regular_file import regular

__all__ = ["EDM_PIPELINE", "SCHEDULE_KEYS", "read_folder"]

EDM_PIPELINE = "FewlabelPipeline"
"""The class of the pipelines that `export` writes for preconditioned networks."""

SCHEDULE_KEYS = (
    *("beta_schedule", "beta_start", "beta_end", "num_train_timesteps", "trained_betas"),
    *("prediction_type", "sigma_min", "sigma_max"),
)
"""What can be said of a schedule, by diffusers' names."""

_PREDICTIONS = {"epsilon": "noise", "sample": "clean", "v_prediction": "velocity"}
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_folder(folder: Path, size: int | None, settings: Mapping[str, Any]) -> Imported:
    """The score model in a folder that diffusers wrote.

    Args:
        folder: a pipeline's or a UNet's.
        size: side of the images; None for what the UNet's configuration says.
        settings: of the schedule, in the place of those in the folder: keys of `SCHEDULE_KEYS`.

    Raises:
        UserError: for what is no such folder, or a model that cannot be expressed.
    """
    if not (folder / "model_index.json").is_file():
        return _unet(folder, folder, size, settings)
    index = _json(folder / "model_index.json")
    schedule = _json(_part(folder, "scheduler") / "scheduler_config.json")
    kind = index.get("_class_name")
    if isinstance(kind, list) and kind[-1] == EDM_PIPELINE:
        return _preconditioned(folder, index, schedule)
    if "unet" not in index or any(part in index for part in ("vae", "vqvae", "text_encoder")):
        raise UserError(
            f"{folder} is a {kind}; what can be imported is a UNet that makes images by itself, "
            "as in DDPM, DDIM and score-SDE VE pipelines"
        )
    return _unet(folder, _part(folder, "unet"), size, schedule | dict(settings))


def _part(folder: Path, name: str) -> Path:
    """The folder of a part of a pipeline: its own, or that of all."""
    return folder / name if (folder / name).is_dir() else folder


def _unet(source: Path, folder: Path, size: int | None, schedule: Mapping[str, Any]) -> Imported:
    """The network as it is, with its schedule."""
    config = _json(folder / "config.json")
    if config.get("_class_name") != "UNet2DModel":
        raise UserError(
            f"{folder} holds a {config.get('_class_name')}; what can be imported is an "
            "unconditional UNet2DModel"
        )
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    _check(folder, settings)
    shape = _shape(folder, settings, size)
    process, told = _process(source, schedule)
    score = {"unet": settings, **told}
    return Imported(shape, process, score, _weights(folder, shape, score))


def _preconditioned(
    folder: Path, index: Mapping[str, Any], schedule: Mapping[str, Any]
) -> Imported:
    """What `export` wrote of a preconditioned network."""
    config = _json(folder / "unet" / "config.json")
    patch, size = index["patch"], index["size"]
    score = {
        "widths": config["block_out_channels"],
        "layers": config["layers_per_block"],
        "attention": ["Attn" in kind for kind in config["down_block_types"]],
        "patch": patch,
        "embedding": config["time_embedding_type"],
    }
    shape = config["in_channels"] // patch**2, *size
    ends = {key: schedule[key] for key in ("sigma_min", "sigma_max")}
    weights = _weights(folder / "unet", shape, score)
    return Imported(shape, {"name": "edm", **ends}, score, weights, schedule["sigma_data"])


def _process(source: Path, schedule: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The process of a schedule, and what its network predicts."""
    if any(schedule.get(key) is not None for key in SCHEDULE_KEYS if "beta" in key):
        return _discrete(source, schedule)
    other = schedule.get("_class_name", "ScoreSdeVeScheduler")
    if other != "ScoreSdeVeScheduler":
        raise UserError(
            f"{source} has the scheduler {other}; what can be imported are discrete schedules of "
            "β, and ScoreSdeVeScheduler"
        )
    if not {"sigma_min", "sigma_max"} <= set(schedule):
        raise UserError(
            f"{source} has no noise schedule: give it, as --set num_train_timesteps=1000 --set "
            "beta_schedule=linear --set beta_start=0.0001 --set beta_end=0.02, or for VE --set "
            "sigma_min=0.01 --set sigma_max=50"
        )
    ends = {key: 2 * float(schedule[key]) for key in ("sigma_min", "sigma_max")}
    return {"name": "ve", **ends}, {"prediction": "score", "time_scale": 0.5}


def _discrete(source: Path, schedule: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = schedule.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise UserError(
            f"{source}: prediction_type {kind!r} is unknown; choose one of "
            f"{', '.join(_PREDICTIONS)}"
        )
    if schedule.get("rescale_betas_zero_snr"):
        raise UserError(
            f"{source}: its schedule ends without any signal (rescale_betas_zero_snr), where "
            "there is no score; import a model without it"
        )
    names = {
        "schedule": "beta_schedule",
        "beta_start": "beta_start",
        "beta_end": "beta_end",
        "steps": "num_train_timesteps",
        "betas": "trained_betas",
    }
    given = {own: schedule[name] for own, name in names.items() if schedule.get(name) is not None}
    return {"name": "discrete", **given}, {"prediction": _PREDICTIONS[kind]}


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse networks that are no function (x, t) → something like x."""
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        reason = "is conditional; what can be imported is an unconditional one"
    elif config.get("time_embedding_type") == "learned":
        reason = "knows whole timesteps alone (time_embedding_type learned)"
    elif config.get("in_channels", 3) != config.get("out_channels", 3):
        reason = "predicts more than one thing (out_channels is not in_channels)"
    else:
        return
    raise UserError(f"{folder}: the UNet {reason}")


def _shape(folder: Path, config: Mapping[str, Any], size: int | None) -> tuple[int, ...]:
    sides = config.get("sample_size") if size is None else size
    if sides is None:
        raise UserError(f"{folder} does not tell the size of its images: give --size, such as 32")
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return config.get("in_channels", 3), height, width


def _weights(folder: Path, shape: tuple[int, ...], score: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by the names they have in the network, which they must fit."""
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds no weights: there is no {_WEIGHTS[0]}")
    section = validated({**score, "fit": {"steps": 1}}, str(folder / "config.json"), ScoreConfig)
    try:
        with torch.device("meta"):  # names and shapes are wanted, no values
            network = score_network(shape, section)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / 'config.json'} is no UNet2DModel's: {reason}") from None
    found = {_renamed(name): value for name, value in read_weights(path).items()}
    check_weights(path, network.model, found, "the UNet2DModel of its config.json")  # type: ignore[arg-type]
    return {f"model.{name}": value for name, value in found.items()}


def _renamed(name: str) -> str:
    """The name of a weight of attention, which old folders call otherwise."""
    return re.sub(
        r"\.(query|key|value|proj_attn)\.(weight|bias)$",
        lambda found: f".{_OLD[found[1]]}.{found[2]}",
        name,
    )


def _json(path: Path) -> dict[str, Any]:
    regular(path)
    try:
        found = read_json(path)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise UserError(f"{path} cannot be read ({reason}): give a diffusers folder") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no mapping: give a diffusers folder")
    return found
