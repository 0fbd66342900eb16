from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from fewlabel.data import Dataset, load_digits
from fewlabel.data import dataset as dataset_module
from fewlabel.data.moons import load_moons


def test_digits_are_those_of_scikit_learn_in_order() -> None:
    values, classes = datasets.load_digits(return_X_y=True)
    digits = load_digits()
    indices = [0, 17, 1796]
    restored = (digits.examples(indices).double().numpy() + 1) / 2 * 16
    assert digits.examples(indices).shape == (3, *digits.shape) == (3, 1, 8, 8)
    # half of a grey level of 255, in units of 16
    np.testing.assert_allclose(restored.reshape(3, 64), values[indices], atol=8 / 255 + 1e-6)
    np.testing.assert_array_equal(digits.labels, classes)
    assert [digits.class_names[k] for k in digits.labels[:3]] == ["0", "1", "2"]


def test_moons_are_those_of_scikit_learn_centred_and_twenty_times_as_large() -> None:
    points, classes = datasets.make_moons(10_000, shuffle=False, noise=None)
    moons = load_moons()
    np.testing.assert_allclose(moons.values, 20 * (points - points.mean(0)), atol=1e-5)
    np.testing.assert_array_equal(moons.labels, classes)
    assert abs(moons.values).max(0).tolist() == pytest.approx([30, 15], rel=1e-4)
    above = [moons.values[moons.labels == k, 1].mean() > 0 for k in range(2)]
    assert dict(zip(moons.class_names, above, strict=True)) == {"upper": True, "lower": False}


def test_examples_cover_the_range_and_keep_the_order_asked_for() -> None:
    digits = load_digits()
    forwards, backwards = digits.examples([5, 9]), digits.examples(torch.tensor([9, 5]))
    assert torch.equal(forwards, backwards.flip(0))
    everything = digits.examples(np.arange(len(digits)))
    assert everything.min() == -1
    assert everything.max() == 1


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 2**24])
def test_spread_is_the_standard_deviation(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "_CHUNK_BYTES", chunk_bytes)
    digits = load_digits()
    indices = np.arange(3, 203)
    expected = digits.examples(indices).double().std(correction=0).item()
    assert digits.spread(indices) == pytest.approx(expected, rel=1e-6)


def test_examples_of_a_file_are_those_of_the_array(tmp_path: Path) -> None:
    """Read a few rows at a time, in the order asked for."""
    values = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    facts = {"name": "x", "labels": np.zeros(30, np.int64), "class_names": ("a",)}
    order = np.random.default_rng(1).permutation(30)
    found = Dataset(values=mapped, fingerprint="", **facts).examples(order)
    expected = values[order].transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
