"""Extractors that a command can name: their weights are in a file, a folder or on the hub."""

import torch

from fewlabel.data import Dataset
from fewlabel.errors import UserError
from fewlabel.extractors.extractor import NetworkExtractor
from fewlabel.extractors.inception import inception_extractor
from fewlabel.extractors.pretrained import transformers_extractor

__all__ = ["NAMED", "is_named", "named_extractor"]

NAMED = {
    "inception:FILE": "Inception-v3 of the published FID, with weights from a file",
    "transformers:NAME": "a vision model of the transformers library, by name or folder",
}
"""The forms of a name, and what each is."""

_MAKERS = {"inception": inception_extractor, "transformers": transformers_extractor}


def is_named(source: str) -> bool:
    """Whether this is the name of an extractor."""
    kind, _, rest = source.partition(":")
    return kind in _MAKERS and bool(rest)


def named_extractor(
    source: str, dataset: Dataset, device: str | torch.device = "cpu"
) -> NetworkExtractor:
    """The extractor of a name.

    Args:
        source: "inception:FILE" or "transformers:NAME_OR_FOLDER", as `is_named` tells.
        dataset: the data it is for.
        device: where to compute.

    Raises:
        UserError: for vectors, or for weights that cannot be had.
    """
    kind, _, rest = source.partition(":")
    if len(dataset.shape) != 3:
        raise UserError(
            f"extractor {source!r} reads images, and {dataset.name} holds vectors: leave it out"
        )
    return _MAKERS[kind](rest, device)
