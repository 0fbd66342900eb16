"""The stages of a run: model, losses, data and validation, put together and fitted."""

from collections.abc import Callable, Iterator

from accelerate import Accelerator
from torch import Tensor, nn

from fewlabel import methods
from fewlabel.batch import UNLABELLED
from fewlabel.data import Batches
from fewlabel.errors import UserError
from fewlabel.methods import Models, Stage
from fewlabel.models import build_classifier, build_score_model, training_times
from fewlabel.objectives.joint_energy import CHAINS
from fewlabel.randomness import seed_of
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.training.loop import Record, fit
from fewlabel.training.plan import Plan
from fewlabel.training.teaching import beliefs, labelled_by
from fewlabel.training.validation import (
    classifier_validation,
    score_validation,
)

__all__ = ["check_settings", "check_teacher", "fit_stage"]


def check_teacher(planned: Plan) -> None:
    """Refuse a method without the teacher that it needs.

    Raises:
        UserError: if it lacks one.
    """
    config = planned.config
    if methods.find_method(config.method).needs_teacher and config.teacher is None:
        raise UserError(
            f"{config.method} has no unconditional score model along whose features labels could "
            "be propagated; give --teacher features:RUN, such as a run of uncond or lpg"
        )


def check_settings(planned: Plan, processes: int) -> None:
    """Refuse settings that cannot be, before anything is written.

    Raises:
        UserError: for vectors to be mirrored, a batch that does not divide among processes,
            micro-batches and losses of every so many-th row, one larger than there are chains of
            JEM, or patience without validation.
    """
    config, row = planned.config, methods.find_method(planned.config.method)
    held_out = planned.dataset.labels[list(planned.splits.validation)]
    for stage in row.stages:
        if stage == "score" and config.score_from:
            continue
        settings = config.fit(stage)
        if settings.flip and len(config.shape) == 1:
            raise UserError(
                f"{stage}.fit.flip: the examples of {planned.dataset.name} are vectors, without "
                "left and right; leave it out"
            )
        shares = processes * settings.accumulate
        if settings.batch % shares:
            raise UserError(
                f"{stage}.fit.batch={settings.batch} does not divide among {processes} × "
                f"{settings.accumulate} (processes × {stage}.fit.accumulate); set it to a "
                f"multiple of {shares}"
            )
        if "jem" in row.losses(stage) and settings.batch > CHAINS:
            raise UserError(
                f"{stage}.fit.batch={settings.batch}: the loss jem has {CHAINS} chains, one for "
                f"each row; set it to {CHAINS} or less"
            )
        for name, loss in row.losses(stage).items():
            if shares > 1 and settings.batch // shares % loss.every:
                raise UserError(
                    f"{stage}.fit.batch={settings.batch} is {settings.batch // shares} rows for "
                    f"each of {shares}, and {name} is computed on every {loss.every}th; set it to "
                    f"a multiple of {shares * loss.every}"
                )
        needs_labels = stage == "classifier" or row.conditional
        usable = held_out[held_out != UNLABELLED] if needs_labels else held_out
        if settings.patience is not None and not len(usable):
            raise UserError(
                f"{stage}.fit.patience={settings.patience} needs held-out examples and "
                f"{planned.dataset.name} is too small for any; leave it out"
            )


def fit_stage(
    stage: Stage,
    planned: Plan,
    folder: RunFolder,
    accelerator: Accelerator,
    stop: Callable[[], bool],
) -> Iterator[Record]:
    """Put model, losses, data and validation of a stage together and fit it.

    Args:
        stage: "score" or "classifier".
        planned: the configuration and the data.
        folder: the run, with the models of the stages before.
        accelerator: device, processes and precision.
        stop: asked after every step.

    Raises:
        TrainingError: when training diverges.
        UserError: for processes of a kind that cannot train this.
    """
    config, dataset, splits = planned.config, planned.dataset, planned.splits
    method, settings = methods.find_method(config.method), config.fit(stage)
    device, seed = accelerator.device, seed_of("stage", config.seed, stage)
    times = training_times(config, stage)
    rows = settings.batch // accelerator.num_processes
    at_once = 2 * rows // settings.accumulate  # to validate, which keeps no activations
    model: nn.Module
    q: Tensor | None = None
    classes = len(splits.class_names)
    if stage == "score":
        if method.taught == stage:
            dataset, splits = labelled_by(beliefs(planned, folder, accelerator), dataset, splits)
        model = build_score_model(config, classes if method.conditional else 0)
        models = Models(config.shape, score=model, times=times)
        validate = score_validation(dataset, splits, device, at_once, method.conditional, times)
    else:
        model = build_classifier(config, classes)
        spreads = method.taught == stage and config.teacher is None
        needed = method.evaluates_score or spreads
        score = Run(folder.path, str(device), config.compile).score_model if needed else None
        if method.taught == stage:
            q = beliefs(planned, folder, accelerator, score)
        models = Models(config.shape, score=score, classifier=model, times=times)
        validate = classifier_validation(dataset, splits, model.process, device, at_once)
    objective = methods.objective(method.losses(stage), models, settings.weights)
    batches = Batches(
        dataset,
        splits,
        sizes=dict.fromkeys(sorted(objective.parts), rows),
        seed=seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        device=device,
        balance=settings.balance,
        labelled_share=settings.labelled_share,
        beliefs=q,
        flip=settings.flip,
    )
    checkpoints = folder.checkpoints(stage)
    return fit(model, objective, batches, settings, seed, checkpoints, accelerator, validate, stop)
