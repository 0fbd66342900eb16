"""What a run's teacher says of its training examples, found once and kept in the run."""

from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewlabel.files import replacing
from fewlabel.progress import track
from fewlabel.run_folder import RunFolder
from fewlabel.score import ScoreModel
from fewlabel.teachers import label_propagation, representation
from fewlabel.training.plan import Plan

__all__ = ["propagated"]


def propagated(
    planned: Plan, folder: RunFolder, score: ScoreModel, accelerator: Accelerator
) -> Tensor:
    """The few labels, spread over all training examples along the score model's features.

    Args:
        planned: the data.
        folder: the run; what was found is kept in its teacher.safetensors.
        score: the trained, unconditional score model.
        accelerator: the processes, of which one does the work.

    Returns:
        Class probabilities (N, K) of all examples of the dataset, 0 for those that do not train.
    """
    path = folder.path / "teacher.safetensors"
    if accelerator.is_main_process and not path.exists():
        _spread_labels(planned, score, path)
    accelerator.wait_for_everyone()
    found = load_file(path)["probabilities"]
    beliefs = torch.zeros(len(planned.dataset), found.shape[1])
    beliefs[torch.from_numpy(planned.splits.train)] = found
    return beliefs


def _spread_labels(planned: Plan, score: ScoreModel, path: Path) -> None:
    dataset, splits = planned.dataset, planned.splits
    with track("spreading the labels") as task:
        features = representation(score, dataset, splits.train, task)
    labels = splits.training_labels(dataset)[splits.train]
    q = label_propagation(features, labels, len(splits.class_names))
    with replacing(path) as temporary:
        save_file({"probabilities": torch.from_numpy(q)}, temporary)
