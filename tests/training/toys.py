"""Models of one weight, losses with a known minimum, and `fit` with few words."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from fewlabel.batch import Batch, Part
from fewlabel.config import FitConfig
from fewlabel.objectives import Objective, Term, Weighted
from fewlabel.randomness import StepRandom
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.loop import Record, fit


class Scalar(nn.Module):
    """One weight, w."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(value))


class Slope(Term):
    """Loss w, whose gradient is 1 everywhere."""

    def __init__(self, model: Scalar) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return self.model.w.expand(len(batch.x))


class Pull(Term):
    """Loss (w − target)², with noise of the step if there is to be any."""

    def __init__(self, model: Scalar, target: float, noise: float = 0.0) -> None:
        super().__init__()
        self.model, self.target, self.noise = model, target, noise

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return (self.model.w - self.target - self.noise * random.normal_like(batch.x)).square()


class Root(Term):
    """Loss √(w·0): 0, with a gradient that is not finite."""

    def __init__(self, model: Scalar) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return (0 * self.model.w).sqrt().expand(len(batch.x))


class Fails(Slope):
    """Not finite in one row of the seventh call."""

    calls = 0

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        self.calls += 1
        values = super().forward(batch, random).clone()
        if self.calls == 7:
            values[1] = math.inf
        return values


class Same:
    """The same batch at every step, of every part."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def at(self, step: int) -> dict[Part, Batch]:
        return {"all": self.batch, "labelled": self.batch}


ROWS = Batch(torch.zeros(4), torch.zeros(4, dtype=torch.int64))


def run_fit(
    model: nn.Module,
    terms: dict[str, Term],
    config: FitConfig,
    folder: Path,
    weights: dict[str, float] | None = None,
    batch: Batch = ROWS,
    stop_at: int | None = None,
    validate: Callable[[nn.Module], dict[str, float]] = lambda model: {},
) -> Iterator[Record]:
    of = weights or dict.fromkeys(terms, 1.0)
    objective = Objective({name: Weighted(term, "all", of[name]) for name, term in terms.items()})
    asked = iter(range(1, 10_000))
    return fit(
        model,
        objective,
        Same(batch),  # type: ignore[arg-type]
        config,
        0,
        Checkpoints(folder),
        Accelerator(cpu=True),
        validate,
        lambda: next(asked) == stop_at,
    )


def settings(**values: Any) -> FitConfig:
    plain = {"steps": 40, "warmup": 0, "weight_decay": 0.0, "clip": 1e9, "ema": 0.0}
    return FitConfig.model_validate(plain | {"log_every": 1, "checkpoint_every": 1000} | values)
