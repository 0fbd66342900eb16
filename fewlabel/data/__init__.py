"""Data: sources, the split manifest, and the batches that a training step reads.

``open_dataset`` gives a `Dataset`; ``draw_splits`` says which examples train, which of them may
show their label, and which are held out; `Batches` gives the data of a step.
"""

from fewlabel.data.batches import Batches
from fewlabel.data.cache import cache_folder, keep_features, kept_features
from fewlabel.data.csv_labels import labelled_by_csv
from fewlabel.data.dataset import Dataset
from fewlabel.data.digits import load_digits
from fewlabel.data.folder import open_folder
from fewlabel.data.sources import BUILTIN, FORMS, absolute, is_missing, open_dataset, refuse_inside
from fewlabel.data.splits import Splits, draw_splits

__all__ = [
    "BUILTIN",
    "FORMS",
    "Batches",
    "Dataset",
    "Splits",
    "absolute",
    "cache_folder",
    "draw_splits",
    "is_missing",
    "keep_features",
    "kept_features",
    "labelled_by_csv",
    "load_digits",
    "open_dataset",
    "open_folder",
    "refuse_inside",
]
