import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
from PIL import Image

from fewlabel.data import Batches, Splits, draw_splits, open_dataset
from fewlabel.files import write_json

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
FEW, MANY = 400, 1400
BYTES_A_FILE = 200


def folder_of(n: int, parent: Path) -> Path:
    root = parent / f"{n:06d} pictures"
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    for index in range(n):
        path = root / f"class {index % 4}" / f"picture number {index:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    return root


def use(root: Path, scratch: Path) -> None:
    """All that a run does with its data."""
    dataset = open_dataset(root)
    splits = draw_splits(dataset, "0.1", 0)
    dataset.spread(splits.train)
    write_json(scratch / "labels.json", splits.to_json())
    splits = Splits.from_json(json.loads((scratch / "labels.json").read_text()))
    batches = Batches(dataset, splits, {"labelled": 8, "unlabelled": 8, "all": 8}, seed=0)
    for step in range(len(dataset) // 16):
        batches.at(step)


def peak(root: Path, scratch: Path) -> int:
    tracemalloc.start()
    try:
        use(root, scratch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_an_index_only(tmp_path: Path) -> None:
    """A picture has 3072 bytes of pixels and a file of more: neither is kept."""
    use(folder_of(20, tmp_path), tmp_path)  # what is loaded and kept once
    few, many = (peak(folder_of(n, tmp_path), tmp_path) for n in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < BYTES_A_FILE
