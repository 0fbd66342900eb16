import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeDataset, Refuses

from fewlabel.data import Dataset, Splits, draw_splits, load_digits

FRACTIONS = [f"{percent / 100:.2f}" for percent in range(1, 101)]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


def per_class(dataset: Dataset, indices: tuple[int, ...]) -> list[int]:
    labels = dataset.labels[list(indices)]
    return [int((labels == label).sum()) for label in range(dataset.n_classes)]


def assert_partition(splits: Splits, n: int) -> None:
    assert sorted([*splits.train, *splits.validation, *splits.test]) == list(range(n))
    assert set(splits.labelled) <= set(splits.train)


def test_held_out_examples_are_stratified_and_the_same_for_every_draw(digits: Dataset) -> None:
    splits = [draw_splits(digits, labels, s) for s in (0, 1) for labels in ("0.05", "2/class")]
    held = [(s.train.tolist(), s.validation.tolist(), s.test.tolist()) for s in splits]
    assert all(parts == held[0] for parts in held)
    assert len({tuple(s.labelled) for s in splits}) == 4
    assert_partition(splits[0], len(digits))
    totals = np.array(per_class(digits, tuple(range(len(digits)))))
    for indices, share in ((splits[0].test, 0.15), (splits[0].validation, 0.1)):
        spread = np.sqrt(totals * share * (1 - share))  # binomial: each example by its own content
        assert (np.abs(per_class(digits, indices) - share * totals) < 4 * spread).all()


@pytest.mark.parametrize("n", range(1, 13))
def test_small_classes_keep_something_to_train_on(n: int, make_dataset: MakeDataset) -> None:
    dataset = make_dataset((n, 30), unlabelled=40)
    splits = draw_splits(dataset, "all", 0)
    assert_partition(splits, len(dataset))
    small, large = per_class(dataset, splits.validation)
    by_place = int((dataset.contents[dataset.labels == 0] < 0.1 * 2.0**64).sum())
    assert small == (0 if n < 3 else min(max(by_place, 1 if n < 8 else 2), n - 1))
    assert large >= 2
    assert not len(splits.test)


