"""Whatever the `datasets` library loads: a folder it saved or understands, or a name on the hub.

Of a dataset in parts, `train` (and `unlabeled`, `unsupervised`) is trained on and `test` held out.
Code that comes with a dataset is never run: the library itself no longer does so.
"""

import io
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.data.classes import Known, known_integers, known_labels
from fewlabel.data.dataset import Dataset, array_digest, data_fingerprint
from fewlabel.data.decoded import Progress, open_decoded
from fewlabel.data.images import check_size
from fewlabel.errors import UserError
from fewlabel.regular_file import regular

__all__ = ["open_hub"]

_TRAINED_ON = ("train", "unlabeled", "unlabelled", "unsupervised")
_IMAGES, _LABELS = ("image", "img"), ("label", "labels", "fine_label")
_SAVED = ("dataset_dict.json", "state.json")


def open_hub(
    name: str, size: int | None = None, progress: Progress | None = None, strict: bool = False
) -> Dataset:
    """Open a dataset with an image column and a label column, which its features tell.

    A label that is missing or negative, or a text that says so (`classes.says_none`), is none.

    Args:
        name: a folder that the library saved or understands; else a name on the hub.
        size: side of the images; None for the most frequent short side, at most 64.
        progress: called as ``progress(done, total)`` while images are decoded.
        strict: raise on a broken image; else leave it out and name it in ``skipped``.

    Raises:
        UserError: if the library is missing, or the dataset or one of the two columns.
    """
    check_size(size)
    parts = _parts(name, _loaded(name))
    features = next(iter(parts.values())).features
    image, label = _image_column(features, name), _label_column(features, name)
    files = _Rows(name, parts, image)
    column = _column([part.data.column(label) for part in parts.values()])
    made = [part._fingerprint for part in parts.values()]
    facts = ("hf", made, array_digest(files.states()))
    decoded = open_decoded(files, size, facts, strict, progress)
    kept = np.setdiff1d(np.arange(len(files)), list(decoded.broken))
    n_test = len(parts["test"]) if len(parts) > 1 and "test" in parts else 0
    test = np.flatnonzero(kept >= len(files) - n_test) if n_test else None
    labels, class_names, notes = _known(
        column.take(kept), getattr(features[label], "names", None), f"hf:{name}"
    )
    return Dataset(
        name=name,
        values=decoded.images,
        labels=labels,
        class_names=class_names,
        skipped=tuple(files.name(row) for row in sorted(decoded.broken)),
        sizes=decoded.sizes,
        fingerprint=data_fingerprint(decoded.digest, labels, class_names, test),
        contents=decoded.contents,
        notes=(*notes, *decoded.notes),
        test=test,
    )


class _Rows:
    """The rows of all parts, one after another, as `open_decoded` reads them."""

    def __init__(self, name: str, parts: dict[str, Any], column: str) -> None:
        import datasets

        encoded = datasets.Image(decode=False)
        self._name, self._titles, self._column = name, tuple(parts), column
        self._parts = [
            p.select_columns([column]).cast_column(column, encoded) for p in parts.values()
        ]
        self._begins = [0, *accumulate(len(part) for part in self._parts)]

    def __len__(self) -> int:
        return self._begins[-1]

    def _place(self, row: int) -> tuple[int, int]:
        part = bisect_right(self._begins, row) - 1
        return part, row - self._begins[part]

    def name(self, row: int) -> str:
        part, inside = self._place(row)
        return f"hf:{self._name}, {self._titles[part]}, row {inside}"

    def open(self, row: int) -> BinaryIO:
        part, inside = self._place(row)
        return self._stream(self._parts[part][inside][self._column])

    def _stream(self, found: dict[str, Any] | None) -> BinaryIO:
        found = found or {}
        if found.get("bytes") is None and found.get("path"):
            return regular(Path(found["path"])).open("rb")
        return io.BytesIO(found.get("bytes") or b"")

    def states(self) -> NDArray[np.int64]:
        """(N, 3): bytes of each image, and when its file changed if it is beside the dataset."""
        import pyarrow.compute as pc

        found = []
        for part in self._parts:
            for chunk in part.data.column(self._column).chunks:
                lengths = pc.binary_length(pc.struct_field(chunk, "bytes"))
                sizes = pc.fill_null(lengths, -1).to_numpy(zero_copy_only=False).astype(np.int64)
                states = np.stack([sizes, np.zeros_like(sizes), np.zeros_like(sizes)], 1)
                paths = pc.struct_field(chunk, "path")
                for row in np.flatnonzero(sizes < 0):
                    path = paths[int(row)].as_py() or ""
                    if os.path.isfile(path):
                        facts = os.stat(path)
                        states[row] = facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
                found.append(states)
        return np.concatenate(found)


def _loaded(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"hf:{name} needs the library `datasets`: install the extra, pip install "
            "'fewlabel[hub]'"
        ) from None
    datasets.disable_progress_bars()
    folder = Path(name)
    if not name or (not folder.exists() and name[0] in "/.~"):
        raise UserError(f"hf:{name}: there is no such folder: check the path")
    try:
        if any((folder / saved).is_file() for saved in _SAVED):
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name)
    except Exception as error:  # the library and what is below it raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        where = "folder" if folder.exists() else "name, and that the hub can be reached"
        raise UserError(f"hf:{name} cannot be loaded ({reason}): check the {where}") from None


def _parts(name: str, loaded: Any) -> dict[str, Any]:
    """The parts to train on, then the test part; a dataset without parts is trained on."""
    if not isinstance(loaded, dict):
        return {"train": loaded}
    if len(loaded) == 1:
        return dict(loaded)
    parts = {title: loaded[title] for title in (*_TRAINED_ON, "test") if title in loaded}
    if "train" not in parts:
        raise UserError(
            f"hf:{name} has the parts {', '.join(loaded)} and no `train`: save one of that name"
        )
    return parts


def _image_column(features: Any, name: str) -> str:
    import datasets

    found = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    return _the_one(found, _IMAGES, "image", features, name)


def _label_column(features: Any, name: str) -> str:
    import datasets

    found = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    found = found or [key for key in _LABELS if isinstance(features.get(key), datasets.Value)]
    return _the_one(found, _LABELS, "label", features, name)


def _the_one(
    found: list[str], preferred: tuple[str, ...], kind: str, features: Any, name: str
) -> str:
    """The only column found, or the first of the usual names among several."""
    usual = [key for key in preferred if key in found]
    if len(found) == 1 or usual:
        return usual[0] if usual else found[0]
    raise UserError(
        f"hf:{name} has {len(found) or 'no'} columns of {kind}s among {', '.join(features)}: "
        f"name the right one `{preferred[0]}`"
    )


def _column(columns: list[Any]) -> Any:
    """The labels of all parts in one."""
    import pyarrow as pa

    return pa.chunked_array([chunk for column in columns for chunk in column.chunks])


def _known(column: Any, names: list[str] | None, where: str) -> Known:
    """What the column tells of the labels; of integers the features may tell the names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = column.drop_null()
    if pa.types.is_integer(column.type):
        known = known_integers(there.to_numpy(), where, names)
        labels = np.full(len(column), UNLABELLED, dtype=np.int64)
        labels[column.is_valid().to_numpy()] = known.labels
        return known._replace(labels=labels)
    found = pc.unique(there)
    codes = pc.fill_null(pc.index_in(column, value_set=found), UNLABELLED).to_numpy()
    return known_labels(codes.astype(np.int64), [str(v) for v in found.to_pylist()], where)
