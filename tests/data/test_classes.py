"""What a source says of labels, in every source that docs/your-own-folder.md names."""

import unicodedata
from pathlib import Path

import datasets
import label_sources as sources
import numpy as np
import pytest
from data_cases import Refuses
from label_sources import LISTS, SOURCES, classes_of

from fewlabel.data import open_dataset
from fewlabel.data.classes import index_of, known_labels, position_of, says_none, signed
from fewlabel.errors import UserError

ALL = pytest.mark.parametrize("source", SOURCES)
OF_LISTS = pytest.mark.parametrize("source", LISTS)
IN_ONE_WORD = [name for name in SOURCES if name != "class_folders"]


@pytest.fixture(autouse=True)
def library_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own cache is not that of the user, and the hub is out of reach."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("sign", ["-1", "nan", "NA", "None", "null", "unlabeled", "Unlabelled"])
@pytest.mark.parametrize("source", ["labels_csv", "hf_texts", "npz_vectors"])
def test_every_sign_says_that_there_is_no_label(source: str, sign: str, tmp_path: Path) -> None:
    said = ["wren", sign, "heron", sign, sign, "wren"]
    dataset = SOURCES[source](tmp_path, said, ())
    assert classes_of(dataset) == ["wren", None, "heron", None, None, "wren"]
    assert {*dataset.class_names} == {"wren", "heron"}
    assert dataset.notes == (f"3 rows say {sign}: unlabelled",)


@pytest.mark.parametrize("source", IN_ONE_WORD)
def test_the_sign_for_no_label_is_no_class(source: str, tmp_path: Path) -> None:
    said = ["wren", "unlabeled", "heron", "unlabeled", "wren"]
    dataset = SOURCES[source](tmp_path, said, ())
    assert classes_of(dataset) == ["wren", None, "heron", None, "wren"]
    assert "2 rows say unlabeled: unlabelled" in dataset.notes


def test_a_folder_of_images_without_a_label_needs_no_note(tmp_path: Path) -> None:
    said = ["wren", "unlabeled", "heron", "Unlabelled"]
    dataset = sources.class_folders(tmp_path, said, ())
    assert classes_of(dataset) == ["wren", None, "heron", None]
    assert dataset.notes == ()


@pytest.mark.parametrize("name", ["nan", "None", "-1", "NA", "null"])
def test_a_class_folder_that_is_called_so_is_asked_for(
    name: str, tmp_path: Path, refuses: Refuses
) -> None:
    with refuses(f"data/{name}", "rename it to unlabeled/", "if it is a class"):
        sources.class_folders(tmp_path, ["wren", name, "heron"], ())


def test_what_is_missing_is_no_class(tmp_path: Path) -> None:
    for i, said in enumerate((["a", "", "b", None], ["a", None, "b", " "])):
        (tmp_path / str(i)).mkdir()
        dataset = sources.hf_texts(tmp_path / str(i), said)
        assert classes_of(dataset) == ["a", None, "b", None]
        assert dataset.notes == ()
    (tmp_path / "f").mkdir()
    dataset = sources.hf_floats(tmp_path / "f", [2.0, float("nan"), 10.0, None, 0.0])
    assert classes_of(dataset) == ["2", None, "10", None, "0"]
    assert dataset.class_names == ("0", "2", "10")
    assert dataset.notes == ("1 row says nan: unlabelled",)


@ALL
def test_numbers_are_in_the_order_of_numbers(source: str, tmp_path: Path) -> None:
    said = ["10", "1", "2", "11", "1"]
    dataset = SOURCES[source](tmp_path, said, ())
    assert dataset.class_names == ("1", "2", "10", "11")
    assert classes_of(dataset) == said
    positions = [index_of(int(text), dataset.class_names) for text in said]
    assert positions == [(2, False), (0, False), (1, False), (3, False), (0, False)]


@ALL
def test_whole_numbers_are_written_whole(source: str, tmp_path: Path) -> None:
    """As a column of whole numbers with gaps is written."""
    dataset = SOURCES[source](tmp_path, ["10.0", "2.0", "0.0"], ())
    assert dataset.class_names == ("0", "2", "10")
    assert classes_of(dataset) == ["10", "2", "0"]


@ALL
@pytest.mark.parametrize(
    ("said", "found"),
    [
        (["-0.0", "0.0", "2.0", "+1"], ["0", "0", "2", "1"]),
        (["1", "1.0", "1.5", "2"], ["1", "1", "1.5", "2"]),
        (["1.0", "other", "1", "other"], ["1", "other", "1", "other"]),
    ],
)
def test_two_ways_to_write_a_number_are_one_class(
    source: str, said: list[str], found: list[str], tmp_path: Path
) -> None:
    """A sign that changes nothing; 1 and 1.0 beside names that are no whole numbers."""
    assert classes_of(SOURCES[source](tmp_path, said, ())) == found


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("01", "1"), "01 and 1"),
        (("heron", "heron\u200b"), r"heron and heron\u200b"),
        (("great tit", "great\u00a0tit"), r"great tit and great\xa0tit"),
    ],
)
def test_names_that_look_alike_are_noted(names: tuple[str, str], told: str) -> None:
    known = known_labels(np.array([0, 1, 2]), [*names, "emu"], "here")
    assert {*known.class_names} == {*names, "emu"}
    assert known.notes == (
        f"classes that look alike: {told}; write them alike if they are the same",
    )


