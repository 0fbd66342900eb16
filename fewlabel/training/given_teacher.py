"""A teacher that the user names: a run, a table of probabilities, or a vision model."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.batch import UNLABELLED
from fewlabel.data import Dataset, Splits
from fewlabel.data.classes import plain_name
from fewlabel.data.dataset import refuse_other_shape
from fewlabel.data.probability_table import probabilities_of
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.extractors import dataset_features, is_named, named_extractor
from fewlabel.methods import METHODS, Stage, find_method
from fewlabel.progress import track
from fewlabel.run_folder import RunFolder
from fewlabel.teachers import half_whitened, spread_labels

__all__ = ["FEATURES", "is_run", "is_there", "probabilities_from", "resolved", "spread"]

FEATURES = "features:"
"""What stands before a run of which the score model's features alone are used."""


def is_run(source: str) -> bool:
    """Whether this is a run, or its features, rather than a table or a vision model."""
    return not (is_table(source) or is_named(source))


def is_there(source: str) -> bool:
    """Whether a teacher that is a file or a folder is at its place; names on the hub are."""
    if is_named(source):
        kind, _, path = source.partition(":")
        on_hub = kind == "transformers" and not path.startswith(("/", ".", "~"))
        return on_hub or Path(path).expanduser().exists()
    if is_table(source):
        return Path(source).expanduser().exists()
    return RunFolder(source.removeprefix(FEATURES)).exists


def resolved(source: str, method: str, dataset: Dataset, splits: Splits) -> tuple[str, str]:
    """A teacher that can teach these data: its whole path or name, and a digest of what it holds.

    Raises:
        UserError: if it cannot, or the method takes none.
    """
    if not find_method(method).takes_teacher:
        taught = ", ".join(name for name, row in METHODS.items() if row.takes_teacher)
        raise UserError(
            f"{method} takes no teacher; leave --teacher out, or choose one of {taught}"
        )
    kind, _, rest = source.partition(":")
    if is_named(source):
        key = named_extractor(source, dataset).key
        here = Path(rest).expanduser()
        return f"{kind}:{here.resolve()}" if here.exists() else source, key
    if is_table(source):
        table = Path(source).expanduser().resolve()
        probabilities_of(dataset, splits.indices("unlabelled"), table)
        return str(table), hashlib.blake2b(table.read_bytes(), digest_size=16).hexdigest()
    if source.startswith(FEATURES):
        folder = Path(rest).expanduser()
        return f"{FEATURES}{folder.resolve()}", _checked_run(folder, dataset, asked="score")
    folder = Path(source).expanduser()
    return str(folder.resolve()), _checked_run(folder, dataset, asked="classifier")


def probabilities_from(
    source: str, dataset: Dataset, splits: Splits, device: torch.device
) -> Tensor:
    """What a table says, or where labels spread along a vision model's features.

    Args:
        source: as `resolved` gave it; no run.
        dataset: the data.
        splits: which train, and which of them show their label.
        device: where the vision model computes.

    Returns:
        (N, K) for the N training examples; of those with a label a table says 0.
    """
    labels, classes = splits.training_labels(dataset)[splits.train], len(splits.class_names)
    if is_named(source):
        extractor = named_extractor(source, dataset, device)
        features = dataset_features(dataset, splits.train, extractor).numpy()
        return spread(half_whitened(features), labels, classes)
    q = np.zeros((len(labels), classes), np.float32)
    q[labels == UNLABELLED] = probabilities_of(dataset, splits.indices("unlabelled"), Path(source))
    return torch.from_numpy(q)


def spread(features: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int) -> Tensor:
    """`spread_labels`, with its progress."""
    with track("spreading the labels") as task:
        return torch.from_numpy(spread_labels(features, labels, n_classes, task))


def _checked_run(folder: Path, dataset: Dataset, asked: Stage) -> str:
    """Check that a run can teach; a digest of the weights that do."""
    source = RunFolder(folder).read_config()
    teaches = find_method(source.method)
    classifier = bool(teaches.classifier) and asked == "classifier"
    if not (classifier or teaches.shares_score):
        raise UserError(
            f"{folder} is a run of {source.method}, which has no unconditional score model"
            f"{'' if asked == 'score' else ', and no classifier'}; give a run of uncond or lpg"
        )
    needed: Stage = "classifier" if classifier else "score"
    if not RunFolder(folder).checkpoints(needed).is_finished(source.fit(needed).steps):
        raise UserError(
            f"the {needed} of the teacher {folder} is not trained to its end; train that run on"
        )
    refuse_other_shape(f"the teacher {folder} knows", source.shape, dataset)
    names = tuple(map(plain_name, RunFolder(folder).read_splits().class_names))
    if classifier and names != dataset.class_names:
        raise UserError(
            f"the teacher {folder} knows the classes {', '.join(names)}, {dataset.name} has "
            f"{', '.join(dataset.class_names)}; give another run"
        )
    return str(RunFolder(folder).weights_id(needed))
