"""What a comparison would cost: the trainings and the samples of its grid, and their hours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel import samplers
from fewlabel.config import Config
from fewlabel.data import draw_splits, labelled_by_csv, open_dataset
from fewlabel.experiments.compare import Results
from fewlabel.experiments.compare_cells import Cell, candidates
from fewlabel.experiments.compare_checks import checked, planned_cell
from fewlabel.experiments.grid import Grid
from fewlabel.methods import find_method
from fewlabel.models import build_classifier, build_score_model
from fewlabel.process import from_config
from fewlabel.training.estimate import UTILISATION, estimate, find_gpu, operations
from fewlabel.training.plan import Plan

__all__ = ["estimate_comparison"]

_ROWS = 2


def estimate_comparison(asked: Grid, gpu: str, out: Path | None = None) -> dict[str, Any]:
    """Check a comparison and tell what it takes: the document of `compare --dry-run --json`.

    A row a method: how often it is trained over all amounts of labels, weights, draws and seeds,
    how many samples are drawn of it, and the hours of both on one GPU. What judges them (features,
    the classifiers of CAS) is not counted. The cost of a training does not depend on how many
    labels there are.

    Args:
        asked: the comparison.
        gpu: a name in `fewlabel.training.estimate.GPUS`.
        out: the folder that it is meant for.

    Raises:
        UserError: for wrong input, or a folder that holds another comparison.
    """
    found = find_gpu(gpu)
    asked = checked(asked)
    protocol = asked.protocol
    if out is not None:
        Results.refuse_other(out, protocol)
    shares = [find_method(m).shares_score for m in asked.methods]
    rows: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    one: dict[str, Any] | None = None
    if protocol.uses_shared_score(asked.methods) and protocol.score is None:
        one = estimate(planned_cell(protocol, "uncond", asked.labels[0]), gpu)
        stage = one["stages"][0]
        rows.append(_row("score model", 1, stage["hours"], 0, 0.0, [stage]))
    dataset = open_dataset(protocol.data, protocol.size)
    labelled = [
        (n, draw_splits(labelled_by_csv(dataset, n), n, Cell.label_seed).labelled_share)
        for n in asked.labels
    ]
    repeats = sum(len(asked.repeats(amount)) for amount in asked.labels)
    for method, shared in zip(asked.methods, shares, strict=True):
        planned = planned_cell(protocol, method, asked.labels[0])
        document = estimate(planned, gpu)
        stages = [s for s in document["stages"] if not (shared and s["stage"] == "score")]
        notes |= dict.fromkeys(document["notes"])
        more = (len(candidates(Cell(method, n), share)) - 1 for n, share in labelled)
        trained = repeats + sum(more)
        scales = len(protocol.scales) if find_method(method).guided else 1
        classes = len(planned.splits.class_names)
        of_choice = scales * protocol.per_class_to_choose * trained
        samples = classes * (of_choice + repeats * protocol.per_class)
        calls = _evaluations(planned.config, protocol.sampler, protocol.steps)
        peak = found.half if planned.config.precision == "bf16" else found.single
        rate = peak * 1e12 * UTILISATION
        hours = samples * calls * _of_evaluation(planned, classes) / rate / 3600
        per_training = sum(stage["hours"] for stage in stages)
        rows.append(_row(method, trained, per_training, samples, hours, stages))
    return {
        "rows": rows,
        "gpu": (one or document)["gpu"],
        "hours": sum(row["training_hours"] + row["sampling_hours"] for row in rows),
        "notes": [*notes, "what judges the samples is not counted"],
    }


def _row(
    name: str, trained: int, hours: float, samples: int, sampling: float, stages: Sequence[Any]
) -> dict[str, Any]:
    return {
        "method": name,
        "trainings": trained,
        "training_hours": trained * hours,
        "samples": samples,
        "sampling_hours": sampling,
        "memory": max((stage["memory"]["total"] for stage in stages), default=0),
        "stages": list(stages),
    }


def _evaluations(config: Config, sampler: str, steps: int | None) -> int:
    """How often a sampler evaluates the guided score; of the adaptive one, of no score at all."""
    calls = 0

    def nothing(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros_like(x)

    samplers.sample(nothing, from_config(config.process), (1, 1), sampler, steps)
    return calls


def _of_evaluation(planned: Plan, classes: int) -> int:
    """The operations of the guided score for one sample; see `fewlabel.guidance`."""
    config, method = planned.config, find_method(planned.config.method)
    with torch.device("meta"):
        score = build_score_model(config, classes if method.conditional else 0)
        classifier = build_classifier(config, classes)
        x, t = torch.zeros(_ROWS, *config.shape), torch.tensor(1.0)
        y = torch.zeros(_ROWS, dtype=torch.int64)
    for model in (score, classifier):
        model.eval().requires_grad_(False)

    @torch.no_grad()
    def once() -> None:
        score(x, t, y if method.conditional else None)
        if method.guidance == "classifier":
            classifier.likelihood_score(x, t, y)
        if method.guidance == "classifier-free":
            score(x, t)

    return operations(once) // _ROWS
