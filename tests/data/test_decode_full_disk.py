import errno
import os
from pathlib import Path

import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import open_folder


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    root = make_folder({f"{c}/{i}.png": Image.new("L", (4, 4), i) for c in "ab" for i in range(3)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with refuses(str(cache), "No space left on device", "make room"):
            open_folder(root)
    assert list(cache.iterdir()) == []
    assert len(open_folder(root)) == 6
