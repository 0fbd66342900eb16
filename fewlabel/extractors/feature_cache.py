"""Features of a dataset's examples, computed once and kept by content hash.

A file of the cache is named after the dataset, the examples and the extractor's key.
"""

import numpy as np
import torch
from torch import Tensor

from fewlabel.data import Dataset, cache_folder, keep_features, kept_features
from fewlabel.data.dataset import Indices, fingerprint_of, rows_key
from fewlabel.errors import UserError
from fewlabel.extractors.extractor import Extractor, in_parts
from fewlabel.progress import track

__all__ = ["dataset_features"]

_FORMAT = 1
_LOOKED_AT = 4
_TOLERANCE = 0.01


def dataset_features(dataset: Dataset, indices: Indices, extractor: Extractor) -> Tensor:
    """Features (n, F) of some examples of a dataset, from the cache if they were made before.

    Those of the first few examples are computed in any case. If they differ from what was kept by
    more than the rounding of another machine, or the file is damaged, all are computed again: so
    a module whose `forward` was changed never gets the features of the one before.

    Args:
        dataset: the data.
        indices: which examples, in order.
        extractor: what makes the features.

    Raises:
        UserError: for no examples, or features that are not finite.
    """
    rows = np.asarray(indices, dtype=np.int64)
    if not len(rows):
        raise UserError(f"{dataset.name} has no labelled examples here to compare with: add some")
    key = fingerprint_of(_FORMAT, dataset.fingerprint, rows_key(rows), extractor.key)
    path = cache_folder() / "features" / f"{key}.safetensors"
    kept = kept_features(path)
    if kept is not None and len(kept) == len(rows):
        few, _ = extractor.read(dataset.examples(rows[:_LOOKED_AT]))
        if _agree(kept[:_LOOKED_AT], few):
            return kept
    features = _computed(dataset, rows, extractor)
    keep_features(path, features)
    return features


def _computed(dataset: Dataset, rows: np.ndarray, extractor: Extractor) -> Tensor:
    found, done = [], 0
    with track(f"features {extractor.name}") as task:
        for images in in_parts(dataset, rows):
            task.set(done, len(rows))
            found.append(extractor.read(images)[0])
            done += len(images)
        task.set(done, len(rows))
    return torch.cat(found)


def _agree(kept: Tensor, few: Tensor) -> bool:
    return kept.shape == few.shape and bool((kept - few).norm() <= _TOLERANCE * few.norm())
