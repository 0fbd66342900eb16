"""What a training would cost, found out without training: parameters, memory, operations, hours.

One step of each stage, forward and backward with every differentiation inside, is run for a few
rows on PyTorch's meta device, where tensors have a shape and no values: it takes seconds and no
memory. Operations are counted as they are dispatched, so double back-propagation, Langevin chains
and the frozen score model are in. Activations are what autograd keeps alive at the same time.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fewlabel import methods
from fewlabel.batch import Batch, Part
from fewlabel.config import Config
from fewlabel.errors import UserError
from fewlabel.methods import Models, Stage
from fewlabel.models import build_classifier, build_score_model, training_times
from fewlabel.randomness import StepRandom
from fewlabel.training.plan import Plan

__all__ = ["GPUS", "UTILISATION", "Gpu", "Step", "estimate", "find_gpu", "operations", "step_cost"]

UTILISATION = 0.3
"""The share of a GPU's peak that is assumed to be reached; not measured here."""

_ROWS = 2
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker describes it: dense peaks in 10¹² operations a second, and memory.

    Attributes:
        half: of bf16, or of fp16 where there is no bf16.
        single: of float32 products, in TF32 where there is that.
        gigabytes: memory, 10⁹ bytes.
        bf16: whether it computes in bf16.
    """

    half: float
    single: float
    gigabytes: float
    bf16: bool = True


GPUS: dict[str, Gpu] = {
    "a100": Gpu(312.0, 156.0, 80.0),
    "h100": Gpu(989.0, 495.0, 80.0),
    "h200": Gpu(989.0, 495.0, 141.0),
    "l4": Gpu(121.0, 60.0, 24.0),
    "rtx3090": Gpu(71.0, 35.6, 24.0),
    "rtx4090": Gpu(165.0, 82.6, 24.0),
    "t4": Gpu(65.0, 8.1, 16.0, bf16=False),
    "v100": Gpu(125.0, 15.7, 32.0, bf16=False),
}
"""The GPUs whose hours can be estimated: data-sheet figures without sparsity."""


def find_gpu(name: str) -> Gpu:
    """The row called `name`.

    Raises:
        UserError: if there is none.
    """
    if name.lower() not in GPUS:
        raise UserError(f"GPU {name!r} is unknown; choose one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


@dataclass(frozen=True)
class Step:
    """What a training step costs.

    Attributes:
        parameters: of the model that is trained.
        frozen: of the score model that a classifier's loss evaluates; 0 for a score model.
        operations: of one row, a multiplication and an addition being two.
        activations: bytes that autograd keeps alive for one row, in float32.
    """

    parameters: int
    frozen: int
    operations: float
    activations: float


def step_cost(config: Config, stage: Stage, classes: int) -> Step:
    """The cost of a training step of a stage, by one step of a few rows on the meta device.

    Args:
        config: the configuration of the run.
        stage: "score" or "classifier".
        classes: K.
    """
    method = methods.find_method(config.method)
    with torch.device("meta"):
        conditional = classes if method.conditional else 0
        score = build_score_model(config, conditional)
        classifier = build_classifier(config, classes) if method.classifier else None
        models = Models(config.shape, score, classifier, training_times(config, stage))
        losses = method.losses(stage)
        objective = methods.objective(losses, models, config.fit(stage).weights)
    trained: nn.Module = score if stage == "score" or classifier is None else classifier
    frozen = stage == "classifier" and method.evaluates_score
    n = max(_ROWS, *(loss.every for loss in losses.values()))
    if stage == "classifier":
        score.requires_grad_(False)
    objective.to("meta")
    x = torch.zeros(n, *config.shape, device="meta")
    y, q = (torch.zeros(n, *size, device="meta") for size in ((), (classes,)))
    batch = Batch(x, y.long(), q)
    batches: dict[Part, Batch] = dict.fromkeys(("all", "labelled", "unlabelled"), batch)
    kept = _Kept([*trained.parameters(), *score.parameters()])

    def step() -> None:
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
            objective.total(objective(batches, StepRandom(0, 0))).backward()

    counted = operations(step)
    return Step(
        sum(weight.numel() for weight in trained.parameters()),
        sum(weight.numel() for weight in score.parameters()) if frozen else 0,
        counted / n,
        kept.peak / n,
    )


def operations(function: Callable[[], Any]) -> int:
    """The operations of matrix products and convolutions while the function runs."""
    with _Counter() as counter:
        function()
    return counter.total


def estimate(planned: Plan, gpu: str) -> dict[str, Any]:
    """What the training of a plan takes: the document of `train --dry-run --json`.

    Memory: weights, their average, gradients and Adam's two moments in float32; activations in
    half of that under bf16 or fp16; what a GPU's own libraries need, and fragments, come on top.

    Args:
        planned: the configuration and the data.
        gpu: a name in `GPUS`.

    Raises:
        UserError: for an unknown GPU.
    """
    of, config, classes = find_gpu(gpu), planned.config, len(planned.splits.class_names)
    row = methods.find_method(config.method)
    trained = [s for s in row.stages if not (s == "score" and config.score_from)]
    half = config.precision != "no"
    peak = of.half if half else of.single
    stages = [_stage(config, s, step_cost(config, s, classes), peak, half) for s in trained]
    needed = max((stage["memory"]["total"] for stage in stages), default=0)
    return {
        "summary": planned.summary(),
        "precision": config.precision or "bf16",
        "gpu": {
            "name": gpu.lower(),
            "tera_operations_per_second": peak,
            "gigabytes": of.gigabytes,
            "assumed_utilisation": UTILISATION,
        },
        "stages": stages,
        "hours": sum(stage["hours"] for stage in stages),
        "notes": _notes(gpu, of, config, needed),
    }


def _stage(config: Config, stage: Stage, step: Step, peak: float, half: bool) -> dict[str, Any]:
    """The figures of a stage."""
    settings = config.fit(stage)
    rows = settings.batch / settings.accumulate
    memory = {
        "weights": _FLOAT * step.parameters,
        "average": _FLOAT * step.parameters,
        "gradients": _FLOAT * step.parameters,
        "optimiser": 2 * _FLOAT * step.parameters,
        "frozen": _FLOAT * step.frozen,
        "activations": round(step.activations * rows / (2 if half else 1)),
    }
    of_step = step.operations * settings.batch
    return {
        "stage": stage,
        "parameters": step.parameters,
        "steps": settings.steps,
        "batch": settings.batch,
        "operations_per_step": of_step,
        "memory": memory | {"total": sum(memory.values())},
        "hours": of_step * settings.steps / (peak * 1e12 * UTILISATION) / 3600,
    }


def _notes(name: str, gpu: Gpu, config: Config, needed: float) -> list[str]:
    """What a user should know before they start."""
    notes = [
        f"hours assume {UTILISATION:.0%} of the peak of one GPU; n of them take about an n-th"
    ]
    if not torch.cuda.is_available():
        notes.append(
            "this machine has no GPU; what it takes here is told by `train` after its first steps"
        )
    if not gpu.bf16 and config.precision in (None, "bf16"):
        notes.append(f"{name.lower()} has no bf16: give --set precision=fp16")
    if needed > 0.9 * gpu.gigabytes * 1e9:
        notes.append(
            f"{needed / 1e9:.0f} GB do not fit into {gpu.gigabytes:.0f} GB: give more processes, "
            "or raise score.fit.accumulate and classifier.fit.accumulate"
        )
    return notes


class _Counter(TorchDispatchMode):
    """Adds up the operations of what is dispatched, by PyTorch's own formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the function and count it."""
        given = dict(kwargs or {})
        result = function(*args, **given)
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **given, out_val=result))
        return result


class _Saved:
    """A tensor that autograd keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Kept:
    """Bytes of the tensors that autograd keeps at a time, each storage once, without weights."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = {_storage(weight) for weight in weights}
        self._holders: dict[int, int] = {}
        self._now = self.peak = 0

    def pack(self, tensor: Tensor) -> _Saved:
        """Called for each tensor that is saved for backward."""
        saved, key = _Saved(tensor), _storage(tensor)
        if key not in self._weights:
            size = tensor.untyped_storage().nbytes()
            if not self._holders.get(key):
                self._now += size
                self.peak = max(self.peak, self._now)
            self._holders[key] = self._holders.get(key, 0) + 1
            weakref.finalize(saved, self._forget, key, size)
        return saved

    def unpack(self, saved: _Saved) -> Tensor:
        """Called when it is used."""
        return saved.tensor

    def _forget(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._now -= size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
