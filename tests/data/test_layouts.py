"""Folders that are no classes: parts, what tools and systems make, masks, a folder too many."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import Dataset, draw_splits, open_folder


def grey(level: int) -> Image.Image:
    image = Image.new("L", (4, 4), level)
    image.putpixel((3, 3), 255)  # or the images would be told to be dark
    return image


def numbered(*names: str) -> dict[str, Image.Image | bytes]:
    """Images, each of its place in the list as its grey level."""
    return {name: grey(level) for level, name in enumerate(names)}


def known(dataset: Dataset) -> dict[int, str | None]:
    """The class of each image, by its grey level."""
    names = (*dataset.class_names, None)
    levels = dataset.values[:, 0, 0, 0].tolist()
    return {level: names[label] for level, label in zip(levels, dataset.labels, strict=True)}


def held_out(dataset: Dataset) -> list[int]:
    """The grey levels of its own test part."""
    assert dataset.test is not None
    return sorted(dataset.values[dataset.test, 0, 0, 0].tolist())


def test_train_val_and_test_are_parts_and_test_never_trains(make_folder: MakeFolder) -> None:
    dataset = open_folder(
        make_folder(
            numbered(
                *(
                    "Train/cat/0.png",
                    "Train/cat/1.png",
                    "Train/dog/2.png",
                    "Train/unlabeled/3.png",
                ),
                *("valid/cat/4.png", "valid/eel/5.png"),
                *("test/cat/6.png", "test/dog/7.png", "test/unlabelled/8.png"),
                "unlabeled/9.png",
            )
        )
    )
    assert dataset.class_names == ("cat", "dog", "eel")
    labels = ["cat", "cat", "dog", None, "cat", "eel", "cat", "dog", None, None]
    assert known(dataset) == dict(enumerate(labels))
    assert held_out(dataset) == [6, 7, 8]
    splits = draw_splits(dataset, "all", 0)
    np.testing.assert_array_equal(splits.test, dataset.test)
    others = np.setdiff1d(np.arange(10), splits.test)
    np.testing.assert_array_equal(np.union1d(splits.train, splits.validation), others)
    said = " ".join(dataset.notes)
    assert "Train, test, valid" in said
    assert "valid/ train with" in said
    assert "test/ never train" in said


@pytest.mark.parametrize("inner", ["", "unlabeled/"])
def test_parts_without_classes_are_parts_beside_a_table(
    inner: str, make_folder: MakeFolder
) -> None:
    names = [f"{part}/{inner}{i}.png" for i, part in enumerate(["train"] * 4 + ["test "] * 2)]
    table = f"file,label\n{names[0]},cat\n{names[1]},dog\n{names[4]},dog\n".encode()
    dataset = open_folder(make_folder(numbered(*names) | {"labels.csv": table}))
    assert known(dataset) == dict(enumerate(["cat", "dog", None, None, "dog", None]))
    assert held_out(dataset) == [4, 5]
    assert dataset.notes[0] == "parts, not classes: test , train"


def test_a_broken_image_before_the_test_part_does_not_shift_it(make_folder: MakeFolder) -> None:
    files = numbered("train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png")
    dataset = open_folder(make_folder({**files, "test/a/1.png": b"?", "train/a/9.png": b"?"}))
    assert dataset.skipped == ("test/a/1.png", "train/a/9.png")
    assert held_out(dataset) == [2, 3]


def test_a_train_part_alone_holds_nothing_out(make_folder: MakeFolder) -> None:
    dataset = open_folder(make_folder(numbered("training/a/0.png", "training/b/1.png")))
    assert dataset.class_names == ("a", "b")
    assert dataset.test is None


def test_classes_called_like_parts_beside_others_stay_classes(make_folder: MakeFolder) -> None:
    dataset = open_folder(make_folder(numbered("train/0.png", "bus/1.png", "test/2.png")))
    assert known(dataset) == {0: "train", 1: "bus", 2: "test"}
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("files", "fragments"),
    [
        (("train/0.png", "test/1.png"), ["1 images, such as 1.png", "/test", "rename test"]),
        (
            ("train/a/0.png", "train/b/1.png", "test/2.png"),
            ["1 images, such as 2.png, lie in", "/test", "unlabeled/"],
        ),
        (
            ("train/a/0.png", "test/a/1.png", "extra/2.png"),
            ["holds the parts test, train, and extra beside them", "move extra away"],
        ),
        (("val/a/0.png", "test/a/1.png"), ["the parts test, val and no train", "train/"]),
        (
            ("train/a/0.png", "train/b/1.png", "val/images/2.png"),
            ["val has the class folders images", "(a, b)", "move val away"],
        ),
        (("birds/a/0.png", "birds/b/1.png"), ["only one sub-folder, birds", "pets/birds"]),
        (("birds/train/a/0.png", "birds/test/a/1.png"), ["holds sub-folders (test, train): give"]),
        (
            ("birds/a/0.png", "birds/b/1.png", "unlabeled/2.png"),
            ["only one class", "birds", "(a, b)", "move unlabeled into"],
        ),
        (("00000/img00000000.png", "00001/img00001000.png"), ["dataset.json", "labels.csv"]),
    ],
)
def test_a_layout_that_is_not_clear_is_asked_about(
    make_folder: MakeFolder, refuses: Refuses, files: tuple[str, ...], fragments: list[str]
) -> None:
    root = make_folder(numbered(*files))
    with refuses(str(root), *fragments):
        open_folder(root)


def test_one_folder_with_a_table_inside_is_named(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder({**numbered("birds/0.png", "birds/1.png"), "birds/labels.csv": b"file,l"})
    with refuses("birds, which holds a labels.csv", f"give {root}/birds"):
        open_folder(root)


STYLEGAN = numbered("00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png")


def with_labels(labels: object) -> dict[str, Image.Image | bytes]:
    return {**STYLEGAN, "dataset.json": json.dumps({"labels": labels}).encode()}


def test_dataset_json_says_the_labels(make_folder: MakeFolder) -> None:
    files = numbered(*(f"0000{i % 3}/img{i:08d}.png" for i in range(7)))
    names = list(files)
    labels = [10, 2, -1, 10, None, 2]  # of the last file it says nothing
    listed = [[name, label] for name, label in zip(names, labels, strict=False)]
    files["dataset.json"] = json.dumps({"labels": listed}).encode()
    dataset = open_folder(make_folder(files))
    assert dataset.class_names == ("2", "10")
    of_each = ["10", "2", None, "10", None, "2", None]
    assert known(dataset) == dict(enumerate(of_each))
    assert dataset.notes[0] == "2 rows say -1: unlabelled"
    assert dataset.unread == {}


def test_labels_csv_goes_before_dataset_json_and_says_so(make_folder: MakeFolder) -> None:
    csv = b"file,label\n00000/img00000000.png,a\n00001/img00001000.png,b\n"
    dataset = open_folder(make_folder({**with_labels(None), "labels.csv": csv}))
    assert known(dataset) == {0: "a", 1: None, 2: "b"}
    assert any("dataset.json is not read" in note for note in dataset.notes)


def test_another_dataset_json_is_none_of_ours(make_folder: MakeFolder) -> None:
    root = make_folder({**numbered("a/0.png", "b/1.png"), "dataset.json": b'{"name": "pets"}'})
    assert known(open_folder(root)) == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("labels", "fragments"),
    [
        ([["00000/img00000000.png", 0], ["00000/img9.png", 1]], ["no image '00000/img9.png'"]),
        ([["00000/img00000000.png", 0]] * 2, ["entry 1", "a second time"]),
        ([["00000/img00000000.png", [0.0, 1.0]]], ["entry 0", "not one integer"]),
        ([["00000/img00000000.png", -2]], ["entry 0", "not one integer"]),
        ([["00000/img00000000.png"]], ["entry 0", "no pair"]),
        ("none", ["labels are no list"]),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_refused(
    make_folder: MakeFolder, refuses: Refuses, labels: object, fragments: list[str]
) -> None:
    with refuses("dataset.json", *fragments):
        open_folder(make_folder(with_labels(labels)))


@pytest.mark.parametrize(
    ("labels", "names"), [(None, ()), ([], ()), ([["00000/img00000000.png", 3]], ("3",))]
)
def test_a_dataset_json_of_too_few_labels_opens_and_does_not_train(
    make_folder: MakeFolder, refuses: Refuses, labels: object, names: tuple[str, ...]
) -> None:
    dataset = open_folder(make_folder(with_labels(labels)))
    assert (len(dataset), dataset.class_names) == (3, names)
    with refuses("--labels FILE.csv" if names else "--labels"):
        draw_splits(dataset, "all", 0)


def test_a_dataset_json_cut_short_is_refused(make_folder: MakeFolder, refuses: Refuses) -> None:
    with refuses("dataset.json cannot be read (it is no JSON)"):
        open_folder(make_folder({**STYLEGAN, "dataset.json": b'{"labels": [["0'}))


@pytest.mark.parametrize("table", [False, True])
def test_folders_that_systems_make_are_never_read(make_folder: MakeFolder, table: bool) -> None:
    made = (
        "cat/@eaDir/a.png",
        "cat/deep/#recycle/b.png",
        "__MACOSX/cat/c.png",
        "lost+found/d.png",
    )
    files = numbered("cat/0.png", "cat/deep/1.png", "dog/2.png", *made)
    if table:
        files["labels.csv"] = b"file,label\ncat/0.png,cat\ncat/deep/1.png,cat\ndog/2.png,dog\n"
    dataset = open_folder(make_folder(files))
    assert known(dataset) == {0: "cat", 1: "cat", 2: "dog"}
    (note,) = dataset.notes
    assert "4 (" in note
    assert "lost+found" in note


def test_parts_leave_out_what_systems_make(make_folder: MakeFolder) -> None:
    files = numbered("train/a/0.png", "train/b/1.png", "test/a/2.png", "train/@eaDir/a/3.png")
    dataset = open_folder(make_folder({**files, "@eaDir/train/4.png": grey(4)}))
    assert known(dataset) == {0: "a", 1: "b", 2: "a"}
    assert "left out: 2 (@eaDir, train/@eaDir)" in dataset.notes[-1]


@pytest.mark.parametrize(
    ("images", "masks", "added"),
    [
        ("images", "masks", ""),
        ("JPEGImages", "SegmentationClass", ""),
        ("imgs", "labels", ""),
        ("train", "train_masks", "_mask"),
    ],
)
@pytest.mark.parametrize("table", [False, True])
def test_images_beside_masks_are_asked_about(
    make_folder: MakeFolder, refuses: Refuses, images: str, masks: str, added: str, table: bool
) -> None:
    files = {f"{images}/{i}.png": grey(i) for i in range(5)}
    files |= {f"{masks}/{i}{added}.bmp": grey(100 + i) for i in range(1, 5)}
    files["other/x.png"] = grey(9)
    root = make_folder(files)
    if table:
        (root / "labels.csv").write_text(f"file,label\n{images}/1.png,a\n{images}/2.png,b\n")
    with refuses("hold 4 files of the same names", f"give {root}/{images}", f"move {masks}/"):
        open_folder(root)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cat", "dog", True),
        ("001", "002", True),
        ("images", "drawings", True),
        ("photos", "masks", False),
    ],
)
def test_classes_whose_files_are_numbered_alike_are_classes(
    make_folder: MakeFolder, one: str, other: str, same: bool
) -> None:
    files = {f"{one}/{i}.png": grey(i) for i in range(5)}
    files |= {f"{other}/{i if same else i + 10}.png": grey(100 + i) for i in range(5)}
    dataset = open_folder(make_folder(files))
    assert known(dataset) == {i: one for i in range(5)} | {100 + i: other for i in range(5)}
    assert dataset.notes == ()


def test_masks_within_a_part_are_asked_about(make_folder: MakeFolder, refuses: Refuses) -> None:
    names = [f"train/{kind}/{i}.png" for kind in ("images", "masks") for i in range(3)]
    root = make_folder(numbered(*names))
    with refuses(f"{root}/train/images and {root}/train/masks hold 3 files"):
        open_folder(root)


def test_a_class_of_sub_folders_joins_them_and_says_so(make_folder: MakeFolder) -> None:
    files = numbered("animals/cat/0.png", "animals/dog/1.png", "plants/oak/2.png", "things/3.png")
    dataset = open_folder(make_folder({**files, "things/more/a/4.png": grey(4)}))
    assert known(dataset) == {0: "animals", 1: "animals", 2: "plants", 3: "things", 4: "things"}
    (note,) = dataset.notes
    assert "class animals joins the images of 2 sub-folders (cat, dog)" in note


def test_a_copy_of_parts_has_the_same_fingerprint_and_other_parts_another(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    names = ("train/a/0.png", "train/b/1.png", "test/a/2.png")
    first = open_folder(make_folder(numbered(*names), "first"))
    copy = open_folder(make_folder(numbered(*names), "copy"))
    moved = open_folder(make_folder(numbered(*names[:2], "train/a/2.png"), "moved"))
    assert first.fingerprint == copy.fingerprint != moved.fingerprint
