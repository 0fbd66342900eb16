"""`--labels FILE.csv`, and labels.csv beside class folders: labels are added, never lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeDataset, MakeFolder, Refuses
from PIL import Image

from fewlabel.data import Dataset, Splits, draw_splits, labelled_by_csv, open_folder


def images(*names: str) -> dict[str, Image.Image | bytes]:
    return {name: Image.new("L", (4, 4), 100 + 5 * i) for i, name in enumerate(names)}


def classes(dataset: Dataset) -> dict[str, str | None]:
    files = dataset.files or ()
    return {
        file: dataset.class_names[label] if label >= 0 else None
        for file, label in zip(files, dataset.labels.tolist(), strict=True)
    }


def written(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


BIRDS = [f"{kind}/{i}.png" for kind in ("heron", "unlabeled", "wren") for i in range(3)]


def test_a_table_beside_class_folders_adds_to_them(make_folder: MakeFolder) -> None:
    root = make_folder(images(*BIRDS))
    before = classes(open_folder(root))
    rows = ["unlabeled/0.png,emu", "unlabeled/2.png,wren", "heron/1.png,heron", "wren/1.png,"]
    written(root / "labels.csv", "file,label", *rows)
    added = {"unlabeled/0.png": "emu", "unlabeled/2.png": "wren"}
    assert classes(open_folder(root)) == {**before, **added}
    assert sum(name is not None for name in before.values()) == 6


def test_a_table_of_new_classes_alone_adds_to_class_folders(make_folder: MakeFolder) -> None:
    root = make_folder(images(*BIRDS))
    written(root / "labels.csv", "file,label", "unlabeled/0.png,emu", "unlabeled/1.png,-1")
    dataset = open_folder(root)
    assert dataset.class_names == ("emu", "heron", "wren")
    assert np.bincount(dataset.labels + 1).tolist() == [2, 1, 3, 3]
    assert dataset.notes == ("1 row says -1: unlabelled",)


def test_a_table_that_contradicts_a_folder_is_refused(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder(images(*BIRDS))
    written(root / "labels.csv", "file,label", "heron/0.png,heron", "heron/2.png,wren")
    with refuses(f"{root / 'labels.csv'}, line 3: heron/2.png", "class folder heron", "says wren"):
        open_folder(root)


def test_an_empty_class_folder_may_get_its_images_from_the_table(make_folder: MakeFolder) -> None:
    root = make_folder(images(*BIRDS))
    (root / "emu").mkdir()
    written(root / "labels.csv", "file,label", "unlabeled/1.png,emu")
    assert classes(open_folder(root))["unlabeled/1.png"] == "emu"


def test_sub_folders_that_only_part_the_files_are_no_classes(make_folder: MakeFolder) -> None:
    names = ["spring/0.png", "spring/1.png", "autumn/0.png", "autumn/1.png"]
    root = make_folder(images(*names))
    written(root / "labels.csv", "file,label", "spring/0.png,heron", "autumn/0.png,wren")
    dataset = open_folder(root)
    assert [name for name in classes(dataset).values() if name] == ["wren", "heron"]
    (note,) = dataset.notes
    assert "the sub-folders autumn, spring of pets are no classes" in note


@pytest.mark.parametrize("inside", ["", "unlabeled/"])
def test_a_csv_gives_the_labels_of_a_folder_without_any(
    make_folder: MakeFolder, tmp_path: Path, refuses: Refuses, inside: str
) -> None:
    names = [f"{inside}{i}.png" for i in range(9)]
    dataset = open_folder(make_folder(images(*names)))
    assert (dataset.class_names, set(dataset.labels)) == ((), {-1})
    rows = [f"{name},{'heron' if i % 2 else 'wren'}" for i, name in enumerate(names[:5])]
    csv = written(tmp_path / "my.csv", "file,label", *rows, f"{names[7]},", f"{names[8]},nan")
    found = labelled_by_csv(dataset, csv)
    assert found.class_names == ("heron", "wren")
    assert [*classes(found).values()] == ["wren", "heron", "wren", "heron", "wren", *[None] * 4]
    assert found.notes == ("2 lines have no label in my.csv yet: skipped",)
    splits = draw_splits(found, csv, 0)
    assert splits.labelled.tolist() == [0, 1, 2, 3, 4]
    with refuses("folder pets", "no class sub-folders", "columns file and label"):
        draw_splits(dataset, "all", 0)


def test_given_labels_join_those_of_the_data(make_folder: MakeFolder, tmp_path: Path) -> None:
    dataset = open_folder(make_folder(images(*BIRDS)))
    rows = ["unlabeled/0.png,emu", "unlabeled/1.png, wren ", "heron/2.png,heron", "wren/0.png,"]
    csv = written(tmp_path / "my.csv", "file,label", *rows)
    found = labelled_by_csv(dataset, csv)
    added = {"unlabeled/0.png": "emu", "unlabeled/1.png": "wren"}
    assert classes(found) == {**classes(dataset), **added}
    left = "4 labelled files are not in my.csv: no model learns their labels unless it lists them"
    assert found.notes == ("my.csv adds 1 class: emu", f"{left} too")
    listed = [(found.files or [])[row] for row in draw_splits(found, csv, 0).labelled]
    assert {*listed} == {"unlabeled/0.png", "unlabeled/1.png", "heron/2.png", "wren/0.png"}
    assert labelled_by_csv(dataset, "all") is labelled_by_csv(dataset, "0.5") is dataset


def test_what_a_csv_gave_is_kept_with_the_splits(make_folder: MakeFolder, tmp_path: Path) -> None:
    dataset = open_folder(make_folder(images(*BIRDS)))
    csv = written(tmp_path / "my.csv", "file,label", *(
        f"{name},{name[:-6]}" for name in ("heron/0.png", "wren/0.png")
    ), "unlabeled/2.png,emu")  # fmt: skip
    found = labelled_by_csv(dataset, csv)
    splits = Splits.from_json(draw_splits(found, csv, 0).to_json())
    Path(csv).unlink()
    again = splits.with_given(dataset)
    splits.check(again, "the run")
    assert (again.class_names, again.fingerprint) == (found.class_names, found.fingerprint)
    assert again.labels.tolist() == found.labels.tolist()
    assert found.fingerprint != dataset.fingerprint
    other = labelled_by_csv(dataset, written(Path(csv), "file,label", "unlabeled/2.png,wren"))
    assert other.fingerprint != found.fingerprint


def test_the_data_go_before_what_a_csv_gave_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    """A label that was given by mistake is corrected in labels.csv; no file is moved."""
    root = make_folder(images(*BIRDS))
    given = (
        "heron/0.png,heron",
        "wren/0.png,wren",
        "unlabeled/1.png,wren",
        "unlabeled/2.png,wren",
    )
    csv = written(tmp_path / "my.csv", "file,label", *given)
    dataset = open_folder(root)
    splits = draw_splits(labelled_by_csv(dataset, csv), csv, 0)
    (root / "labels.csv").write_text("file,label\nunlabeled/2.png,heron\n")
    corrected = open_folder(root)
    assert corrected.files == dataset.files
    found = classes(splits.with_given(corrected))
    assert (found["unlabeled/1.png"], found["unlabeled/2.png"]) == ("wren", "heron")


def test_splits_of_other_data_are_refused(
    make_folder: MakeFolder, tmp_path: Path, refuses: Refuses
) -> None:
    dataset = open_folder(make_folder(images(*BIRDS)))
    csv = written(tmp_path / "my.csv", "file,label", "unlabeled/2.png,wren", "heron/0.png,heron")
    splits = draw_splits(labelled_by_csv(dataset, csv), csv, 0)
    fewer = open_folder(make_folder(images(*BIRDS[:4], "wren/0.png"), "fewer"))
    with refuses("was made from another dataset"):
        splits.check(splits.with_given(fewer), "the run")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["file,label", "heron/0.png,wren"], "line 2: heron/0.png is of class heron, not wren"),
        (["file", "heron/0.png", "unlabeled/0.png"], "line 3: unlabeled/0.png has no label"),
        (["file,label", "heron/9.png,wren"], "line 2: there is no image 'heron/9.png'"),
        (["file,label", "unlabeled/0.png,a\x1bb"], "control character"),
    ],
)
def test_a_csv_that_cannot_be_meant(
    make_folder: MakeFolder, tmp_path: Path, refuses: Refuses, rows: list[str], says: str
) -> None:
    dataset = open_folder(make_folder(images(*BIRDS)))
    with refuses(says):
        labelled_by_csv(dataset, written(tmp_path / "my.csv", *rows))


def test_names_are_compared_in_one_spelling(make_folder: MakeFolder, tmp_path: Path) -> None:
    apart, composed = "he\u0301ron", "h\u00e9ron"
    names = [f"{apart}/a.png", "wren/b.png", f"unlabeled/{apart}.png"]
    dataset = open_folder(make_folder(images(*names)))
    rows = [f"{composed}/a.png,{composed}", f"unlabeled/{composed}.png, {apart}", "wren/b.png,"]
    found = labelled_by_csv(dataset, written(tmp_path / "my.csv", "file,label", *rows))
    assert found.class_names == (composed, "wren")
    assert [*classes(found).values()] == [composed, "wren", composed]
    assert found.notes == ()


def test_numbers_of_a_spreadsheet_are_those_of_the_data(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    dataset = open_folder(make_folder(images("2/a.png", "10/b.png", "unlabeled/c.png")))
    csv = written(tmp_path / "my.csv", "file,label", "2/a.png,2.0", "unlabeled/c.png,10.0")
    found = labelled_by_csv(dataset, csv)
    assert found.class_names == ("2", "10")
    assert classes(found)["unlabeled/c.png"] == "10"


def test_rows_of_data_without_files_are_listed_by_index(
    make_dataset: MakeDataset, tmp_path: Path, refuses: Refuses
) -> None:
    dataset = replace(make_dataset((5, 5), unlabelled=5), files=None)
    known, free = np.flatnonzero(dataset.labels == 0), np.flatnonzero(dataset.labels < 0)
    other = np.flatnonzero(dataset.labels == 1)[0]
    rows = [f"{known[0]}.0,a", f"{free[0]},b", f"{free[1]},new", f"{other},"]
    csv = written(tmp_path / "my.csv", "index,label", *rows)
    found = labelled_by_csv(dataset, csv)
    assert found.class_names == ("a", "b", "new")
    assert found.labels[[free[0], free[1], free[2]]].tolist() == [1, 2, -1]
    assert {*draw_splits(found, csv, 0).labelled} == {known[0], free[0], free[1], other}
    with refuses("line 2: there is no row '15'", "from 0 to 14"):
        labelled_by_csv(dataset, written(tmp_path / "far.csv", "index,label", "15,a"))


def test_a_list_of_classes_keeps_its_order_and_new_ones_follow(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    dataset = replace(make_dataset((5, 5), unlabelled=5), class_names=("wren", "heron"))
    free = np.flatnonzero(dataset.labels < 0)
    csv = written(tmp_path / "my.csv", "file,label", f"{free[0]}.png,emu")
    found = labelled_by_csv(dataset, csv)
    assert found.class_names == ("wren", "heron", "emu")
    kept = dataset.labels >= 0
    assert found.labels[kept].tolist() == dataset.labels[kept].tolist()
