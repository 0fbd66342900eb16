import os
import random
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import Dataset, draw_splits, open_folder
from fewlabel.data.listing import Names


def numbered(n: int) -> dict[str, Image.Image | bytes]:
    """n images, each of the grey level that its name says."""
    return {f"{i:03d}.png": Image.new("L", (4, 4), i) for i in range(n)}


def opened(root: Path, *rows: str) -> Dataset:
    (root / "labels.csv").write_text("\n".join(("file,label", *rows)), encoding="utf-8-sig")
    return open_folder(root)


def known(dataset: Dataset) -> dict[int, str]:
    """The class of each labelled image, by its grey level."""
    levels = dataset.values[:, 0, 0, 0].tolist()
    pairs = zip(levels, dataset.labels.tolist(), strict=True)
    return {level: dataset.class_names[label] for level, label in pairs if label >= 0}


def test_labels_go_to_the_files_that_are_named(make_folder: MakeFolder) -> None:
    root = make_folder(numbered(30))
    rows = {i: ["wren", "tit", "emu"][i % 3] for i in range(0, 30, 2)}
    lines = [f"{i:03d}.png,{name}" for i, name in rows.items()]
    random.Random(0).shuffle(lines)
    dataset = opened(root, *lines)
    assert dataset.class_names == ("emu", "tit", "wren")
    assert len(dataset) == 30
    assert known(dataset) == rows
    assert {*draw_splits(dataset, "all", 0).indices("unlabelled")} <= {*range(1, 30, 2)}


def test_other_columns_blank_labels_and_sub_folders(make_folder: MakeFolder) -> None:
    root = make_folder({f"images/{name}": image for name, image in numbered(6).items()})
    (root / "labels.csv").write_text(
        "by,label,file\nme,b,images/001.png\nme,,images/002.png\n\nyou,a,images/005.png\n"
    )
    assert known(open_folder(root)) == {1: "b", 5: "a"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_as_spreadsheets_and_other_systems_write_it(
    make_folder: MakeFolder, delimiter: str
) -> None:
    """Semicolons or tabs, Windows' line ends and paths, decomposed letters, a row of nothing."""
    names = ["a/ü 1.png", "a/2.png", "3.png"]
    root = make_folder({name: Image.new("L", (4, 4), i) for i, name in enumerate(names)})
    rows = [("file", " label "), ("a\\u\u0308 1.png", "héron, gris"), ("./3.png", "b"), ("", "")]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (root / "labels.csv").write_bytes(text.encode("utf-8-sig"))
    assert known(open_folder(root)) == {0: "héron, gris", 2: "b"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["000.png,grey, small", "001.png,b"], "line 2: more fields than the first line has"),
        (["000.png,a", "./000.png,b"], "line 3: ./000.png is listed a second time"),
        (
            ["000.png,a", "7.png,b", "8.png,b"],
            "line 3: there is no image '7.png' in pets, nor for 1",
        ),
        (
            ["000.png,a", "IMG.heic,b"],
            "line 3: IMG.heic is of no kind that is read (bmp, gif, jfif",
        ),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(
    make_folder: MakeFolder, refuses: Refuses, rows: list[str], says: str
) -> None:
    root = make_folder({**numbered(3), "IMG.heic": b"apple"})
    with refuses("labels.csv", says.replace("pets", str(root))):
        opened(root, *rows)


def test_a_table_without_a_column_is_told_its_own_first_line(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder(numbered(3))
    (root / "labels.csv").write_text("Datei;Art\n000.png;a\n")
    with refuses("has no column 'file'", "its first line is 'Datei;Art'"):
        open_folder(root)


def test_files_that_are_not_read_are_counted(make_folder: MakeFolder) -> None:
    others = dict.fromkeys(["a.HEIC", "b.heic", "in/notes", ".hidden.txt"], b"")
    root = make_folder({**numbered(3), **others})
    assert opened(root, "000.png,a", "001.png,b").unread == {".heic": 2, "": 1}


def test_a_table_that_lost_the_zeros_in_front_means_the_class_folders(
    make_folder: MakeFolder,
) -> None:
    """As spreadsheets write 03 and 3.0."""
    names = ["02/0.png", "03/1.png", "03/2.png", "unlabeled/3.png", "unlabeled/4.png"]
    root = make_folder({name: Image.new("L", (4, 4), i) for i, name in enumerate(names)})
    dataset = opened(root, "03/1.png,3", "unlabeled/3.png,3.0")
    assert dataset.class_names == ("02", "03")
    assert known(dataset) == {0: "02", 1: "03", 2: "03", 3: "03"}


def test_classes_called_by_numbers_are_in_their_order(make_folder: MakeFolder) -> None:
    dataset = opened(make_folder(numbered(12)), *(f"{i:03d}.png,{11 - i}" for i in range(12)))
    assert dataset.class_names == tuple(map(str, range(12)))
    np.testing.assert_array_equal(dataset.labels, np.arange(12)[::-1])


def test_a_changed_label_is_another_dataset_of_the_same_pixels(
    make_folder: MakeFolder, cache: Path
) -> None:
    root = make_folder(numbered(6))
    first = opened(root, "000.png,a", "001.png,b")
    other = opened(root, "000.png,b", "001.png,a")
    assert first.fingerprint != other.fingerprint
    assert opened(root, "001.png,b", "000.png,a").fingerprint == first.fingerprint
    assert len([*cache.glob("*.npy")]) == 1


def test_a_broken_image_takes_its_label_along(make_folder: MakeFolder) -> None:
    files = {**numbered(6), "003.png": b""}
    dataset = opened(make_folder(files), *(f"{i:03d}.png,{'ab'[i % 2]}" for i in range(6)))
    assert dataset.skipped == ("003.png",)
    assert known(dataset) == {0: "a", 1: "b", 2: "a", 4: "a", 5: "b"}


def test_the_names_are_those_of_any_file(tmp_path: Path) -> None:
    odd = ["a.png", "", "ü.png", "日本.png", os.fsdecode(b"\xff.png"), "b.png"]
    names = Names(odd)
    assert [*names] == odd
    assert names == Names(odd) == tuple(odd)
    assert names != Names([*odd[:-1], "c.png"])
    assert Names(["ab", "c"]) != Names(["a", "bc"])
    assert Names(["ab", "c"]).digest() != Names(["a", "bc"]).digest()
    assert (names[-1], [*names[1:3]], [*names.chosen([4, 0])]) == (
        odd[-1],
        odd[1:3],
        [odd[4], odd[0]],
    )
    with pytest.raises(IndexError):
        names[6]


def test_a_table_of_another_encoding_is_refused(make_folder: MakeFolder, refuses: Refuses) -> None:
    root = make_folder(numbered(3))
    (root / "labels.csv").write_bytes(b"file,label\n000.png,\xe4\n")
    with refuses("labels.csv is no CSV", "UTF-8"):
        open_folder(root)
