"""What the teacher of a run says of its training examples, found once and kept in the run."""

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.batch import UNLABELLED
from fewlabel.classifier import NoisyClassifier
from fewlabel.data import Dataset, Splits
from fewlabel.data.cache import read_sealed, write_sealed
from fewlabel.data.dataset import rows_at_once
from fewlabel.errors import UserError
from fewlabel.progress import Task, track
from fewlabel.regular_file import regular
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.score import ScoreModel
from fewlabel.teachers import representation
from fewlabel.training.given_teacher import FEATURES, is_run, probabilities_from, spread
from fewlabel.training.plan import Plan

__all__ = ["beliefs", "labelled_by"]

_MOST, _PIXELS = 512, 2**19  # examples, and their pixels, that are looked at together
_NAME = "probabilities"
_NEARLY_CLEAN = 0.1  # σ/σ_data at which a classifier is asked: inside its training


def beliefs(
    planned: Plan, folder: RunFolder, accelerator: Accelerator, score: ScoreModel | None = None
) -> Tensor:
    """Class probabilities of all training examples; those with a label have it for certain.

    They are the predictions of a classifier, or the few labels spread along the features of a
    network: of the run itself, or of the teacher that the configuration names.

    Args:
        planned: the configuration and the data.
        folder: the run; what was found is kept in its teacher.safetensors, and found again if
            that file is damaged.
        accelerator: the processes, of which one does the work.
        score: the run's own unconditional score model, if it has one.

    Returns:
        (N, K) for the N examples of the dataset, 0 for those that do not train.
    """
    path = folder.beliefs
    if accelerator.is_main_process and read_sealed(path, _NAME) is None:
        splits = planned.splits
        y = torch.from_numpy(splits.training_labels(planned.dataset)[splits.train])
        known, q = y != UNLABELLED, torch.zeros(len(y), len(splits.class_names))
        if not known.all():
            q = _asked(planned, folder, accelerator.device, score)
        q[known] = torch.eye(q.shape[1])[y[known]]
        write_sealed(path, _NAME, q)
    accelerator.wait_for_everyone()
    found = read_sealed(regular(path), _NAME)
    if found is None:
        raise UserError(f"{path} cannot be read back: train on another disk, with another --out")
    everything = torch.zeros(len(planned.dataset), found.shape[1])
    everything[torch.from_numpy(planned.splits.train)] = found
    return everything


def labelled_by(q: Tensor, dataset: Dataset, splits: Splits) -> tuple[Dataset, Splits]:
    """The data in which every training example shows a label: its own, or its likeliest class."""
    labels, unlabelled = dataset.labels.copy(), splits.indices("unlabelled")
    labels[unlabelled] = q[torch.from_numpy(unlabelled)].argmax(1).numpy()
    return replace(dataset, labels=labels), replace(splits, labelled=splits.train)


def _asked(
    planned: Plan, folder: RunFolder, device: torch.device, score: ScoreModel | None
) -> Tensor:
    """What the teacher says of each training example, (N, K); of those with a label anything."""
    config, dataset, splits = planned.config, planned.dataset, planned.splits
    given, classifier, classes = config.teacher, None, len(splits.class_names)
    if given is not None and not is_run(given):
        return probabilities_from(given, dataset, splits, device)
    if given is not None:
        teacher = Run(given.removeprefix(FEATURES), str(device))
        if teacher.method.classifier and not given.startswith(FEATURES):
            classifier = teacher.classifier
        else:
            score = teacher.score_model
    elif score is None:
        classifier = Run(folder.path, str(device)).classifier
    if classifier is not None:
        with track("labelling the unlabelled") as task:
            return _predicted(classifier, dataset, splits.train, task)
    assert score is not None
    with track("features of the score model") as task:
        features = representation(score, dataset, splits.train, task)
    return spread(features, splits.training_labels(dataset)[splits.train], classes)


@torch.no_grad()
def _predicted(
    classifier: NoisyClassifier,
    dataset: Dataset,
    indices: NDArray[np.int64],
    task: Task,
) -> Tensor:
    """The probabilities of a classifier on nearly clean examples."""
    device = next(classifier.parameters()).device
    ratio = torch.tensor(_NEARLY_CLEAN * classifier.sigma_data, device=device)
    t, found = classifier.process.time_at(ratio), []
    alpha = classifier.process.alpha(t)
    batch = rows_at_once(dataset.shape, _MOST, _PIXELS)
    for start in range(0, len(indices), batch):
        x = alpha * dataset.examples(indices[start : start + batch]).to(device)
        found.append(classifier.log_prob(x, t).exp().cpu())
        task.set(start + len(x), len(indices))
    return torch.cat(found)
