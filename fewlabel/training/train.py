"""Training a run: the score model, then the classifier, in one folder, resumable."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from fewlabel import methods
from fewlabel.batch import Part
from fewlabel.config import Config, FitConfig
from fewlabel.data import Batches, Dataset, Splits, absolute
from fewlabel.errors import TrainingError, UserError
from fewlabel.methods import Models, Stage
from fewlabel.models import build_classifier, build_score_model
from fewlabel.objectives import Objective
from fewlabel.progress import track
from fewlabel.run import Run, find_device
from fewlabel.run_folder import RunFolder
from fewlabel.training.loop import Record, fit
from fewlabel.training.plan import Plan, plan
from fewlabel.training.validation import classifier_validation, score_validation

__all__ = ["default_out", "train"]

_BATCH = 512
_NEARLY_CLEAN = 0.1  # σ/σ_data at which pseudo-labels are read: inside the classifier's training
_TITLES = {"score": "score model", "classifier": "classifier"}


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    method: str | None = None,
    labels: str | float | None = None,
    score: str | os.PathLike[str] | None = None,
    size: int | None = None,
    preset: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    device: str | None = None,
    strict: bool = False,
    balance: bool = False,
) -> Run:
    """Train a score model on all data and a classifier on the few labels.

    Called again with the same arguments it goes on from the newest checkpoint, and ends with the
    weights it would have had without the interruption.

    Args:
        data: a built-in name such as "digits", or a folder of images.
        out: the run folder.
        method: a name in `fewlabel.methods.METHODS`; by default "cg-sc-all".
        labels: a fraction (0.05), a number per class ("4/class"), "all", or a CSV of files.
        score: a run whose score model is used instead of training one.
        size: side of the images; by default the data's own, at most 64.
        preset: "tiny" or "small"; by default what fits the size.
        steps: training steps of each stage; by default the preset's.
        seed: fixes the drawn labels, the weights, the order and the noise; 0 by default.
        config: a YAML file, such as the config.yaml of another run.
        overrides: "dotted.key=value" for any field of the configuration.
        device: such as "cpu" or "cuda"; by default a GPU if there is one.
        strict: refuse broken images, rather than leave them out and say so.
        balance: draw labelled examples equally often of each class.

    Returns:
        The finished run.

    Raises:
        UserError: for wrong input, and when `out` is a finished or a different run.
        TrainingError: when training was interrupted or diverged.
    """
    find_device(device)
    options = {"method": method, "size": size, "preset": preset, "seed": seed}
    options["labels"] = str(labels) if labels is not None else None
    planned = plan(
        data,
        options=options,
        steps=steps,
        score=Path(score) if score is not None else None,
        config=Path(config) if config is not None else None,
        overrides=overrides,
        strict=strict,
        balance=balance,
    )
    folder = RunFolder(out)
    _check_folder(folder, planned)
    accelerator = Accelerator(cpu=device == "cpu")
    if accelerator.is_main_process and not folder.exists:
        folder.begin(planned.config, planned.splits)
    print(f"{planned.summary()} → {folder}", file=sys.stderr)
    accelerator.wait_for_everyone()
    with _stop_signals() as stop:
        for stage in methods.find_method(planned.config.method).stages:
            _train_stage(stage, planned, folder, accelerator, stop)
    return Run(out, device)


def _check_folder(folder: RunFolder, planned: Plan) -> None:
    """Refuse a folder that holds another run or a finished one."""
    if not folder.exists:
        return
    folder.read_splits().check(planned.dataset, f"run folder {folder}")
    before, now = (_flat(c.model_dump()) for c in (folder.read_config(), planned.config))
    for key in sorted(before | now, key=lambda key: (key.count("."), key)):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{folder} is another run: there {key} is {before.get(key)}, now it is "
                f"{now.get(key)}; choose another --out, or the same settings to go on with it"
            )
    stages = methods.find_method(planned.config.method).stages
    own = [s for s in stages if not (s == "score" and planned.config.score_from)]
    if all(folder.steps_done(s) == planned.config.fit(s).steps for s in own):
        raise UserError(f"{folder} is finished; sample from it, or choose another --out")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _train_stage(
    stage: Stage,
    planned: Plan,
    folder: RunFolder,
    accelerator: Accelerator,
    stop: threading.Event,
) -> None:
    """Train one stage from its newest checkpoint, if there is anything left to train."""
    checkpoints, source = folder.checkpoints(stage), planned.config.score_from
    checkpoints.report_damaged()
    if stage == "score" and source:
        if accelerator.is_main_process and checkpoints.newest() is None:
            checkpoints.copy(RunFolder(source).checkpoints(stage))
        accelerator.wait_for_everyone()
        return
    settings, done = planned.config.fit(stage), folder.steps_done(stage)
    if accelerator.is_main_process:
        folder.forget_after(stage, done)
    with track(f"training the {_TITLES[stage]}") as task:
        task.set(done, settings.steps)
        shown = ""
        for record in _records(stage, planned, folder, accelerator, stop.is_set):
            done, shown = record.step, _note(record) or shown
            task.set(record.step, record.steps, shown)
            if accelerator.is_main_process and (record.losses or record.validation):
                folder.append(_line(stage, record))
    last = methods.find_method(planned.config.method).stages[-1]
    if done < settings.steps or (stop.is_set() and stage != last):
        raise TrainingError(
            f"stopped at step {done} of {settings.steps} of the {_TITLES[stage]}, with a "
            f"checkpoint in {folder}; the same command goes on from there"
        )


def _records(
    stage: Stage,
    planned: Plan,
    folder: RunFolder,
    accelerator: Accelerator,
    stop: Callable[[], bool],
) -> Iterator[Record]:
    """Put model, losses, data and validation of a stage together and fit it."""
    config, dataset, splits = planned.config, planned.dataset, planned.splits
    method, settings = methods.find_method(config.method), config.fit(stage)
    device = accelerator.device
    model: nn.Module
    classes = len(splits.class_names)
    if stage == "score":
        if method.pseudo_labels:
            dataset, splits = _pseudo_labelled(planned, folder, device)
        conditional = method.guidance != "classifier"
        model = build_score_model(config, classes if conditional else 0)
        models = Models(config.shape, score=model)
        validate = score_validation(dataset, splits, device, conditional)
    else:
        model = build_classifier(config, classes)
        score = None if method.pseudo_labels else _frozen_score(config, folder, device)
        models = Models(config.shape, score=score, classifier=model)
        validate = classifier_validation(dataset, splits, model.process, device)
    objective = methods.objective(method.losses(stage), models, settings.weights)
    ranks = accelerator.process_index, accelerator.num_processes
    rows = _rows(objective, settings, accelerator.num_processes)
    drawn = settings.balance, settings.labelled_share
    batches = Batches(dataset, splits, rows, config.seed, *ranks, device, *drawn)
    checkpoints = folder.checkpoints(stage)
    return fit(
        model, objective, batches, settings, config.seed, checkpoints, accelerator, validate, stop
    )


def _frozen_score(config: Config, folder: RunFolder, device: torch.device) -> nn.Module:
    """The score model that the run has already trained."""
    model = build_score_model(config)
    model.load_state_dict(folder.checkpoints("score").ema_weights())
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def _pseudo_labelled(
    planned: Plan, folder: RunFolder, device: torch.device
) -> tuple[Dataset, Splits]:
    """The data with the class that the run's classifier gives each unlabelled example."""
    dataset, splits = planned.dataset, planned.splits
    classifier = build_classifier(planned.config, len(splits.class_names))
    classifier.load_state_dict(folder.checkpoints("classifier").ema_weights())
    classifier.to(device).eval()
    labels = dataset.labels.copy()
    unlabelled = splits.indices("unlabelled")
    t = classifier.process.time_at(torch.tensor(_NEARLY_CLEAN * planned.config.sigma_data))
    for start in range(0, len(unlabelled), _BATCH):
        chunk = unlabelled[start : start + _BATCH]
        log_prob = classifier.log_prob(dataset.examples(chunk).to(device), t.to(device))
        labels[chunk] = log_prob.argmax(1).cpu().numpy()
    return replace(dataset, labels=labels), replace(splits, labelled=splits.train)


def _rows(objective: Objective, settings: FitConfig, processes: int) -> dict[Part, int]:
    """Rows of each part of the data for one process."""
    if settings.batch % processes:
        raise UserError(
            f"a batch of {settings.batch} does not divide among {processes} processes; "
            f"set fit.batch to a multiple of {processes}"
        )
    return {part: settings.batch // processes for part in sorted(set(objective.parts.values()))}


def _line(stage: str, record: Record) -> dict[str, Any]:
    line = {"stage": stage, **asdict(record)}
    return {key: value for key, value in line.items() if key != "checkpoint"}


def _note(record: Record) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in record.losses.items())


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that is set by SIGINT or SIGTERM instead of ending the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {
        number: signal.signal(number, lambda *_: event.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_out(data: str | None) -> Path:
    """The run folder when none was named: runs/ and the name of the data."""
    if data is None:
        raise UserError("no --out: give a run folder, such as --out runs/a")
    return Path("runs") / Path(absolute(data)).name
