"""The training loop, one for every model: a generator that yields what happened.

The caller logs, draws and stops; the loop computes, checks and saves. The learning rate, the data
and the noise of a step are functions of (seed, step), so a run that goes on from a checkpoint
ends with the weights of one that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn, optim

from fewlabel.config import FitConfig
from fewlabel.data import Batches
from fewlabel.errors import TrainingError
from fewlabel.objectives import Objective
from fewlabel.randomness import StepRandom, generator_for
from fewlabel.training.checkpoint import Checkpoints, TrainingState
from fewlabel.training.ema import Ema

__all__ = ["Record", "fit", "learning_rate"]


@dataclass(frozen=True)
class Record:
    """What happened up to and including a step.

    Attributes:
        step: steps done.
        steps: steps in all.
        seconds: time since this call of `fit` began.
        losses: mean of each term over the steps since the last record that has any.
        validation: figures on the validation split, of the averaged weights.
        checkpoint: whether the state was saved.
    """

    step: int
    steps: int
    seconds: float
    losses: dict[str, float]
    validation: dict[str, float]
    checkpoint: bool


def learning_rate(config: FitConfig, step: int) -> float:
    """Linear warm-up times √(1 − s), ½(1 + cos πs) or 1, with s = step/steps."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    share = step / config.steps
    decay = {
        "sqrt": math.sqrt(1 - share),
        "cosine": (1 + math.cos(math.pi * share)) / 2,
        "constant": 1.0,
    }
    return config.learning_rate * warm * decay[config.schedule]


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Batches,
    config: FitConfig,
    seed: int,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    validate: Callable[[nn.Module], dict[str, float]],
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Train `model` by `objective`, from the newest checkpoint or from the start.

    Args:
        model: the model whose weights are averaged and saved.
        objective: the loss; its parameters are the model's.
        batches: the data of every step.
        config: steps, rates and intervals.
        seed: fixes the noise.
        checkpoints: where the state is saved and found.
        accelerator: device, processes and precision.
        validate: gives figures for the averaged model.
        stop: asked after every step; when true, the state is saved and the loop ends.

    Yields:
        A record for every step.

    Raises:
        TrainingError: when a term is not finite.
    """
    objective.to(accelerator.device)
    state = _state(model, objective, config)
    step = state.restore_newest(checkpoints)
    prepared, optimizer = accelerator.prepare(objective, state.optimizer)
    ranks = accelerator.process_index, accelerator.num_processes
    began, meter, done = time.monotonic(), _Meter(), step == config.steps
    while not done:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        torch.manual_seed(generator_for("dropout", seed, step, ranks[0]).initial_seed())
        values = prepared(batches.at(step), StepRandom(seed, step, "noise", *ranks))
        _check_finite(values, step, checkpoints)
        optimizer.zero_grad()
        accelerator.backward(objective.total(values))
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
        if accelerator.scaler is None:  # a scaler skips such steps by itself
            _check_finite({"gradient": norm}, step, checkpoints)
        optimizer.step()
        state.ema.update(model, step)
        step += 1
        meter.add(values)

        last = step == config.steps
        done = last or stop()
        validation = validate(state.ema.model) if last or not step % config.validate_every else {}
        save = done or step % config.checkpoint_every == 0
        if save and accelerator.is_main_process:
            checkpoints.save(step, state.tensors())
        losses = meter.means() if done or step % config.log_every == 0 else {}
        seconds = time.monotonic() - began
        yield Record(step, config.steps, seconds, losses, validation, save)


def _state(model: nn.Module, objective: Objective, config: FitConfig) -> TrainingState:
    optimizer = optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return TrainingState(model, Ema(model, config.ema), optimizer, objective.memory())


class _Meter:
    """The mean of each term since it was last read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            mean = value.detach().mean()
            self._sums[name] = self._sums[name] + mean if name in self._sums else mean
        self._steps += 1

    def means(self) -> dict[str, float]:
        means = {name: float(total) / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means


def _check_finite(values: dict[str, Tensor], step: int, checkpoints: Checkpoints) -> None:
    for name, value in values.items():
        if not torch.isfinite(value).all():
            newest = checkpoints.newest()
            last = f"the last good checkpoint is {newest[1]}" if newest else "none was saved yet"
            raise TrainingError(
                f"the term {name!r} is not finite at step {step + 1} in {checkpoints.folder}; "
                f"{last}; lower fit.learning_rate or the term's weight (--set)"
            )
