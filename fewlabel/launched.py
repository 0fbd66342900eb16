"""Several processes that a launcher started (`accelerate launch`), working together.

The samples of a request are divided among the processes and gathered in all of them. What comes
after, files and figures, is for the main process alone.
"""

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = [
    "agreed",
    "device_of_process",
    "gathered",
    "go_on_alone",
    "number",
    "own_share",
    "process_state",
]

_PATIENCE = timedelta(days=1)
"""How long processes wait for one that looks at all images alone; NCCL gives up after minutes."""

Value = TypeVar("Value")

_OF_THE_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def number() -> int:
    """How many processes were launched together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_state(cpu: bool) -> "PartialState":
    """What this process knows of the others; the first call finds them.

    Args:
        cpu: compute on the CPU even if there are GPUs; so does a machine without CUDA.
    """
    from accelerate import PartialState

    return PartialState(cpu=cpu or not torch.cuda.is_available(), timeout=_PATIENCE)


def device_of_process(cpu: bool) -> torch.device:
    """The device of this process, which the processes find each other to agree on.

    Args:
        cpu: compute on the CPU even if there are GPUs; so does ACCELERATE_USE_CPU.
    """
    from accelerate.utils import parse_flag_from_env

    return process_state(cpu or parse_flag_from_env("ACCELERATE_USE_CPU")).device


def agreed(value: Value) -> Value:
    """What the main process says, in every process; each has to call it."""
    if number() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def own_share(n: int) -> range:
    """The indices of the samples that this process draws, of n: one block a process, in order."""
    if number() == 1:
        return range(n)
    from accelerate import PartialState

    state = PartialState()
    rows = -(-n // state.num_processes)
    return range(n)[state.process_index * rows : (state.process_index + 1) * rows]


def gathered(own: Tensor, n: int) -> Tensor:
    """All n samples, (n, ...), in every process, from those of its `own_share`; on the CPU.

    Every process has to call it.
    """
    if number() == 1:
        return own
    from accelerate import PartialState
    from accelerate.utils import gather

    rows = -(-n // number())
    padded = own.new_zeros(rows, *own.shape[1:])  # blocks of one size can be gathered
    padded[: len(own)] = own
    return gather(padded.to(PartialState().device))[:n].cpu()


def go_on_alone() -> None:
    """End every process but the main one, which goes on as if it had been started alone.

    Every process has to call it. The others leave by `SystemExit`, with status 0.
    """
    if number() == 1:
        return
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    state = PartialState()
    state.wait_for_everyone()
    is_main = state.is_main_process
    state.destroy_process_group()
    if not is_main:
        sys.exit(0)
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in _OF_THE_LAUNCHER:
        os.environ.pop(name, None)
