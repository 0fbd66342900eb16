"""Which feature extractors there are, and how they are named."""

import torch
from torch import nn

from fewlabel.data import Dataset
from fewlabel.errors import UserError
from fewlabel.metrics.features import Extractor, module_extractor
from fewlabel.metrics.inception import inception_extractor
from fewlabel.metrics.judge import train_judge
from fewlabel.metrics.pretrained import transformers_extractor

__all__ = ["EXTRACTORS", "find_extractor"]

EXTRACTORS = {
    "judge": "a small classifier trained on all labels of the data (the default)",
    "inception:FILE": "Inception-v3 of the published FID, with weights from a file",
    "transformers:NAME": "a vision model of the transformers library, by name or folder",
}
"""The forms of an extractor's name, and what each is."""


def find_extractor(
    which: str | nn.Module | Extractor,
    dataset: Dataset,
    device: str | torch.device = "cpu",
) -> Extractor:
    """The extractor of a name, or around a module.

    Args:
        which: "judge", "inception:FILE", "transformers:NAME_OR_FOLDER", a module (see
            `features.module_extractor`), or an extractor.
        dataset: the data it is for.
        device: where to compute.

    Raises:
        UserError: for an unknown name, or one whose weights cannot be had or are not for such
            data.
    """
    if isinstance(which, nn.Module):
        return module_extractor(which)
    if not isinstance(which, str):
        return which
    if which == "judge":
        return train_judge(dataset)
    kind, _, rest = which.partition(":")
    if kind not in ("inception", "transformers") or not rest:
        forms = ", ".join(EXTRACTORS)
        raise UserError(f"extractor {which!r} is unknown; choose one of {forms}")
    if len(dataset.shape) != 3:
        raise UserError(
            f"extractor {which!r} reads images, and {dataset.name} holds vectors: take the judge"
        )
    if kind == "inception":
        return inception_extractor(rest, device)
    return transformers_extractor(rest, device)
