"""`export`: a run's models as a folder that diffusers loads.

| score model | pipeline | scheduler |
| --- | --- | --- |
| preconditioned, of this package's plain blocks | `pipeline.py` in the folder | EDM |
| imported, of a discrete schedule | DDIMPipeline | DDIM with the same β |
| imported, VE | ScoreSdeVePipeline | ScoreSdeVe |

In the coordinates (x/α, σ/α) every process looks alike, and a preconditioned network knows no
others: so it is sampled with σ from the least to the largest noise ratio, whatever its process.
"""

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, EDMDPMSolverMultistepScheduler, ScoreSdeVeScheduler
from diffusers import __version__ as diffusers_version
from safetensors.torch import save_file

from fewlabel.errors import UserError
from fewlabel.files import replacing_folder, write_json
from fewlabel.interop import pipeline
from fewlabel.interop.card import card
from fewlabel.interop.diffusers_folder import EDM_PIPELINE
from fewlabel.networks.unet import DiffusersUNet
from fewlabel.process import Discrete, Process
from fewlabel.run import Run

__all__ = ["FORMATS", "export_run"]

FORMATS = ("diffusers",)
"""What `--to` may be."""

_PREDICTIONS = {"noise": "epsilon", "clean": "sample", "velocity": "v_prediction"}


def export_run(
    run: str | os.PathLike[str], out: str | os.PathLike[str], to: str = "diffusers"
) -> list[Path]:
    """Write the score model, and the classifier if there is one, with a model card.

    Args:
        run: the run folder.
        out: the folder to make; it must not hold anything.
        to: one of `FORMATS`.

    Returns:
        The files.

    Raises:
        UserError: for a model that diffusers cannot express, saying why.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to}: unknown; choose {' or '.join(FORMATS)}")
    folder = Path(out).resolve()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} is there and not empty; give another --out")
    opened = Run(run, "cpu")
    kind, scheduler, more = _expressed(opened)
    with replacing_folder(folder, new=True) as temporary:
        _write_pipeline(opened, temporary, kind, scheduler, more)
        if opened.method.classifier:
            _write_classifier(opened, temporary / "classifier")
        (temporary / "README.md").write_text(card(opened, kind), encoding="utf-8")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_pipeline(
    run: Run, folder: Path, kind: str, scheduler: Any, more: dict[str, Any]
) -> None:
    """The network, the scheduler, the index that joins them, and the code if it is our own."""
    model: Any = run.score_model.network.model
    model.to(memory_format=torch.contiguous_format)
    if kind == EDM_PIPELINE:
        source = Path(pipeline.__file__).read_text(encoding="utf-8")
        (folder / "pipeline.py").write_text(source, encoding="utf-8")
    else:  # diffusers' own ask the network for the size
        height, width = run.config.shape[1:]
        model.register_to_config(sample_size=height if height == width else [height, width])
    model.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": ["pipeline", kind] if kind == EDM_PIPELINE else kind,
        "_diffusers_version": diffusers_version,
        "scheduler": ["diffusers", type(scheduler).__name__],
        "unet": ["diffusers", "UNet2DModel"],
    }
    write_json(folder / "model_index.json", index | more)


def _expressed(run: Run) -> tuple[str, Any, dict[str, Any]]:
    """The pipeline's class, its scheduler, and what else its constructor takes."""
    section, shape, where = run.config.score, run.config.shape, run.folder.path
    if run.method.conditional:
        raise UserError(
            f"{where}: the score model is conditional ({run.config.method}), and the pipelines "
            "that are written take no class; export a run with classifier guidance"
        )
    if len(shape) == 1:
        raise UserError(f"{where} makes vectors; diffusers' pipelines make images")
    if section.blocks != "plain":
        raise UserError(
            f"{where}: score.blocks={section.blocks}, and diffusers' UNet2DModel has no levels of "
            "that kind; plain blocks can be exported"
        )
    process, network = run.score_model.process, run.score_model.network
    if isinstance(network, DiffusersUNet):
        if isinstance(process, Discrete):
            return "DDIMPipeline", _ddim(process, section.prediction), {}
        if shape[0] != 3 or shape[1] != shape[2]:
            raise UserError(
                f"{where} makes images of {shape}; ScoreSdeVePipeline of diffusers draws squares "
                "of 3 channels alone"
            )
        ends = {key: process.config()[key] / 2 for key in ("sigma_min", "sigma_max")}
        return "ScoreSdeVePipeline", ScoreSdeVeScheduler(**ends), {}
    return EDM_PIPELINE, _edm(run, process), {"patch": section.patch, "size": list(shape[1:])}


def _edm(run: Run, process: Process) -> EDMDPMSolverMultistepScheduler:
    """The scheduler of a preconditioned network, from the least to the largest noise ratio."""
    multiple: Any = run.score_model.network.multiple
    if min(run.config.shape[1:]) < multiple:
        raise UserError(
            f"{run.folder.path}: images of {run.config.shape[1:]} are padded to a multiple of "
            f"{multiple}, more than their size, and the pipeline cannot do that"
        )
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = process.noise_ratio(ends).tolist()
    sigma_data = run.config.sigma_data
    return EDMDPMSolverMultistepScheduler(sigma_min=low, sigma_max=high, sigma_data=sigma_data)


def _ddim(process: Discrete, prediction: str) -> DDIMScheduler:
    betas = list(process.betas) or None
    return DDIMScheduler(
        num_train_timesteps=int(process.t_max) + 1,
        beta_start=process.beta_start,
        beta_end=process.beta_end,
        beta_schedule=process.schedule,
        trained_betas=betas,
        prediction_type=_PREDICTIONS[prediction],
        clip_sample=False,
    )


def _write_classifier(run: Run, folder: Path) -> None:
    """The classifier's weights, and all that is needed to build it."""
    folder.mkdir()
    weights = {k: v.contiguous() for k, v in run.classifier.network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    section = run.config.classifier.model_dump(mode="json", exclude={"fit"})
    config = {
        **section,
        "process": run.classifier.process.config(),
        "sigma_data": run.config.sigma_data,
        "shape": list(run.config.shape),
        "class_names": list(run.class_names),
    }
    if section["network"] == "encoder":
        config["score"] = run.config.score.model_dump(mode="json", exclude={"fit"})
    write_json(folder / "config.json", config)
