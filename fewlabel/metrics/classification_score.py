"""The classification accuracy score: what a classifier learns from generated images alone."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.data import Dataset, Splits, draw_splits
from fewlabel.data.dataset import stored
from fewlabel.errors import UserError
from fewlabel.files import scratch_folder
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.judge import Judge, accuracy_on, held_out, train_classifier
from fewlabel.training.checkpoint import Checkpoints

__all__ = ["cas"]


def cas(
    images: Tensor,
    labels: Tensor,
    dataset: Dataset,
    splits: Splits,
    *,
    seed: int = 0,
    device: torch.device | None = None,
) -> Estimate:
    """Accuracy on real held-out images of a classifier that saw generated ones alone.

    A classifier of the judge's kind is trained on pairs (G, y) of generated images and the
    classes they were asked for, and tested on the labelled images of the test split, or of the
    validation split if there is no test split. Low if classes are confused or lack variety.
    (Ravuri & Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models",
    arXiv 1905.10887.)

    Images are rounded to 8 bits, as the real ones are stored. The interval is that of the test
    images; another training seed would move the figure too.

    Args:
        images: generated, (N, C, H, W) in [−1, 1], or vectors (N, D).
        labels: (N,) the class asked for, integers in 0..K−1; every class has to be there.
        dataset: the real data.
        splits: what of it is held out.
        seed: of the classifier's training.
        device: where it is trained; by default a GPU if there is one.

    Returns:
        The share of test images named right, in [0, 1], with Wilson's interval.

    Raises:
        UserError: shapes that do not fit, images that are not finite, labels of no class, a class
            without images, or no labelled image held out.
    """
    indices = held_out(dataset, splits)
    if not len(indices):
        raise UserError(f"{dataset.name} holds out no labelled examples to test on: add some")
    generated = _as_dataset(images, labels, dataset)
    every = draw_splits(generated, "all", seed=0)
    with scratch_folder() as folder:
        checkpoints = Checkpoints(folder)
        classifier = train_classifier(
            generated, every, checkpoints, "CAS classifier", seed, device
        )
    return accuracy_on(Judge(classifier, 1.0, None, "cas"), dataset, indices)


def _as_dataset(images: Tensor, labels: Tensor, dataset: Dataset) -> Dataset:
    """Generated images as a dataset of which everything trains."""
    x, y = torch.as_tensor(images).detach().cpu(), torch.as_tensor(labels).cpu()
    if x.shape[1:] != dataset.shape or y.shape != x.shape[:1]:
        raise UserError(
            f"images have shape {tuple(x.shape)} and labels {tuple(y.shape)}: give "
            f"{('N', *dataset.shape)} and (N,)".replace("'", "")
        )
    if not x.isfinite().all():
        raise UserError("the generated images hold NaN or infinite values: check the sampler")
    counts = _counts(y, dataset.n_classes)
    if not counts.all():
        name = dataset.class_names[int(counts.argmin())]
        raise UserError(f"no generated image was asked to be of class {name}: sample every class")
    values = _stored(x)
    content = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).hexdigest()
    return Dataset(
        name="the generated images",
        values=values,
        labels=y.numpy().astype(np.int64),
        class_names=dataset.class_names,
        fingerprint=content,
        validation_fraction=0.0,
    )


def _counts(labels: Tensor, classes: int) -> Tensor:
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise UserError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, the data has the classes "
            f"0..{classes - 1}: give the classes that were asked for"
        )
    return labels.long().bincount(minlength=classes)


def _stored(x: Tensor) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The examples as a dataset holds them; the inverse of `Dataset.examples`."""
    if x.ndim == 2:
        return x.float().numpy()
    return stored(x)
