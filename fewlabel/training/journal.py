"""What is written down while a stage trains: metrics.jsonl, and TensorBoard if asked."""

from typing import TYPE_CHECKING, Any, Self

from fewlabel.errors import UserError
from fewlabel.run_folder import RunFolder
from fewlabel.training.loop import Record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Journal", "check_tensorboard"]


class Journal:
    """The records of a stage, as lines of metrics.jsonl and as curves.

    The seconds of a line are the training time of the stage up to its step, over all calls of
    `train`; what a kill made undone does not count.

    Args:
        folder: the run.
        stage: "score" or "classifier".
        done: the step that training goes on from; what was written of later ones is dropped.
        tensorboard: write RUN/tensorboard/STAGE too.
    """

    def __init__(self, folder: RunFolder, stage: str, done: int, tensorboard: bool) -> None:
        self._folder, self._stage = folder, stage
        folder.forget_after(stage, done)
        self._before = folder.seconds(stage)
        self._curves = _curves(folder, stage, done) if tensorboard else None

    def write(self, record: Record) -> None:
        """Write down a record, if there is anything in it."""
        if not record.losses and not record.validation:
            return
        line: dict[str, Any] = {
            "stage": self._stage,
            "step": record.step,
            "steps": record.steps,
            "seconds": self._before + record.seconds,
            "losses": record.losses,
            "validation": record.validation,
        }
        self._folder.append(line)
        if self._curves:
            for kind in ("losses", "validation"):
                for name, value in line[kind].items():
                    self._curves.add_scalar(f"{kind}/{name}", value, record.step)
            self._curves.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._curves:
            self._curves.close()


def check_tensorboard() -> None:
    """Raise unless TensorBoard can be written.

    Raises:
        UserError: if its package is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "--tensorboard needs the package tensorboard: pip install 'fewlabel[tensorboard]'"
        ) from None


def _curves(folder: RunFolder, stage: str, done: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder.path / "tensorboard" / stage, purge_step=done + 1)
