"""Checkpoints: a folder a step, whole or not there, nothing in it pickled.

score/step-00000500/last.safetensors        the weights being trained
                    ema.safetensors         their moving average, the weights that sample
                    optimizer.safetensors   the state of the optimiser
                    memory.safetensors      what losses and validation keep, such as replay buffers
                    scaler.safetensors      the scale of the loss, for fp16 only
                    checkpoint.json         the step, if training ended, and the hash of each file
score/best-00000400/ema.safetensors         the averaged weights of the best validation
                    checkpoint.json
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, amp, nn, optim

from fewlabel.errors import TrainingError, UserError
from fewlabel.files import replacing_folder, write_json
from fewlabel.owners import sweep
from fewlabel.progress import tell
from fewlabel.regular_file import regular
from fewlabel.training.ema import Ema

__all__ = ["Checkpoints", "TrainingState"]

_KEPT = 2  # if the newest is damaged, the one before it serves
_DIGITS = 32  # of an identity
_SCALE = ("scale", "_growth_tracker")  # what changes in a scaler


class TrainingState:
    """All that a step of training changes.

    Args:
        model: the weights being trained.
        ema: their moving average.
        optimizer: the optimiser of the model's parameters.
        memory: tensors that losses and validation keep from step to step, changed in place.
        scaler: what scales the loss in fp16, if anything does.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: Ema,
        optimizer: optim.Optimizer,
        memory: Mapping[str, Tensor],
        scaler: amp.GradScaler | None = None,
    ) -> None:
        self.model, self.ema, self.optimizer, self.memory = model, ema, optimizer, memory
        self.scaler = scaler

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The state as files of named tensors."""
        moments = self.optimizer.state_dict()["state"]
        scale = self.scaler.state_dict() if self.scaler else {}
        return {
            "last": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "memory": dict(self.memory),
            "optimizer": {
                f"{index}.{name}": value
                for index, values in moments.items()
                for name, value in values.items()
            },
        } | ({"scaler": {name: torch.tensor(scale[name]) for name in _SCALE}} if scale else {})

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
        weights = list(self.model.parameters())
        for key, value in load_file(checkpoint / "optimizer.safetensors").items():
            index, name = key.split(".", 1)
            weight = weights[int(index)]
            if value.shape == weight.shape:  # in the memory format of the weight, as it was
                value = torch.empty_like(weight, dtype=value.dtype, device="cpu").copy_(value)
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.scaler:
            saved = load_file(checkpoint / "scaler.safetensors")
            scale = {name: value.item() for name, value in saved.items()}
            self.scaler.load_state_dict(self.scaler.state_dict() | scale)


class Checkpoints:
    """The checkpoints of one stage of a run.

    Args:
        folder: the stage's folder, for example RUN/score.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], finished: bool = False
    ) -> Path:
        """Write the checkpoint of a step and drop all but the newest two.

        Args:
            step: steps done.
            tensors: the files, each with named tensors.
            finished: whether training ended with this step.
        """
        target = self.folder / f"step-{step:08d}"
        _write(target, tensors, {"step": step, "finished": finished})
        for old in self._newest_first()[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def save_best(self, step: int, average: Mapping[str, Tensor]) -> Path:
        """Write the averaged weights of the best validation in place of those before."""
        target = self.folder / f"best-{step:08d}"
        _write(target, {"ema": average}, {"step": step})
        for old in self._newest_first("best"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return target

    def copy(self, source: "Checkpoints") -> None:
        """Copy the newest and the best checkpoint of another run.

        Raises:
            UserError: if it has none.
        """
        newest = source.newest()
        if newest is None:
            raise UserError(f"{source.folder} has no whole checkpoint; train that run first")
        best = source.best()
        for folder in [*([best[1]] if best else []), newest[1]]:  # the newest makes it complete
            with replacing_folder(self.folder / folder.name) as temporary:
                for file in folder.iterdir():
                    shutil.copy2(file, temporary / file.name)

    def newest(self) -> tuple[int, Path] | None:
        """Step and folder of the newest whole checkpoint, or None.

        Raises:
            TrainingError: if one cannot be read.
        """
        return next(self._whole("step"), None)

    def best(self) -> tuple[int, Path] | None:
        """Step and folder of the best validation, or None if there was none."""
        return next(self._whole("best"), None)

    def is_finished(self, steps: int) -> bool:
        """Whether training ended, with the last of its steps or early."""
        newest = self.newest()
        return newest is not None and (
            newest[0] == steps or bool(_manifest(newest[1])["finished"])
        )

    def ema_weights(self, best: bool = False) -> dict[str, Tensor]:
        """The averaged weights of the newest whole checkpoint, or of the best validation.

        Raises:
            UserError: if there is no checkpoint, or none is whole.
        """
        found = (self.best() if best else None) or self.newest()
        if found is None:
            raise UserError(f"{self.folder} has no whole checkpoint; train the run first")
        return load_file(found[1] / "ema.safetensors")

    def identity(self, best: bool = False) -> str | None:
        """A name for what `ema_weights` gives, the same in every copy; None if there is nothing.

        Args:
            best: whether the weights of the best validation are wanted.
        """
        found = (self.best() if best else None) or self.newest()
        if found is None:
            return None
        return str(_manifest(found[1])["sha256"]["ema.safetensors"])[:_DIGITS]

    def report_damaged(self, best: bool = False) -> None:
        """Say on standard error which checkpoints cannot be used, and what is used instead.

        Args:
            best: whether the weights of the best validation are wanted.
        """
        newest = self.newest()
        instead = "the checkpoint before it is used" if newest else "none before it is whole"
        for path in self._newest_first():
            if newest is None or path > newest[1]:
                tell(f"{path} is damaged; {instead}")
        if best and self.best() is None and newest:
            tell(f"{self.folder} has no whole best-*; {newest[1]} is used")

    def clean(self) -> None:
        """Remove what a killed process left behind, and checkpoints that were found damaged."""
        sweep(self.folder)
        newest = self.newest()
        for path in self._newest_first():
            if newest is None or path > newest[1]:
                shutil.rmtree(path, ignore_errors=True)
        best = self.best()
        for path in self._newest_first("best"):
            if best is None or path != best[1]:
                shutil.rmtree(path, ignore_errors=True)

    def _newest_first(self, kind: str = "step") -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-*"), reverse=True)

    def _whole(self, kind: str) -> Iterator[tuple[int, Path]]:
        for path in self._newest_first(kind):
            try:
                content = _manifest(path)
                step, hashes = int(content["step"]), content["sha256"]
                named = path.name == f"{kind}-{step:08d}"
                if named and all(_hash(path / file) == value for file, value in hashes.items()):
                    yield step, path
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            except OSError as error:  # may pass: no reason to take it for damaged
                raise TrainingError(
                    f"{error.filename or path} cannot be read ({error.strerror}): mend disk or "
                    "permissions; nothing was removed"
                ) from error


def _write(
    target: Path, tensors: Mapping[str, Mapping[str, Tensor]], manifest: Mapping[str, Any]
) -> None:
    with replacing_folder(target) as temporary:
        for name, values in tensors.items():
            contiguous = {key: value.contiguous().cpu() for key, value in values.items()}
            try:
                save_file(contiguous, temporary / f"{name}.safetensors")
            except SafetensorError as error:  # it tells the reason in its text alone
                raise OSError(errno.EIO, str(error)) from error
        hashes = {file.name: _hash(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "checkpoint.json", {**manifest, "sha256": hashes})


def _manifest(checkpoint: Path) -> dict[str, Any]:
    return json.loads(regular(checkpoint / "checkpoint.json").read_text(encoding="utf-8"))


def _hash(file: Path) -> str:
    with regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