def test_versions_are_not_cut(tmp_path: Path) -> None:
    dataset = sources.class_folders(tmp_path, ["2.0", "1.5", "10.0"], ())
    assert dataset.class_names == ("1.5", "2.0", "10.0")


@OF_LISTS
def test_a_list_of_other_names_keeps_its_order(source: str, tmp_path: Path) -> None:
    dataset = LISTS[source](tmp_path, ["wren", "heron", "emu", "wren"], ())
    assert dataset.class_names == ("wren", "heron", "emu")


@OF_LISTS
def test_a_class_that_no_example_has_is_left_out(source: str, tmp_path: Path) -> None:
    more = [f"other {i}" for i in range(7)]
    dataset = LISTS[source](tmp_path, ["wren", "heron", "emu"], more)
    assert dataset.class_names == ("wren", "heron", "emu")
    total = {"cifar100": 100}.get(source, 10)
    shown = "other 0, other 1, other 2, …"
    said = f"{total - 3} of {total} classes have no example and are left out: {shown}"
    assert dataset.notes == (said,)


def write_integers(source: str, folder: Path, labels: np.ndarray) -> str:
    """Labels without names."""
    if source == "mnist":
        sources.write_idx(folder, sources.pixels(len(labels))[..., 0], labels)
        return f"mnist:{folder}"
    if source == "cifar10":
        sources.write_cifar10(folder, labels)
        return f"cifar10:{folder}"
    if source == "hf_saved":
        sources.hf_integers(folder, labels.tolist(), str(labels.dtype))
        return f"hf:{folder / 'saved'}"
    kind = "images" if source == "npz_images" else "vectors"
    values = sources.pixels(len(labels)) if kind == "images" else 5.0 * np.arange(len(labels))
    np.savez(folder / "data.npz", labels=labels, **{kind: values.reshape(len(labels), -1) if
             kind == "vectors" else values})  # fmt: skip
    return str(folder / "data.npz")


INTEGERS = pytest.mark.parametrize("source", ["npz_images", "npz_vectors", "mnist", "hf_saved"])


@INTEGERS
def test_labels_from_one_up(source: str, tmp_path: Path) -> None:
    labels = np.array([3, 1, 2, 1, 3], np.uint8)
    dataset = open_dataset(write_integers(source, tmp_path, labels))
    assert dataset.class_names == ("1", "2", "3")
    assert classes_of(dataset) == ["3", "1", "2", "1", "3"]
    assert dataset.notes == ("1 of 4 classes has no example and is left out: 0",)


@pytest.mark.parametrize("source", ["npz_images", "npz_vectors", "mnist", "cifar10", "hf_saved"])
def test_minus_one_without_its_sign(source: str, tmp_path: Path) -> None:
    labels = np.array([255, 1, 0, 255, 1, 255], np.uint8)
    dataset = open_dataset(write_integers(source, tmp_path, labels))
    names = {"cifar10": ("airplane", "automobile")}.get(source, ("0", "1"))
    assert dataset.class_names == names
    assert classes_of(dataset) == [None, names[1], names[0], None, names[1], None]
    assert dataset.notes[0] == "3 rows say 255, which is -1 without its sign: unlabelled"


@INTEGERS
def test_the_255th_of_many_classes_is_a_class(source: str, tmp_path: Path) -> None:
    labels = np.array([255, 254, 0, 255], np.uint8)
    dataset = open_dataset(write_integers(source, tmp_path, labels))
    assert classes_of(dataset) == ["255", "254", "0", "255"]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64"])
def test_any_kind_without_a_sign(kind: str) -> None:
    stored = np.array([-1, 0, 7, -1]).astype(kind)
    assert signed(stored).tolist() == [-1, 0, 7, -1]
    assert signed(np.array([-1, 0, 7], np.int16)).tolist() == [-1, 0, 7]


def test_far_integers_take_no_room(tmp_path: Path, refuses: Refuses) -> None:
    labels = np.array([10**9, 2**62, 0, -1])
    dataset = open_dataset(write_integers("npz_vectors", tmp_path, labels))
    assert dataset.class_names == ("0", "1000000000", str(2**62))
    assert dataset.notes[0] == "1 row says -1: unlabelled"
    huge = np.array([2**63 + 5, 0, 1], np.uint64)
    with refuses(str(2**63 + 5), "too large"):
        open_dataset(write_integers("npz_vectors", tmp_path, huge))


