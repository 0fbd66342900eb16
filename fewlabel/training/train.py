"""Training a run: the score model, then the classifier, in one folder, resumable."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator

from fewlabel import launched, methods
from fewlabel.config import Config
from fewlabel.data import absolute, refuse_inside
from fewlabel.errors import Interrupted, TrainingError, UserError
from fewlabel.files import locked
from fewlabel.methods import Stage
from fewlabel.progress import tell, track
from fewlabel.run import Run, find_device
from fewlabel.run_folder import RunFolder
from fewlabel.score import ScoreModel
from fewlabel.training.journal import Journal, check_tensorboard
from fewlabel.training.loop import Record
from fewlabel.training.origins import may_move, refuse_other
from fewlabel.training.plan import Plan, flat, plan
from fewlabel.training.processes import any_process, start_accelerator
from fewlabel.training.sheets import draw_sheet
from fewlabel.training.stages import check_settings, check_teacher, fit_stage

__all__ = ["default_out", "prepare", "train"]

_TITLES = {"score": "score model", "classifier": "classifier"}
_MAY_CHANGE = (".data", ".accumulate", ".log_every", ".checkpoint_every", ".sheet_every")
"""The ends of what may be otherwise when training goes on: data are known by their files.

The places of other runs may be, too, see `fewlabel.training.origins`.
"""


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    method: str | None = None,
    labels: str | float | None = None,
    score: str | os.PathLike[str] | None = None,
    teacher: str | os.PathLike[str] | None = None,
    size: int | None = None,
    preset: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    device: str | None = None,
    strict: bool = False,
    balance: bool = False,
    flip: bool = False,
    tensorboard: bool = False,
    recipe: str | None = None,
    scale_down: bool = False,
    exist_ok: bool = False,
) -> Run:
    """Train a score model on all data and a classifier on the few labels.

    Called again with the same arguments it goes on from the newest checkpoint, and ends with the
    weights it would have had without the interruption. The folder, the data, and the runs of
    `score` and `teacher` may have moved, and batches may be accumulated, logged and saved
    otherwise.

    Args:
        data: a built-in name such as "digits", a folder of images, an `.npz` file or a form such
            as "mnist:FOLDER"; see `fewlabel.data.open_dataset`.
        out: the run folder.
        method: a name in `fewlabel.methods.METHODS`; by default "lpg".
        labels: a fraction of the training labels (0.05; 1 is all of them), of which each class
            has at least one, a number per class ("4/class"), "all", or a CSV of files.
        score: a run whose score model is used instead of training one.
        teacher: what labels the unlabelled, for methods that have a teacher. A run labels by its
            classifier, or if it has none by propagation along its score model's features, as
            "features:RUN" does in any case; "transformers:NAME" or "inception:FILE" by
            propagation along that network's features; a CSV by the probabilities in it, see
            `fewlabel.data.probability_table`.
        size: side of the images; by default the data's own, at most 64.
        preset: a name in `presets.PRESETS`; by default what fits the size.
        steps: training steps of each stage; by default the preset's.
        seed: fixes the drawn labels, the weights, the order and the noise; 0 by default.
        config: a YAML file, such as the config.yaml of another run.
        overrides: "dotted.key=value" for any field of the configuration.
        device: such as "cpu" or "cuda"; by default a GPU if there is one.
        strict: refuse broken images, rather than leave them out and say so.
        balance: draw labelled examples equally often of each class.
        flip: mirror images at random, left and right, as they train; for photographs.
        tensorboard: write curves to OUT/tensorboard; needs the package tensorboard.
        recipe: published settings, a name in `fewlabel.recipes.RECIPES`.
        scale_down: of the recipe take the small form, to try it.
        exist_ok: give back a finished run of the same settings rather than refuse it.

    Returns:
        The finished run.

    Raises:
        UserError: for wrong input, and when `out` is a finished or a different run.
        TrainingError: when training was interrupted or diverged.
    """
    planned = prepare(
        data,
        out=out,
        options={"method": method, "labels": labels, "size": size, "preset": preset, "seed": seed},
        device=device,
        tensorboard=tensorboard,
        steps=steps,
        score=score,
        teacher=teacher,
        config=config,
        overrides=overrides,
        strict=strict,
        balance=balance,
        flip=flip,
        recipe=recipe,
        scale_down=scale_down,
    )
    folder = RunFolder(out)
    if folder.exists and folder.is_finished(planned.config):
        if exist_ok:
            return Run(out, device, data=planned.config.data)
        raise UserError(f"{folder} is finished; sample from it, or choose another --out")
    on_device = find_device(device).type == "cpu", planned.config.precision
    accelerator = start_accelerator(*on_device)
    with _alone(folder, planned, accelerator):
        if accelerator.is_main_process:
            n = accelerator.num_processes
            together = f" ({n} processes)" if n > 1 else ""
            tell(f"{planned.summary()} → {folder}{together}")
        for stage in methods.find_method(planned.config.method).stages:
            accelerator = start_accelerator(*on_device)  # each stage scales its loss by itself
            _train_stage(stage, planned, folder, accelerator, tensorboard)
    return Run(out, device)


@contextmanager
def _alone(folder: RunFolder, planned: Plan, accelerator: Accelerator) -> Iterator[None]:
    """Have the folder to the processes that train together while the block runs.

    The main process begins the run if it is not, when nobody else can. If it cannot, all raise.
    """
    refused: UserError | TrainingError | None = None
    with ExitStack() as held:
        if accelerator.is_main_process:
            try:
                folder.check_free()
                held.enter_context(locked(folder.path))
                _check_settings_of(folder, planned)  # by now it may be another's
                if folder.exists:
                    folder.rewrite(planned.config)
                else:
                    folder.begin(planned.config, planned.splits)
                folder.remove_leftovers()
            except (UserError, TrainingError) as error:
                refused = error
        if any_process(refused is not None, accelerator):
            raise refused or UserError(f"{folder} cannot be trained in: the main process says why")
        yield


def prepare(
    data: str | os.PathLike[str] | None,
    *,
    out: str | os.PathLike[str],
    options: Mapping[str, Any],
    device: str | None = None,
    tensorboard: bool = False,
    score: str | os.PathLike[str] | None = None,
    teacher: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    **others: Any,
) -> Plan:
    """Everything that `train` checks and resolves before it writes anything.

    Args:
        data: as `train` takes it.
        out: the run folder; it may hold the same run.
        options: method, labels, size, preset and seed; None means not given.
        device: as `train` takes it.
        tensorboard: as `train` takes it.
        score: as `train` takes it.
        teacher: as `train` takes it.
        config: as `train` takes it.
        others: other arguments of `fewlabel.training.plan.plan`.

    Raises:
        UserError: for wrong input, and when `out` is a different run.
    """
    on_cpu = find_device(device).type == "cpu"
    if tensorboard:
        check_tensorboard()
    labels, folder = options.get("labels"), RunFolder(out)
    given = dict(options) | {"labels": str(labels) if labels is not None else None}
    with launched.process_state(on_cpu).main_process_first():  # it fills the caches
        planned = plan(
            data,
            options=given,
            score=Path(score) if score is not None else None,
            teacher=str(teacher) if teacher is not None else None,
            config=Path(config) if config is not None else None,
            begun=folder if folder.exists else None,
            **others,
        )
    refuse_inside(planned.config.data, out)
    check_teacher(planned)
    check_settings(planned, launched.number())
    folder.check_free()
    _check_settings_of(folder, planned)
    return planned


def _check_settings_of(folder: RunFolder, planned: Plan) -> None:
    """Refuse a folder that holds another run."""
    if not folder.exists:
        return
    splits = folder.read_splits()
    before, now = (flat(c.model_dump()) for c in (folder.read_config(), planned.config))
    keys = sorted(before | now, key=lambda key: (key != "size", key.count("."), key))
    fixed = [key for key in keys if not f".{key}".endswith(_MAY_CHANGE)]
    pairs = {key: (before.get(key), now.get(key)) for key in fixed}
    differing = [key for key, (a, b) in pairs.items() if a != b and not may_move(key, a, b)]
    if "size" not in differing:  # that alone makes it another dataset
        splits.check(planned.dataset, f"run folder {folder}")
    refuse_other(before, now, str(folder))
    if set(differing) <= {"sigma_data"}:  # it follows from who trains
        planned.splits.check_same(splits, str(folder))
    if differing:
        key = differing[0]
        raise UserError(
            f"{folder} is another run: there {key} is {before.get(key)}, now it is "
            f"{now.get(key)}; choose another --out, or the same settings to go on with it"
        )


def _train_stage(
    stage: Stage,
    planned: Plan,
    folder: RunFolder,
    accelerator: Accelerator,
    tensorboard: bool,
) -> None:
    """Train one stage from its newest checkpoint, if there is anything left to train."""
    stop = threading.Event()
    checkpoints, source = folder.checkpoints(stage), planned.config.score_from
    if accelerator.is_main_process:
        checkpoints.report_damaged()
        checkpoints.clean()
        if stage == "score" and source and checkpoints.newest() is None:
            checkpoints.copy(RunFolder(source).checkpoints(stage))
    accelerator.wait_for_everyone()
    if stage == "score" and source:
        return
    settings, done = planned.config.fit(stage), folder.steps_done(stage)
    finished = checkpoints.is_finished(settings.steps)
    with _on_signals(partial(_interrupt, _TITLES[stage])):  # a teacher works here
        records = fit_stage(stage, planned, folder, accelerator, stop.is_set)
    with ExitStack() as stack:
        journal = None
        if accelerator.is_main_process:
            journal = stack.enter_context(Journal(folder, stage, done, tensorboard))
        task = stack.enter_context(track(f"training the {_TITLES[stage]}"))
        stack.enter_context(_on_signals(stop.set))
        task.set(done, settings.steps)
        shown = ""
        for record in records:
            done, finished, shown = record.step, record.finished, _note(record) or shown
            task.set(settings.steps if finished else done, settings.steps, shown)
            if journal:
                journal.write(record)
                if stage == "score" and _shows(record.step, planned.config):
                    _draw(record, planned, folder)
    accelerator.wait_for_everyone()
    last = methods.find_method(planned.config.method).stages[-1]
    if not finished or (stop.is_set() and stage != last):
        raise Interrupted(
            f"stopped at step {done} of {settings.steps} of the {_TITLES[stage]}, with a "
            f"checkpoint in {folder}; the same command goes on from there"
        )


def _shows(step: int, config: Config) -> bool:
    """Whether a sheet of samples is due."""
    return config.score.sheet_every > 0 and step % config.score.sheet_every == 0


def _draw(record: Record, planned: Plan, folder: RunFolder) -> None:
    """Draw what the score model makes at this step."""
    config = planned.config
    conditional = methods.find_method(config.method).conditional
    classes = len(planned.splits.class_names) if conditional else 0
    path = folder.path / "sheets" / f"step-{record.step:08d}.png"
    try:
        draw_sheet(cast(ScoreModel, record.average), config.shape, path, config.seed, classes)
    except TrainingError as error:  # a picture is no reason to end the training
        tell(f"note: no sheet of samples at step {record.step}: {error}")


def _note(record: Record) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in record.losses.items())


def _interrupt(title: str) -> None:
    raise Interrupted(f"stopped before the {title}; the same command goes on from there")


@contextmanager
def _on_signals(do: Callable[[], None]) -> Iterator[None]:
    """While the block runs, do this at a SIGINT or SIGTERM instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: do())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_out(data: str | None) -> Path:
    """The run folder when none was named: runs/ and the name of the data.

    Raises:
        UserError: if there is no data either.
    """
    if data is None:
        raise UserError(
            "no data, and no --out: name a built-in dataset or a folder, as in `train digits`, or "
            "give --out with a --config that names the data"
        )
    return Path("runs") / Path(absolute(data)).name
