"""What several processes of one training have to agree on."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, broadcast
from torch import Tensor

from fewlabel import launched
from fewlabel.errors import UserError
from fewlabel.objectives import Objective

__all__ = [
    "any_process",
    "averaged",
    "check_parallelism",
    "from_main",
    "merged",
    "start_accelerator",
]

_REPLICAS = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}


def start_accelerator(cpu: bool = False, precision: str | None = None) -> Accelerator:
    """What knows the device, the other processes and the precision of a training.

    Args:
        cpu: compute on the CPU even if there is a GPU.
        precision: "no", "bf16" or "fp16"; None for bf16 on a GPU that has it, else float32.

    Raises:
        UserError: for fp16 without a GPU.
    """
    # Another training in this process may have had another precision, and others another device.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    gpu = launched.process_state(cpu).device.type != "cpu"
    if precision == "fp16" and not gpu:
        raise UserError("precision fp16 needs a GPU; set precision=bf16 or precision=no")
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of channels_last
    own = "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return Accelerator(cpu=not gpu, mixed_precision=precision or own)


def check_parallelism(objective: Objective, accelerator: Accelerator) -> None:
    """Refuse ways of distributing a model that give wrong gradients or none.

    Raises:
        UserError: if the model would be sharded.
    """
    kind = accelerator.distributed_type
    if kind in _REPLICAS:
        return
    twice = [name for name, term in objective.terms.items() if term.double_backward]
    reason = (
        f"the loss {' and '.join(map(repr, twice))} differentiates twice, which sharded weights "
        "do not allow"
        if twice
        else "the averaged weights need whole ones"
    )
    raise UserError(f"{kind.value} is not supported: {reason}; launch with --multi_gpu instead")


def any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set in any process; all have to ask at the same time."""
    if accelerator.num_processes == 1:
        return flag
    flags = torch.tensor(int(flag), device=accelerator.device)
    return bool(accelerator.reduce(flags, "sum"))


def from_main(figures: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """The figures of the main process, which all decide by, under names that all have."""
    return _shared(figures, accelerator, broadcast)


def averaged(figures: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """The mean over the processes of each figure."""
    return _shared(figures, accelerator, lambda values: accelerator.reduce(values, "mean"))


@contextmanager
def merged(memory: Mapping[str, Tensor], accelerator: Accelerator) -> Iterator[None]:
    """Give all processes what each changes in the memory of the losses while the block runs.

    Processes change rows of their own: the changes add up.
    """
    if accelerator.num_processes == 1:
        yield
        return
    before = {name: value.clone() for name, value in memory.items()}
    yield
    for name, value in memory.items():
        changes = accelerator.reduce(value - before[name], "sum")
        value.copy_(before[name] + changes)


def _shared(
    figures: dict[str, float], accelerator: Accelerator, share: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    if accelerator.num_processes == 1 or not figures:
        return figures
    values = torch.tensor([*figures.values()], dtype=torch.float64, device=accelerator.device)
    return dict(zip(figures, share(values).tolist(), strict=True))