@pytest.mark.parametrize("source", ["npz_images", "mnist"])
def test_names_for_the_labels_from_one_up(source: str, tmp_path: Path) -> None:
    labels, names = np.array([2, 1, 3, 1], np.uint8), ["ay", "bee", "cee"]
    data = write_integers(source, tmp_path, labels)
    (tmp_path / "class_names.txt").write_text("\n".join(names))
    if source == "npz_images":
        images = sources.pixels(4)
        np.savez(tmp_path / "data.npz", images=images, labels=labels, class_names=names)
    dataset = open_dataset(data)
    assert classes_of(dataset) == ["bee", "ay", "cee", "ay"]
    assert dataset.notes == ("the 3 names are those of the labels 1 to 3",)


COMPOSED, APART = "héron", unicodedata.normalize("NFD", "héron")


@ALL
def test_names_are_composed_and_trimmed(source: str, tmp_path: Path) -> None:
    dataset = SOURCES[source](tmp_path, [APART, " emu ", APART], ())
    assert {*dataset.class_names} == {COMPOSED, "emu"}
    assert classes_of(dataset) == [COMPOSED, "emu", COMPOSED]
    assert position_of(f" {APART}", dataset.class_names) == dataset.class_names.index(COMPOSED)
    assert position_of(COMPOSED, (APART,)) == 0


@ALL
def test_two_spellings_are_one_class(source: str, tmp_path: Path) -> None:
    dataset = SOURCES[source](tmp_path, [APART, "emu", COMPOSED], ())
    assert {*dataset.class_names} == {COMPOSED, "emu"}
    assert classes_of(dataset) == [COMPOSED, "emu", COMPOSED]


@ALL
def test_names_that_differ_by_case_are_noted(source: str, tmp_path: Path) -> None:
    dataset = SOURCES[source](tmp_path, ["Heron", "emu", "heron"], ())
    assert {*dataset.class_names} == {"Heron", "emu", "heron"}
    assert "classes that differ only by case: Heron and heron" in dataset.notes[-1]


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\x85", "\u2028"])
@pytest.mark.parametrize(
    "source", [n for n in SOURCES if n not in ("mnist", "cifar10", "cifar100")]
)
def test_a_control_character_is_refused(
    source: str, letter: str, tmp_path: Path, refuses: Refuses
) -> None:
    with refuses(ascii(f"he{letter}ron")[1:-1], "control character", "rename it"):
        SOURCES[source](tmp_path, ["emu", f"he{letter}ron"], ())


@pytest.mark.parametrize("source", ["mnist", "cifar10", "cifar100"])
def test_a_control_character_in_a_list_of_lines_is_refused(
    source: str, tmp_path: Path, refuses: Refuses
) -> None:
    with refuses(r"he\x1bron", "control character", "rename it"):
        SOURCES[source](tmp_path, ["emu", "he\x1bron"], ())


def test_half_of_a_letter_is_refused(refuses: Refuses) -> None:
    with refuses("here", r"a\ud800", "not UTF-8", "rename it"):
        known_labels(np.array([0]), ["a\ud800"], "here")


@pytest.mark.parametrize(
    ("asked", "names", "found"),
    [
        ("0", ("1", "2", "12"), None),
        (0, ("1", "2", "12"), None),
        ("12", ("1", "2", "12"), (2, False)),
        ("2.0", ("1", "2", "12"), (1, False)),
        (2, ("1.0", "2.0"), (1, False)),
        (np.int64(2), ("1", "2"), (1, False)),
        ("1", ("emu", "heron"), (1, True)),
        (1, ("emu", "heron"), (1, True)),
        (2, ("emu", "heron"), None),
        (-1, ("emu", "heron"), None),
        (1.5, ("emu", "heron"), None),
        ("Heron", ("emu", "heron"), None),
        ("1", ("emu", "1"), (1, False)),
        ("3", ("02", "03"), (1, False)),
        ("1", ("01", "1"), (1, False)),
        ("1.0", ("01", "001"), None),
        (0, ("emu", "1"), (0, True)),
    ],
)
def test_a_class_is_asked_for(
    asked: str | int, names: tuple[str, ...], found: tuple[int, bool] | None
) -> None:
    assert index_of(asked, names) == found


def test_what_says_none_and_what_does_not() -> None:
    signs = ["", " ", "-1", "-1.0", "−1", "NaN", "n/a", "NA", "#N/A", "<NA>", "None", "NULL"]
    signs += ["-1,0", "–1", "－1", "-nan", "#NA", "unlabeled", "Unlabelled "]
    assert all(map(says_none, signs))
    assert not any(map(says_none, ["0", "1", "-2", "-10", "no", "unknown", "other", "nana"]))


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    arrays = {"labels": np.array([0, 1]), "class_names": np.array(["a", "a"])}
    np.savez(tmp_path / "a.npz", vectors=np.eye(2), **arrays)
    with pytest.raises(UserError, match=r"two of the names are alike \(a\)"):
        open_dataset(tmp_path / "a.npz")
