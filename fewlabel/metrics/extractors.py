"""Which feature extractors figures can be measured with, and how they are named."""

import torch
from torch import nn

from fewlabel.data import Dataset, Splits
from fewlabel.errors import UserError
from fewlabel.extractors import NAMED, Extractor, is_named, module_extractor, named_extractor
from fewlabel.metrics.judge import train_judge

__all__ = ["EXTRACTORS", "find_extractor"]

EXTRACTORS = {
    "judge": "a small classifier trained on all labels of the data (the default)",
} | NAMED
"""The forms of an extractor's name, and what each is."""


def find_extractor(
    which: str | nn.Module | Extractor,
    dataset: Dataset,
    device: str | torch.device = "cpu",
    splits: Splits | None = None,
) -> Extractor:
    """The extractor of a name, or around a module.

    Args:
        which: "judge", "inception:FILE", "transformers:NAME_OR_FOLDER", a module (see
            `fewlabel.extractors.module_extractor`), or an extractor.
        dataset: the data it is for.
        device: where to compute.
        splits: what trains the judge and what is held out from it, see `judge.train_judge`.

    Raises:
        UserError: for an unknown name, or one whose weights cannot be had or are not for such
            data.
    """
    if isinstance(which, nn.Module):
        return module_extractor(which)
    if not isinstance(which, str):
        return which
    if which == "judge":
        return train_judge(dataset, splits, torch.device(device))
    if not is_named(which):
        raise UserError(f"extractor {which!r} is unknown; choose one of {', '.join(EXTRACTORS)}")
    return named_extractor(which, dataset, device)
