"""Batches whose labelled rows are balanced by class, or a set share of the rows; of processes."""

from typing import Any

import numpy as np
import pytest
import torch
from data_cases import MakeDataset, Refuses
from torch import Tensor

from fewlabel.batch import Part
from fewlabel.data import Batches, Dataset, Splits, draw_splits

COUNTS = (300, 40, 8)
SIZES: dict[Part, int] = {"labelled": 7, "unlabelled": 5, "all": 10}


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset(COUNTS, unlabelled=200, validation=0.0)


@pytest.fixture
def splits(dataset: Dataset) -> Splits:
    return draw_splits(dataset, "0.5", seed=1)


def rows_of(source: Batches, part: Part, steps: int) -> tuple[list[int], list[int]]:
    """The examples that the pixels show, and the labels, over some steps."""
    batches = [source.at(step)[part] for step in range(steps)]
    return index_of(torch.cat([b.x for b in batches])), torch.cat([b.y for b in batches]).tolist()


def index_of(x: Tensor) -> list[int]:
    levels = ((x.double() + 1) * 127.5).round().long().reshape(len(x), 2)
    return (levels[:, 0] * 256 + levels[:, 1]).tolist()


def test_balanced_rows_are_as_often_of_each_class(dataset: Dataset, splits: Splits) -> None:
    source = Batches(dataset, splits, SIZES, seed=0, balance=True)
    indices, labels = rows_of(source, "labelled", 90)
    for start in range(0, len(labels), 3):  # rounds of one of each, over the ends of batches
        assert sorted(labels[start : start + 3]) == [0, 1, 2]
    rounds = {tuple(labels[start : start + 3]) for start in range(0, len(labels), 3)}
    assert len(rounds) == 6  # the classes in every order
    assert set(indices) <= {*splits.labelled}
    assert [dataset.labels[i] for i in indices] == labels
    for label in range(3):
        seen = np.array([i for i in indices if dataset.labels[i] == label])
        own = splits.labelled[dataset.labels[splits.labelled] == label]
        counts = np.array([(seen == i).sum() for i in own])
        assert counts.sum() == 210
        assert counts.max() - counts.min() <= 1  # epochs of each class


