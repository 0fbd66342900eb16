from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewlabel.data import Dataset
from fewlabel.errors import UserError
from fewlabel.extractors.feature_cache import dataset_features


@dataclass
class Counting:
    """Features are the pixels times a factor; it keeps how many images each call saw."""

    key: str = "one"
    name: str = "counting"
    factor: float = 1.0
    calls: list[int] = field(default_factory=list)

    def read(self, images: Tensor) -> tuple[Tensor, None]:
        self.calls.append(len(images))
        return images.flatten(1) * self.factor, None

    def number(self) -> int:
        """How many images were read since it was last asked."""
        total = sum(self.calls)
        self.calls.clear()
        return total


def numbers(fingerprint: str = "numbers") -> Dataset:
    values = np.random.default_rng(0).integers(0, 256, (1300, 2, 2, 1)).astype(np.uint8)
    labels = np.arange(1300) % 2
    return Dataset(
        name="numbers",
        values=values,
        labels=labels,
        class_names=("a", "b"),
        fingerprint=fingerprint,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path))
    return tmp_path / "features"


ROWS = np.arange(1, 1300, 1)


def test_features_are_computed_once_and_in_parts(cache: Path) -> None:
    extractor, dataset = Counting(), numbers()
    first = dataset_features(dataset, ROWS, extractor)
    assert torch.equal(first, dataset.examples(ROWS).flatten(1))
    assert max(extractor.calls) <= 128
    assert extractor.number() == len(ROWS)
    assert torch.equal(dataset_features(dataset, ROWS.tolist(), extractor), first)
    assert extractor.number() <= 4
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]


def test_other_examples_data_and_extractors_are_computed_anew() -> None:
    extractor = Counting()
    dataset_features(numbers(), ROWS, extractor)
    for dataset, rows, key in (
        (numbers(), ROWS[::-1].copy(), "one"),
        (numbers(), ROWS[:-1], "one"),
        (numbers("others"), ROWS, "one"),
        (numbers(), ROWS, "two"),
    ):
        extractor.key = key
        extractor.number()
        found = dataset_features(dataset, rows, extractor)
        assert extractor.number() == len(rows)
        assert torch.equal(found, dataset.examples(rows).flatten(1))


def truncated(content: bytearray) -> bytearray:
    return content[:-100]


def one_bit_off(content: bytearray) -> bytearray:
    content[-1000] ^= 1
    return content


def empty(content: bytearray) -> bytearray:
    return content[:0]


@pytest.mark.parametrize("damage", [truncated, one_bit_off, empty])
def test_a_damaged_file_is_made_again(
    cache: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    extractor = Counting()
    whole = dataset_features(numbers(), ROWS, extractor)
    (file,) = cache.iterdir()
    before = file.read_bytes()
    file.write_bytes(damage(bytearray(before)))
    extractor.number()
    assert torch.equal(dataset_features(numbers(), ROWS, extractor), whole)
    assert extractor.number() == len(ROWS)
    assert file.read_bytes() == before


def test_an_extractor_that_changed_under_its_key_is_noticed() -> None:
    dataset_features(numbers(), ROWS, Counting())
    found = dataset_features(numbers(), ROWS, Counting(factor=1.1))
    torch.testing.assert_close(found, numbers().examples(ROWS).flatten(1) * 1.1)
    rounding = Counting(factor=1.1 + 1e-6)
    assert torch.equal(dataset_features(numbers(), ROWS, rounding), found)


def test_nothing_is_kept_of_what_failed(cache: Path) -> None:
    class Failing(Counting):
        def read(self, images: Tensor) -> tuple[Tensor, None]:
            if self.calls:
                raise UserError("features hold NaN")
            return super().read(images)

    with pytest.raises(UserError, match="NaN"):
        dataset_features(numbers(), ROWS, Failing())
    assert not cache.exists()
    with pytest.raises(UserError, match="numbers has no labelled examples"):
        dataset_features(numbers(), [], Counting())
