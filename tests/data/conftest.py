from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeDataset, MakeFolder, Refuses
from PIL import Image

from fewlabel.data import Dataset
from fewlabel.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "the cache"
    monkeypatch.setenv("FEWLABEL_CACHE", str(folder))
    return folder


@pytest.fixture
def refuses() -> Refuses:
    """Expects a UserError of one line that contains every fragment."""

    @contextmanager
    def expect(*fragments: str) -> Iterator[None]:
        with pytest.raises(UserError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        for fragment in fragments:
            assert fragment in message

    return expect


@pytest.fixture
def make_dataset() -> MakeDataset:
    """A dataset with so many examples of each class, shuffled; the pixels say the index."""

    def make(
        counts: tuple[int, ...],
        unlabelled: int = 0,
        validation: float = 0.1,
        test: float = 0.0,
        fingerprint: str = "made up",
    ) -> Dataset:
        labels = np.repeat([-1, *range(len(counts))], [unlabelled, *counts])
        labels = np.random.default_rng(0).permutation(labels).astype(np.int64)
        index = np.arange(len(labels))
        images = np.stack([index // 256, index % 256], axis=1).astype(np.uint8)
        return Dataset(
            name="numbers",
            values=images.reshape(-1, 1, 2, 1),
            labels=labels,
            class_names=tuple("abcdefghij"[: len(counts)]),
            files=tuple(f"{i}.png" for i in index),
            fingerprint=fingerprint,
            test_fraction=test,
            validation_fraction=validation,
        )

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes images to a folder: {"cat/1.png": an image or the bytes of a file}."""

    def make(files: dict[str, Image.Image | bytes], name: str = "pets") -> Path:
        root = tmp_path / name
        root.mkdir()
        for file, content in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content.save(path)
        return root

    return make
