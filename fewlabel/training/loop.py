"""The training loop, one for every model: a generator that yields what happened.

The caller logs, draws and stops; the loop computes, checks and saves. The learning rate, the data
and the noise of a step are functions of (seed, step), so a run that goes on from a checkpoint
ends with the weights of one that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn, optim

from fewlabel.batch import Batch, Part
from fewlabel.config import FitConfig
from fewlabel.data import Batches
from fewlabel.errors import TrainingError
from fewlabel.objectives import Objective
from fewlabel.randomness import StepRandom, generator_for
from fewlabel.training.best import Best
from fewlabel.training.checkpoint import Checkpoints, TrainingState
from fewlabel.training.ema import Ema
from fewlabel.training.processes import any_process, averaged, check_parallelism, from_main, merged

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
        finished: whether training ends here, at the last step or early.
        average: the model with averaged weights, to look at; it changes with the next step.
    """

    step: int
    steps: int
    seconds: float
    losses: dict[str, float]
    validation: dict[str, float]
    finished: bool
    average: nn.Module


def learning_rate(config: FitConfig, step: int) -> float:
    """Linear warm-up times the schedule: √(1 − s), ½(1 + cos πs) or 1 with s = step/steps."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    part = step / config.steps
    fall = {
        "sqrt": math.sqrt(1 - part),
        "cosine": (1 + math.cos(math.pi * part)) / 2,
        "constant": 1.0,
    }
    return config.learning_rate * warm * fall[config.schedule]


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
        batches: the data of every step, for this process.
        config: steps, rates and intervals.
        seed: fixes the noise.
        checkpoints: where the state is saved and found.
        accelerator: device, processes and precision.
        validate: gives figures for the averaged model.
        stop: asked after every step; when true in any process, the state is saved and the loop
            ends.

    Yields:
        A record for every step, before its checkpoint is written.

    Raises:
        TrainingError: when a term is not finite.
        UserError: when the processes are of a kind that cannot train this objective.
    """
    check_parallelism(objective, accelerator)
    objective.to(accelerator.device)
    ema, best = Ema(model, config.ema), Best()
    prepared, optimizer = accelerator.prepare(objective, _optimizer(model, config))
    memory = objective.memory() | best.memory  # of the prepared one: preparing may copy it
    state = TrainingState(model, ema, optimizer, memory, accelerator.scaler)
    step = state.restore_newest(checkpoints)
    update = _Update(model, objective, prepared, optimizer, config, seed, accelerator, checkpoints)
    began, meter = time.monotonic(), _Meter()
    done = step == config.steps or best.is_exhausted(config.patience)
    while not done:
        meter.add(update(batches.at(step), step))
        state.ema.update(model, step)
        step += 1

        validation = {}
        if step == config.steps or not step % config.validate_every:
            validation = from_main(validate(state.ema.model), accelerator)
            if best.is_improved(validation) and accelerator.is_main_process:
                checkpoints.save_best(step, state.ema.model.state_dict())
        finished = step == config.steps or best.is_exhausted(config.patience)
        done = any_process(stop(), accelerator) or finished
        losses = {}
        if done or not step % config.log_every:
            losses = averaged(meter.means(), accelerator)
        seconds = time.monotonic() - began
        yield Record(step, config.steps, seconds, losses, validation, finished, state.ema.model)
        # After the record: of a step that is not logged, no checkpoint is to be gone on from.
        if accelerator.is_main_process and (done or not step % config.checkpoint_every):
            checkpoints.save(step, state.tensors(), finished)


def _optimizer(model: nn.Module, config: FitConfig) -> optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    return optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)


@dataclass(frozen=True)
class _Update:
    """A step of the optimiser along the gradient of a batch, computed in micro-batches.

    Each micro-batch has the rows of the global batch's noise that it would have as the batch of a
    process of its own, so their number changes nothing but rounding, and what dropout drops.
    """

    model: nn.Module
    objective: Objective
    prepared: nn.Module
    optimizer: optim.Optimizer
    config: FitConfig
    seed: int
    accelerator: Accelerator
    checkpoints: Checkpoints

    def __call__(self, batches: Mapping[Part, Batch], step: int) -> dict[str, Tensor]:
        """Change the weights; the values of each term at each example, (B,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.optimizer.zero_grad()
        with merged(self.objective.memory(), self.accelerator):
            values = self._gradient(batches, step)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if self.accelerator.scaler is None:  # a scaler skips such steps by itself
            _check_finite({"gradient": norm}, step, self.checkpoints)
        self.optimizer.step()
        return values

    def _gradient(self, batches: Mapping[Part, Batch], step: int) -> dict[str, Tensor]:
        """Add the gradient to that of the parameters; the values of each term."""
        parts, process = self.config.accumulate, self.accelerator.process_index
        found = []
        for part in range(parts):
            rank, world = process * parts + part, parts * self.accelerator.num_processes
            random = StepRandom(self.seed, step, "noise", rank, world)
            device = self.accelerator.device
            forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
            with forked, self._exchange(last=part == parts - 1):
                torch.manual_seed(generator_for("dropout", self.seed, step, rank).initial_seed())
                values = self.prepared(_share(batches, part, parts), random)
                _check_finite(values, step, self.checkpoints)
                self.accelerator.backward(self.objective.total(values) / parts)
            found.append({name: value.detach() for name, value in values.items()})
        return {name: torch.cat([values[name] for values in found]) for name in found[0]}

    def _exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Processes exchange their gradients once a step, after its last micro-batch."""
        return nullcontext() if last else self.accelerator.no_sync(self.prepared)


def _share(batches: Mapping[Part, Batch], part: int, parts: int) -> dict[Part, Batch]:
    """One of so many equal shares of the rows of each batch."""
    shares = {}
    for name, batch in batches.items():
        size = -(-len(batch.x) // parts)
        shares[name] = batch.rows(slice(part * size, (part + 1) * size))
    return shares


class _Meter:
    """The mean of each term since it was last read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            mean = value.mean()
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
                f"{last}; begin again in another --out, with a lower "
                f"{checkpoints.folder.name}.fit.learning_rate or weight of the term (--set)"
            )
