"""Images beside their masks: two folders that are no classes.

Classes whose files are called alike are common, as cat/1.png and dog/1.png. So only folders that
also say by their names what they hold are taken for images and masks.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path, PurePosixPath

from fewlabel.errors import UserError

__all__ = ["refuse_masks"]

_IMAGES = frozenset(
    (
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"),
        *("jpegimages", "rgb", "input", "inputs", "train", "val", "test"),
    )
)
_MASKS = frozenset(
    (
        *("mask", "masks", "label", "labels", "labelmaps", "annotation", "annotations", "annots"),
        *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "seg"),
        *("trimaps", "gt", "groundtruth", "truth", "depth", "depths", "normals", "edges"),
    )
)
_ADDED = re.compile(rf"[-_. ]({'|'.join(sorted(_MASKS))})$")
_FEWEST, _ALIKE = 3, 0.8


def refuse_masks(root: Path, folders: Sequence[str], files: Iterable[str]) -> None:
    """Refuse a folder of images and a folder of masks that would be taken for two classes.

    Their names say so, and their files are called alike: at least three, and 80 % of the smaller
    folder. Endings do not count, nor does an added word as in ``1_mask.png``.

    Args:
        root: the folder of the data.
        folders: the sub-folders to look at, relative to `root`.
        files: the images, relative to `root`.

    Raises:
        UserError: for two such folders.
    """
    images, masks = (
        [folder for folder in folders if words & set(_words(folder))]
        for words in (_IMAGES, _MASKS)
    )
    if not images or not masks:
        return
    stems: dict[str, set[str]] = {folder: set() for folder in (*images, *masks)}
    for file in files:
        for folder in stems:
            if file.startswith(f"{folder}/"):
                stems[folder].add(_stem(file[len(folder) + 1 :]))
    for image, mask in product(images, masks):
        alike = len(stems[image] & stems[mask])
        least = max(_FEWEST, _ALIKE * min(len(stems[image]), len(stems[mask])))
        if image != mask and _parent(image) == _parent(mask) and alike >= least:
            raise UserError(
                f"{root / image} and {root / mask} hold {alike} files of the same names, as "
                f"images and their masks do, not classes: move {mask}/ out of the data or give "
                f"{root / image}; if both are classes, rename the files of one"
            )


def _words(folder: str) -> list[str]:
    return re.findall(r"[a-z]+", PurePosixPath(folder).name.lower())


def _stem(file: str) -> str:
    return _ADDED.sub("", str(PurePosixPath(file).with_suffix("")).lower())


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]