def test_balance_leaves_the_other_parts_alone(dataset: Dataset, splits: Splits) -> None:
    plain = Batches(dataset, splits, SIZES, seed=0)
    balanced = Batches(dataset, splits, SIZES, seed=0, balance=True)
    for part in ("unlabelled", "all"):
        assert rows_of(plain, part, 30) == rows_of(balanced, part, 30)


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5, 0.77])
@pytest.mark.parametrize("size", [1, 10, 64])
def test_a_share_of_the_rows_is_labelled(
    share: float, size: int, dataset: Dataset, splits: Splits
) -> None:
    source = Batches(dataset, splits, {"all": size}, seed=0, labelled_share=share)
    steps = -(-2000 // size)
    indices, labels = rows_of(source, "all", steps)
    shown = np.array(labels) >= 0
    so_far = np.cumsum(shown)
    assert np.abs(so_far - share * np.arange(1, len(shown) + 1)).max() < 1 + 1e-2
    labelled = set(splits.labelled.tolist())
    assert [i in labelled for i in indices] == shown.tolist()
    for kind, members in ((shown, splits.labelled), (~shown, splits.indices("unlabelled"))):
        seen = np.array(indices)[kind]
        counts = np.array([(seen == i).sum() for i in members])
        assert counts.max() - counts.min() <= 1  # epochs of each kind


@pytest.mark.parametrize(("share", "part"), [(0.0, "unlabelled"), (1.0, "labelled")])
def test_the_ends_of_the_range(share: float, part: Part, dataset: Dataset, splits: Splits) -> None:
    source = Batches(dataset, splits, {"all": 50}, seed=0, labelled_share=share)
    assert {*rows_of(source, "all", 10)[0]} == {*splits.indices(part)}


def test_both_together(dataset: Dataset, splits: Splits) -> None:
    source = Batches(dataset, splits, {"all": 12}, 0, balance=True, labelled_share=0.25)
    _, labels = rows_of(source, "all", 20)
    assert [labels.count(label) for label in (-1, 0, 1, 2)] == [180, 20, 20, 20]


SETTINGS = [(False, None), (True, None), (False, 0.3), (True, 0.3)]


@pytest.mark.parametrize(("balance", "share"), SETTINGS)
@pytest.mark.parametrize("world", [2, 3])
def test_rows_of_all_processes_are_the_batch_of_one(
    world: int, balance: bool, share: float | None, dataset: Dataset, splits: Splits
) -> None:
    beliefs = torch.rand(len(dataset), 3, generator=torch.Generator().manual_seed(0))
    mixed = {"balance": balance, "labelled_share": share, "beliefs": beliefs}
    whole = {part: world * n for part, n in SIZES.items()}
    alone = Batches(dataset, splits, whole, 3, **mixed)
    together = [Batches(dataset, splits, SIZES, 3, rank, world, **mixed) for rank in range(world)]
    for step in np.random.default_rng(0).permutation(40).tolist():  # resumed anywhere
        shares = [source.at(step) for source in together]
        for part, batch in alone.at(step).items():
            for key in ("x", "y", "q"):
                joined = torch.cat([getattr(one[part], key) for one in shares])
                assert torch.equal(joined, getattr(batch, key))
            assert torch.equal(batch.q, beliefs[index_of(batch.x)])


def test_half_of_the_images_are_mirrored_by_a_coin_of_the_step(
    dataset: Dataset, splits: Splits
) -> None:
    """The others stay as they are, and processes toss the coins of one."""
    sides = torch.arange(8.0).expand(len(dataset), 1, 4, 8)

    class Sided:
        def __len__(self) -> int:
            return len(dataset)

        def __getattr__(self, name: str) -> Any:
            return getattr(dataset, name)

        def examples(self, indices: np.ndarray) -> torch.Tensor:
            return sides[indices].clone()

    given: Any = Sided()
    source = Batches(given, splits, {"all": 12}, 3, flip=True)
    parts = [Batches(given, splits, {"all": 4}, 3, rank, 3, flip=True) for rank in range(3)]
    heads = []
    for step in range(100):
        x = source.at(step)["all"].x
        assert torch.equal(torch.cat([part.at(step)["all"].x for part in parts]), x)
        mirrored = x[:, 0, 0, 0] == 7
        expected = torch.where(mirrored[:, None, None, None], sides[:12].flip(-1), sides[:12])
        assert torch.equal(x, expected)
        heads.append(mirrored)
    shares = torch.stack(heads).double()
    assert abs(float(shares.mean()) - 0.5) < 4 * 0.5 / 1200**0.5
    assert len(torch.stack(heads).unique(dim=0)) > 90


@pytest.mark.parametrize(("balance", "share"), SETTINGS)
def test_another_seed_is_another_order(
    balance: bool, share: float | None, dataset: Dataset, splits: Splits
) -> None:
    mixed = {"balance": balance, "labelled_share": share}
    one, other = (Batches(dataset, splits, SIZES, seed, **mixed) for seed in (0, 1))
    for part in SIZES:
        assert rows_of(one, part, 5) != rows_of(other, part, 5)


def test_a_share_without_other_examples_is_refused(
    make_dataset: MakeDataset, refuses: Refuses
) -> None:
    dataset = make_dataset((9, 9), validation=0.0)
    splits = draw_splits(dataset, "all", 0)
    with refuses("show their label", "labelled_share", "fewer labels"):
        Batches(dataset, splits, {"all": 4}, seed=0, labelled_share=0.5)
    Batches(dataset, splits, {"all": 4}, seed=0, labelled_share=1.0)
