"""Checkpoints: a folder a step, whole or not there, nothing in it pickled.

score/step-00000500/last.safetensors        the weights being trained
                    ema.safetensors         their moving average, the weights that sample
                    optimizer.safetensors   the state of the optimiser
                    memory.safetensors      what losses keep, such as replay buffers
                    checkpoint.json         the step and the hash of each file
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim

from fewlabel.errors import UserError
from fewlabel.files import replacing_folder, write_json
from fewlabel.training.ema import Ema

__all__ = ["Checkpoints", "TrainingState"]

_KEPT = 2  # if the newest is damaged, the one before it serves


class TrainingState:
    """All that a step of training changes.

    Args:
        model: the weights being trained.
        ema: their moving average.
        optimizer: the optimiser of the model's parameters.
        memory: tensors that the losses keep from step to step, changed in place.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: Ema,
        optimizer: optim.Optimizer,
        memory: Mapping[str, Tensor],
    ) -> None:
        self.model, self.ema, self.optimizer, self.memory = model, ema, optimizer, memory

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The state as files of named tensors."""
        moments = self.optimizer.state_dict()["state"]
        return {
            "last": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "memory": dict(self.memory),
            "optimizer": {
                f"{index}.{name}": value
                for index, values in moments.items()
                for name, value in values.items()
            },
        }

    def restore_newest(self, checkpoints: "Checkpoints") -> int:
        """Take over the newest whole checkpoint, if there is one; the steps it had done."""
        newest = checkpoints.newest()
        if newest is None:
            return 0
        self.restore(newest[1])
        return newest[0]

    def restore(self, checkpoint: Path) -> None:
        """Take over the state that a checkpoint folder holds."""
        self.model.load_state_dict(load_file(checkpoint / "last.safetensors"))
        self.ema.model.load_state_dict(load_file(checkpoint / "ema.safetensors"))
        for name, value in load_file(checkpoint / "memory.safetensors").items():
            self.memory[name].copy_(value)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(checkpoint / "optimizer.safetensors").items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


class Checkpoints:
    """The checkpoints of one stage of a run.

    Args:
        folder: the stage's folder, for example RUN/score.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
        """Write the checkpoint of a step and drop all but the newest two."""
        target = self.folder / f"step-{step:08d}"
        with replacing_folder(target) as temporary:
            for name, values in tensors.items():
                contiguous = {key: value.contiguous().cpu() for key, value in values.items()}
                save_file(contiguous, temporary / f"{name}.safetensors")
            hashes = {file.name: _hash(file) for file in sorted(temporary.iterdir())}
            write_json(temporary / "checkpoint.json", {"step": step, "sha256": hashes})
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def copy(self, source: "Checkpoints") -> None:
        """Copy the newest checkpoint of another run.

        Raises:
            UserError: if it has none.
        """
        newest = source.newest()
        if newest is None:
            raise UserError(f"{source.folder} has no whole checkpoint; train that run first")
        with replacing_folder(self.folder / newest[1].name) as temporary:
            for file in newest[1].iterdir():
                shutil.copy2(file, temporary / file.name)

    def newest(self) -> tuple[int, Path] | None:
        """Step and folder of the newest whole checkpoint, or None."""
        return next(self._whole(), None)

    def ema_weights(self) -> dict[str, Tensor]:
        """The averaged weights of the newest whole checkpoint.

        Raises:
            UserError: if there is no checkpoint, or none is whole.
        """
        newest = self.newest()
        if newest is None:
            raise UserError(f"{self.folder} has no whole checkpoint; train the run first")
        return load_file(newest[1] / "ema.safetensors")

    def report_damaged(self) -> None:
        """Say on standard error which checkpoints newer than the newest whole one are damaged."""
        newest = self.newest()
        instead = "the checkpoint before it is used" if newest else "none before it is whole"
        for path in self._newest_first():
            if newest is None or path > newest[1]:
                print(f"{path} is damaged; {instead}", file=sys.stderr)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _whole(self) -> Iterator[tuple[int, Path]]:
        for path in self._newest_first():
            try:
                content = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
                if all(_hash(path / name) == value for name, value in content["sha256"].items()):
                    yield int(content["step"]), path
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                continue


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
