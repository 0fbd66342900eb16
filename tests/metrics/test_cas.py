from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewlabel.data import Dataset, Splits, draw_splits, load_digits
from fewlabel.errors import UserError
from fewlabel.metrics import cas, judge, proportion


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Short training, and a cache of which nothing may be made."""
    monkeypatch.setattr(judge, "_STEPS", 150)
    monkeypatch.setattr(judge, "_EPOCHS", 0)
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="module")
def splits(digits: Dataset) -> Splits:
    return draw_splits(digits, "all", seed=0)


def real(digits: Dataset, splits: Splits) -> tuple[Tensor, Tensor]:
    """Real training images in place of generated ones."""
    return digits.examples(splits.train), torch.from_numpy(digits.labels[splits.train])


def test_real_images_teach_their_classes(digits: Dataset, splits: Splits, short: Path) -> None:
    x, y = real(digits, splits)
    found = cas(x, y, digits, splits)
    assert found.value > 0.9
    assert found.low < found.value < found.high
    # Every class called the next one: the same images teach the wrong names.
    assert cas(x, (y + 1) % 10, digits, splits).value < 0.05
    assert not short.exists()


def test_shuffled_labels_teach_nothing(digits: Dataset, splits: Splits) -> None:
    x, y = real(digits, splits)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    assert cas(x, y[order], digits, splits).value < 0.3  # chance is 0.1


def test_the_test_images_decide_or_those_of_validation(
    digits: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of N images is a multiple of 1/N."""
    monkeypatch.setattr(judge, "_STEPS", 25)
    x, y = real(digits, splits)
    without = Splits(**{**vars(splits), "test": np.array([], dtype=np.int64)})
    by_test, by_validation = cas(x, y, digits, splits), cas(x, y, digits, without)
    assert len(splits.test) != len(splits.validation)
    assert by_test != by_validation
    for found, n in ((by_test, len(splits.test)), (by_validation, len(splits.validation))):
        assert found == proportion(torch.arange(n) < round(found.value * n))


def test_the_seed_fixes_the_figure(
    digits: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_STEPS", 10)
    x, y = real(digits, splits)
    first, same, other = (cas(x, y, digits, splits, seed=seed) for seed in (1, 1, 2))
    assert first == same != other


def test_vectors_too() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 2
    x = torch.randn(300, 2, generator=generator) + 6 * y[:, None]
    dataset = Dataset(
        name="blobs",
        values=x.numpy(),
        labels=y.numpy(),
        class_names=("left", "right"),
        fingerprint="blobs",
        test_fraction=0.3,
    )
    splits = draw_splits(dataset, "all", seed=0)
    assert cas(x[splits.train], y[splits.train], dataset, splits).value > 0.95


def test_refuses(digits: Dataset, splits: Splits) -> None:
    x, y = real(digits, splits)
    nothing = np.array([], dtype=np.int64)
    none = Splits(**{**vars(splits), "test": nothing, "validation": nothing})
    broken = x.clone()
    broken[3, 0, 0, 0] = torch.nan
    for images, labels, held, message in (
        (x[:, :, :4], y, splits, rf"images have shape \({len(x)}, 1, 4, 8\)"),
        (x, y[:9], splits, r"labels \(9,\): give \(N, 1, 8, 8\) and \(N,\)"),
        (broken, y, splits, "hold NaN"),
        (x, y + 1, splits, "labels go from 1 to 10, the data has the classes 0..9"),
        (x[y != 7], y[y != 7], splits, "no generated image was asked to be of class 7"),
        (x, y, none, "digits holds out no labelled examples"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            cas(images, labels, digits, held)
        assert "\n" not in str(caught.value)
