"""The loop that drives every sampler: it calls a step function between neighbouring grid times."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from typing import Any

from torch import Tensor

from fewlabel.errors import TrainingError
from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.score import ScoreFunction, denoised

__all__ = ["Callback", "Step", "StepFunction", "refuse_not_finite", "solve", "stops"]


@dataclass(frozen=True, eq=False)
class Step:
    """Samples at one time, where the next step of a sampler begins.

    Attributes:
        index: number of steps before this one.
        done: share of the steps before this one, from 0 at the first time to 1 at the last. The
            adaptive sampler does not know how many are to come: its share is that of log σ/α.
        t: the time, ().
        x: the samples at t, (B, ...).
        score_function: the score function to follow, for points other than (x, t).
        process: its noise process.
        random: the noise of each sample.
        memory: what a sampler keeps from one step to the next; empty at first.
        between: tells the loop of samples between two grid times, with their time and the share
            of the step before them, for a sampler that divides a step into smaller ones.
    """

    index: int
    done: float
    t: Tensor
    x: Tensor
    score_function: ScoreFunction
    process: Process
    random: SampleRandom
    memory: dict[str, Any]
    between: Callable[[Tensor, Tensor, float], object]

    @cached_property
    def score(self) -> Tensor:
        """The score at (x, t), shaped like x; evaluated once, when it is first asked for."""
        return self.score_function(self.x, self.t)

    @cached_property
    def denoised(self) -> Tensor:
        """E[x0 | x_t = x], from the score by Tweedie's formula; shaped like x."""
        return denoised(self.score, self.x, self.t, self.process)

    def noise(self) -> Tensor:
        """Fresh standard normal numbers, shaped like x; those of a sample are its own."""
        return self.random.normal_like(self.x)


StepFunction = Callable[[Step, Tensor], Tensor]
"""(a step, the next time s: ()) → the samples at s. It is all that a sampler needs."""

Callback = Callable[[Step], object]
"""It is called before each step and at the last time; if it returns False, sampling stops."""


def solve(
    function: StepFunction,
    score: ScoreFunction,
    process: Process,
    x: Tensor,
    times: Tensor,
    random: SampleRandom,
    callback: Callback | None = None,
) -> Step:
    """Carry samples from the first time to the last, step by step.

    Args:
        function: the step function of a sampler.
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,).
        random: the noise of each sample.
        callback: called before each step and at the last time; return False to stop there.

    Returns:
        The samples at times[-1], or where the callback stopped.

    Raises:
        TrainingError: if a sample is not finite.
    """
    indices, memory, steps = count(), dict[str, Any](), max(1, len(times) - 1)

    def reach(x: Tensor, t: Tensor, before: float) -> Step:
        refuse_not_finite(x, t, process)

        def between(x: Tensor, t: Tensor, share: float) -> Step:
            return reach(x, t, before + share)

        done = before / steps
        step = Step(next(indices), done, t, x, score, process, random, memory, between)
        if callback is not None and stops(callback(step)):
            raise _Stopped(step)
        return step

    try:
        for i, (t, s) in enumerate(pairwise(times)):
            x = function(reach(x, t, i), s)
        return reach(x, times[-1], steps)
    except _Stopped as stopped:
        return stopped.step


def stops(answer: object) -> bool:
    """Whether this answer of a callback ends the sampling: False does, None does not."""
    return answer is not None and not answer


def refuse_not_finite(x: Tensor, t: Tensor, process: Process) -> None:
    """Refuse samples with NaN or infinite values.

    Raises:
        TrainingError: if there is one.
    """
    if not x.isfinite().all():
        bad = sum(not sample.isfinite().all() for sample in x)
        raise TrainingError(
            f"{bad} of {len(x)} samples are not finite at time {float(t):.4g}, "
            f"σ/α = {float(process.noise_ratio(t)):.4g}: take more steps or a smaller guidance "
            "scale, or check the weights of the model"
        )


class _Stopped(Exception):
    """Ends the loop from inside a solver that takes steps of its own."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
