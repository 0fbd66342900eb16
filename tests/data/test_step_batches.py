from collections import Counter

import numpy as np
import pytest
import torch
from data_cases import MakeDataset, Refuses
from torch import Tensor

from fewlabel.batch import Batch, Part
from fewlabel.data import Batches, Dataset, Splits, draw_splits

PARTS: tuple[Part, ...] = ("labelled", "unlabelled", "all")
SIZES: dict[Part, int] = {"labelled": 4, "unlabelled": 16, "all": 10}


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset((150, 90, 60), unlabelled=70, test=0.1)


@pytest.fixture
def splits(dataset: Dataset) -> Splits:
    return draw_splits(dataset, "0.05", seed=1)


def index_of(x: Tensor) -> list[int]:
    """The examples that the pixels show."""
    levels = ((x.double() + 1) * 127.5).round().long().reshape(len(x), 2)
    return (levels[:, 0] * 256 + levels[:, 1]).tolist()


def assert_equal(one: dict[Part, Batch], other: dict[Part, Batch]) -> None:
    assert one.keys() == other.keys()
    for part in one:
        assert torch.equal(one[part].x, other[part].x)
        assert torch.equal(one[part].y, other[part].y)


def test_no_label_and_no_held_out_example_leaks(dataset: Dataset, splits: Splits) -> None:
    allowed = {part: set(splits.indices(part).tolist()) for part in PARTS}
    source = Batches(dataset, splits, SIZES, seed=0)
    seen: dict[Part, set[int]] = {part: set() for part in PARTS}
    for step in range(60):
        for part, batch in source.at(step).items():
            indices = index_of(batch.x)
            seen[part].update(indices)
            expected = [dataset.labels[i] if i in splits.labelled else -1 for i in indices]
            assert batch.y.tolist() == expected
    assert seen == allowed


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(
    part: Part, size: int, dataset: Dataset, splits: Splits
) -> None:
    n = len(splits.indices(part))
    source = Batches(dataset, splits, {part: size}, seed=0)
    steps = -(-4 * n // size)
    rows = [i for step in range(steps) for i in index_of(source.at(step)[part].x)]
    epochs = [rows[k * n : k * n + n] for k in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == splits.indices(part).tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_may_be_larger_than_its_part(dataset: Dataset, splits: Splits) -> None:
    n = len(splits.labelled)
    batch = Batches(dataset, splits, {"labelled": 3 * n + 1}, seed=0).at(0)["labelled"]
    assert sorted(Counter(index_of(batch.x)).values()) == [3] * (n - 1) + [4]


def test_a_batch_is_a_function_of_seed_and_step(dataset: Dataset, splits: Splits) -> None:
    in_order = Batches(dataset, splits, SIZES, seed=2)
    expected = [in_order.at(step) for step in range(50)]
    jumping = Batches(dataset, splits, SIZES, seed=2)
    for step in np.random.default_rng(0).permutation(50).tolist():
        assert_equal(jumping.at(step), expected[step])
        assert_equal(Batches(dataset, splits, SIZES, seed=2).at(step), expected[step])
    other = Batches(dataset, splits, SIZES, seed=3).at(0)
    assert all(index_of(other[part].x) != index_of(expected[0][part].x) for part in PARTS)


def test_a_part_without_examples_is_refused(dataset: Dataset, refuses: Refuses) -> None:
    everything = {
        **draw_splits(dataset, "all", 0).to_json(),
        "train": draw_splits(dataset, "all", 0).to_json()["labelled"],
    }
    with refuses("training examples of numbers show their label", "'all'", "fewer labels"):
        Batches(dataset, Splits.from_json(everything), {"unlabelled": 3}, seed=0)
