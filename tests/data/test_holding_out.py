"""Nothing changes sides: what is held out goes by what the examples hold."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeDataset, Refuses

from fewlabel.data import Dataset, Splits, draw_splits
from fewlabel.data.dataset import contents_of
from fewlabel.data.holding_out import TEST, TRAIN, VALIDATION, hold_out


def by_content(dataset: Dataset, sides: np.ndarray) -> dict[int, int]:
    return dict(zip(dataset.contents.tolist(), sides.tolist(), strict=True))


def chosen(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return replace(
        dataset,
        values=dataset.values[rows],
        labels=dataset.labels[rows],
        contents=dataset.contents[rows],
        files=None,
    )


def test_the_place_of_an_example_is_the_hash_of_its_values(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((400, 400), unlabelled=400, validation=0.1, test=0.15)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in dataset.values]
    place = np.array([int.from_bytes(digest, "little") for digest in digests]) / 2.0**64
    wanted = np.where(place < 0.15, TEST, np.where(place < 0.25, VALIDATION, TRAIN))
    np.testing.assert_array_equal(hold_out(dataset), wanted)
    for side, share in ((TEST, 0.15), (VALIDATION, 0.1)):
        assert abs((wanted == side).mean() - share) < 4 * np.sqrt(share * (1 - share) / 1200)


def test_labels_order_and_other_files_move_nothing(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((60, 60), unlabelled=200, test=0.1)
    before, random = by_content(dataset, hold_out(dataset)), np.random.default_rng(1)
    labels = random.integers(-1, 2, len(dataset))
    assert by_content(dataset, hold_out(replace(dataset, labels=labels))) == before
    fewer = chosen(dataset, random.permutation(len(dataset))[:250])
    assert by_content(fewer, hold_out(fewer)).items() <= before.items()


def test_copies_of_an_image_are_on_one_side(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((9, 9), unlabelled=100)
    twice = chosen(dataset, np.tile(np.arange(len(dataset)), 2))
    twice = replace(twice, labels=np.where(np.arange(len(twice)) < len(dataset), twice.labels, -1))
    sides = hold_out(twice)
    np.testing.assert_array_equal(sides[: len(dataset)], sides[len(dataset) :])
    assert (sides[twice.labels >= 0] == VALIDATION).sum() >= 4


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_a_class_whose_examples_all_have_held_out_places_trains(
    n: int, make_dataset: MakeDataset
) -> None:
    dataset = make_dataset((200, 200))
    low = np.flatnonzero(dataset.contents < 0.1 * 2.0**64)[:n]
    labels = np.zeros(len(dataset), np.int64)
    labels[low] = 1
    sides = hold_out(replace(dataset, labels=labels))[low]
    assert (sides == TRAIN).sum() == (n if n < 3 else 1)


def test_what_another_split_settled_stays(make_dataset: MakeDataset) -> None:
    """Six labels a class are added; the class of eight had two held out that it need not have."""
    dataset = make_dataset((8, 8), unlabelled=300)
    first = draw_splits(dataset, "all", 0)
    free = np.flatnonzero(dataset.labels < 0)
    labels = dataset.labels.copy()
    labels[free[:6]], labels[free[6:12]] = 0, 1
    more = replace(dataset, labels=labels, fingerprint="relabelled")
    second = draw_splits(more, "all", 0, before=first)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(second, part), getattr(first, part))
    assert len(second.labelled) > len(first.labelled)
    assert not len(second.leaked(first))


def test_what_trained_before_and_is_held_out_now_is_named(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((40, 40), unlabelled=40)
    first = draw_splits(dataset, "all", 0)
    own = np.sort(first.train[:7])
    second = draw_splits(replace(dataset, test=own, fingerprint="parts"), "all", 0, before=first)
    np.testing.assert_array_equal(second.leaked(first), own)
    np.testing.assert_array_equal(first.leaked(second), [])


def test_what_a_score_model_saw_trains_after_its_file_was_away(make_dataset: MakeDataset) -> None:
    """A third turn takes the score model from the run of the second, whose data lacked files."""
    dataset = make_dataset((7, 7), unlabelled=60)
    first = draw_splits(dataset, "all", 0)
    away = np.flatnonzero(dataset.labels == 0)[:6]
    second = draw_splits(chosen(dataset, np.setdiff1d(range(74), away)), "all", 0, before=first)
    second = Splits.from_json(json.loads(json.dumps(second.to_json())))
    labels = np.where(np.arange(74) == away[0], 1, dataset.labels)
    for now in (dataset, replace(dataset, labels=labels)):
        third = draw_splits(now, "all", 0, before=second)
        np.testing.assert_array_equal(third.train, first.train)
        np.testing.assert_array_equal(third.validation, first.validation)
    assert not len(draw_splits(dataset, "all", 0, before=first).absent)


def test_a_manifest_follows_its_data(make_dataset: MakeDataset, refuses: Refuses) -> None:
    dataset = make_dataset((40, 40), unlabelled=40, test=0.1)
    splits = draw_splits(dataset, "4/class", 2)
    rows = np.random.default_rng(2).permutation(len(dataset))[3:]
    now = replace(chosen(dataset, rows), fingerprint="fewer")
    followed = splits.onto(now, "run r")
    for part in ("train", "validation", "test", "labelled"):
        before = set(dataset.contents[getattr(splits, part)].tolist())
        kept = now.contents[getattr(followed, part)]
        assert set(kept.tolist()) == before & set(now.contents.tolist())
    new = contents_of(np.arange(5)[:, None])
    more = replace(
        dataset,
        values=np.concatenate([dataset.values, dataset.values[:5]]),
        labels=np.append(dataset.labels, [0] * 5),
        contents=np.append(dataset.contents, new),
        files=None,
        fingerprint="more",
    )
    with_more = splits.onto(more, "run r")
    sides = (with_more.train, with_more.validation, with_more.test)
    assert max(map(max, sides)) < len(dataset)
    assert "5 are new" in splits.changes(more)
    assert "3 of its 120 examples are gone" in splits.changes(now)
    copied = chosen(dataset, np.append(np.arange(120), 7))
    assert "there are 121 examples and were 120" in splits.changes(copied)
    with refuses("run r was made from another dataset", "c, d"):
        splits.onto(replace(now, class_names=("c", "d")), "run r")
    with refuses("run r was made from another dataset", "gone"):
        splits.onto(chosen(now, np.arange(20)), "run r")


def test_a_csv_never_makes_the_own_test_part_train(
    make_dataset: MakeDataset, tmp_path: Path, refuses: Refuses
) -> None:
    dataset = replace(make_dataset((20, 20)), test=np.arange(5), validation_fraction=0.0)
    (tmp_path / "l.csv").write_text("file\n" + "".join(f"{i}.png\n" for i in range(3, 30)))
    with refuses("l.csv lists 2 examples of the test part of numbers, such as 3.png"):
        draw_splits(dataset, str(tmp_path / "l.csv"), 0)
