"""The model card of an exported run: what it is, its figures, and how to sample from it."""

import shlex
from typing import Any

from fewlabel.interop.diffusers_folder import EDM_PIPELINE
from fewlabel.run import Run
from fewlabel.run_folder import summary
from fewlabel.texts import markdown, shown

__all__ = ["card"]

_OWN_PIPELINE = """\
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
    images = pipeline(batch_size=16, generator=torch.Generator().manual_seed(0)).images

`trust_remote_code` lets diffusers run `pipeline.py` of this folder, 50 lines to be read there: the
scheduler scales what the network sees and says, and the pipeline cuts images into squares of
pixels. Any EDM scheduler of diffusers can take the place of the one in `scheduler/`."""

_PIPELINE = """\
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained("FOLDER")
    images = pipeline(batch_size=16, generator=torch.Generator().manual_seed(0)).images"""

_CLASSIFIER = """\
## The classifier

`classifier/model.safetensors` are the weights of the noise-conditional classifier's network,
`classifier/config.json` what it is. diffusers has no pipeline that is guided by it; in fewlabel:

    fewlabel sample RUN --label {first}
"""


def card(run: Run, kind: str) -> str:
    """The text of README.md.

    Args:
        run: what was exported.
        kind: the class of the pipeline.
    """
    document, config = summary(run.folder), run.config
    channels, height, width = config.shape
    facts = {
        "images": f"{height} × {width}, {channels} channels, in [-1, 1] before they are shown",
        "process": ", ".join(f"{key} {value}" for key, value in _short(config.process).items()),
        "prediction": config.score.prediction,
        "standard deviation of the data": f"{config.sigma_data:g}",
    }
    if config.imported_from is not None:
        facts["imported from"] = config.imported_from
    else:
        facts["data"] = f"{config.data}: {document['examples']['train']} training examples"
        facts["labels"] = f"{document['examples']['labelled']} ({config.labels})"
        facts["method"] = f"{config.method}: {run.method.source}"
        facts["steps"] = ", ".join(f"{k} {v}" for k, v in document["steps"].items())
    how = _OWN_PIPELINE if kind == EDM_PIPELINE else _PIPELINE
    parts = [
        "---\nlibrary_name: diffusers\npipeline_tag: unconditional-image-generation\n---",
        "# An unconditional score model" + (" and a classifier" * bool(run.method.classifier)),
        _table(facts),
        "## Sampling",
        how,
    ]
    if run.method.classifier:
        parts.append(_CLASSIFIER.format(first=shlex.quote(shown(run.class_names[0]))).strip())
        parts.append("Classes, in order: " + ", ".join(map(markdown, run.class_names)) + ".")
    if document["validation"]:
        parts += ["## Figures on held-out examples", _figures(document)]
    return "\n\n".join(parts) + "\n"


def _figures(document: dict[str, Any]) -> str:
    """What was measured last while each model trained."""
    rows = {
        f"{stage}: {name}": f"{value:.4g}"
        for stage, figures in document["validation"].items()
        for name, value in figures.items()
    }
    return _table(rows)


def _table(facts: dict[str, str]) -> str:
    rows = [f"| {markdown(key)} | {markdown(value)} |" for key, value in facts.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _short(process: dict[str, Any]) -> dict[str, Any]:
    """Without long lists."""
    return {k: f"{len(v)} values" if isinstance(v, list) else v for k, v in process.items()}