def test_large_shares_never_take_the_last_example(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((3, 4, 5, 6), validation=0.5, test=0.45)
    splits = draw_splits(dataset, "1/class", 0)
    assert min(per_class(dataset, splits.train)) >= 1
    assert_partition(splits, len(dataset))


def test_every_fraction_has_its_exact_size_and_is_stratified(digits: Dataset) -> None:
    train = np.array(per_class(digits, draw_splits(digits, "all", 0).labelled))
    for text in FRACTIONS:
        drawn = np.array(per_class(digits, draw_splits(digits, text, 3).labelled))
        exact_total = (int(text.replace(".", "")) * int(train.sum()) * 2 + 100) // 200
        assert drawn.sum() == max(exact_total, 10)
        assert np.abs(drawn - float(text) * train).max() < 1
    assert (drawn == train).all()


@pytest.mark.parametrize("counts", [(600, 20, 20, 20), (200, 50, 7, 3), (40, 41, 43, 47, 53)])
def test_unequal_classes_are_rounded_shares_of_one_fraction(
    counts: tuple[int, ...], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(counts, validation=0.0)
    for text in FRACTIONS:
        drawn = np.array(per_class(dataset, draw_splits(dataset, text, 0).labelled))
        # some share, the same for all, rounds to each count; a count of 1 may be the minimum
        highest = ((drawn + 0.5) / counts).min()
        lowest = np.where(drawn > 1, (drawn - 0.5) / counts, 0).max()
        assert lowest <= highest + 1e-12


def test_a_half_is_rounded_up_exactly(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((25, 25), validation=0.0)
    assert 0.29 * 50 < 14.5  # in floating point; the fraction that was typed gives 14.5
    for text, count in {"0.29": 15, "0.05": 3, "0.28": 14, "1": 50, "1.0": 50}.items():
        assert len(draw_splits(dataset, text, 0).labelled) == count


@pytest.mark.parametrize("counts", [(6, 6, 2), (200, 50, 7, 3), (40, 41, 43, 47, 53)])
def test_a_larger_draw_contains_the_smaller(
    counts: tuple[int, ...], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(counts, unlabelled=20, validation=0.0)
    for specs in (FRACTIONS, [f"{n}/class" for n in range(1, min(counts) + 1)] + ["all"]):
        draws = [set(draw_splits(dataset, spec, 5).labelled) for spec in specs]
        assert all(small <= large for small, large in pairwise(draws))
        assert draws[0] < draws[-1]
        assert draws[-1] == set(np.flatnonzero(dataset.labels >= 0))


def test_the_rarest_class_keeps_one_label(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((1000, 1000, 2), validation=0.0)
    drawn = per_class(dataset, draw_splits(dataset, "0.01", 0).labelled)
    assert drawn[2] == 1
    assert sum(drawn) == 20


def test_a_number_per_class_is_exact(digits: Dataset) -> None:
    for spec, count in {"1/class": 1, "7/class": 7, " 4 / class": 4}.items():
        assert per_class(digits, draw_splits(digits, spec, 1).labelled) == [count] * 10


def test_a_draw_is_uniform_over_the_class(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((8, 8), validation=0.0)
    members = np.flatnonzero(dataset.labels == 0)
    counts = np.zeros(len(dataset))
    for seed in range(400):
        counts[list(draw_splits(dataset, "2/class", seed).labelled)] += 1
    expected, spread = 400 * 2 / 8, np.sqrt(400 * 0.25 * 0.75)
    assert np.abs(counts[members] - expected).max() < 4.5 * spread


def test_parts_and_visible_labels(make_dataset: MakeDataset) -> None:
    dataset = make_dataset((30, 30), unlabelled=25)
    splits = draw_splits(dataset, "0.2", 0)
    unlabelled, labelled = splits.indices("unlabelled"), splits.indices("labelled")
    assert not set(unlabelled) & set(labelled)
    assert {*unlabelled, *labelled} == set(splits.indices("all")) == set(splits.train)
    visible = splits.training_labels(dataset)
    assert set(np.flatnonzero(visible >= 0)) == set(splits.labelled)
    np.testing.assert_array_equal(visible[labelled], dataset.labels[labelled])


def test_json_round_trip_and_check(make_dataset: MakeDataset, refuses: Refuses) -> None:
    dataset = make_dataset((9, 9), unlabelled=5)
    splits = draw_splits(dataset, "0.5", 4)
    again = Splits.from_json(json.loads(json.dumps(splits.to_json())))
    assert again == splits
    again.check(dataset, "run folder runs/a")
    with refuses("run folder runs/a was made from another dataset", "numbers", "--out"):
        again.check(make_dataset((9, 9), fingerprint="other"), "run folder runs/a")
    with refuses("no split manifest", "'labelled'", "draw them again"):
        Splits.from_json({k: v for k, v in splits.to_json().items() if k != "labelled"})


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8-sig")  # as spreadsheets do
    return str(path)


def test_files_of_a_csv_are_labelled_and_train(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset((20, 20), unlabelled=20, test=0.1)
    usual = draw_splits(dataset, "all", 0)
    held = [i for i in (*usual.validation, *usual.test) if dataset.labels[i] >= 0]
    listed = [held[0], held[-1], *usual.labelled[:5]]
    names = [f"{i}.png,{dataset.class_names[dataset.labels[i]]}" for i in listed]
    splits = draw_splits(dataset, write(tmp_path / "l.CSV", "\n".join(["file,label", *names])), 0)
    assert set(splits.labelled) == set(listed)
    assert_partition(splits, len(dataset))
    assert set(splits.train) == {*usual.train, *listed}


@pytest.mark.parametrize(
    ("rows", "fragments"),
    [
        ("name\n1.png\n", ["no column 'file'", "first line"]),
        ("", ["no column 'file'"]),
        ("file\n", ["lists nothing", "add a line"]),
        ("file\n{a}\nghost.png\n", ["line 3", "'ghost.png'", "relative to the folder"]),
        ("file\n{a}\n{b}\n{a}\n", ["line 4", "{a}", "second time", "remove the line"]),
        ("file\n{u}\n", ["line 2", "{u}", "no label", "sub-folder of its class"]),
        ("label,file\nb,{a}\n", ["line 2", "{a}", "is of class a, not b", "correct"]),
        ("file\n{a}\n", ["class b without a labelled", "label at least one"]),
    ],
)
def test_a_wrong_csv_is_explained(
    rows: str,
    fragments: list[str],
    make_dataset: MakeDataset,
    tmp_path: Path,
    refuses: Refuses,
) -> None:
    dataset = make_dataset((9, 9), unlabelled=5)
    first = {"u": -1, "a": 0, "b": 1}
    names = {k: f"{np.flatnonzero(dataset.labels == v)[0]}.png" for k, v in first.items()}
    path = write(tmp_path / "labels.csv", rows.format(**names))
    with refuses(path, *(fragment.format(**names) for fragment in fragments)):
        draw_splits(dataset, path, 0)


def test_a_csv_that_cannot_be_used(
    digits: Dataset, make_dataset: MakeDataset, tmp_path: Path, refuses: Refuses
) -> None:
    with refuses("nowhere.csv cannot be read", "check the path"):
        draw_splits(make_dataset((9, 9)), str(tmp_path / "nowhere.csv"), 0)
    with refuses("digits has none", "4/class"):
        draw_splits(digits, write(tmp_path / "labels.csv", "file\n1.png"), 0)
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04\xff\xfe\x80")
    with refuses("is no CSV", "UTF-8"):
        draw_splits(make_dataset((9, 9)), str(tmp_path / "sheet.csv"), 0)


@pytest.mark.parametrize(
    "spec", ["1e99999999", "1e-99999999", "0." + "0" * 5000 + "1", "9" * 5000 + "/class"]
)
def test_a_spec_of_endless_digits_is_refused_at_once(
    spec: str, digits: Dataset, refuses: Refuses
) -> None:
    with refuses(spec[:10], "give a fraction such as 0.05"):
        draw_splits(digits, spec, 0)


@pytest.mark.parametrize("spec", ["", "many", "4/klass", "5%", "nan", "1/0"])
def test_a_spec_that_cannot_be_parsed(spec: str, digits: Dataset, refuses: Refuses) -> None:
    with refuses(f"'{spec}'", "not understood", "0.05", "4/class", "all", "CSV"):
        draw_splits(digits, spec, 0)


@pytest.mark.parametrize("spec", ["0", "-0.1", "1.01", "20"])
def test_a_fraction_out_of_range(spec: str, digits: Dataset, refuses: Refuses) -> None:
    with refuses(f"'{spec}'", "above 0 and at most 1", "4/class"):
        draw_splits(digits, spec, 0)


def test_more_labels_than_there_are(make_dataset: MakeDataset, refuses: Refuses) -> None:
    dataset = make_dataset((30, 8, 20))
    with refuses("class b of numbers has only 6", "at most 6/class"):
        draw_splits(dataset, "8/class", 0)
    assert per_class(dataset, draw_splits(dataset, "6/class", 0).labelled) == [6, 6, 6]
    with refuses("'0/class'", "0.05"):
        draw_splits(dataset, "0/class", 0)


def test_data_without_classes(make_dataset: MakeDataset, refuses: Refuses) -> None:
    with refuses("numbers has only one class, a", "add"):
        draw_splits(make_dataset((9,)), "all", 0)
    for spec in ("all", "0.5", "1/class"):
        with refuses("class b without a labelled", "label at least one"):
            draw_splits(make_dataset((9, 0), unlabelled=9), spec, 0)
