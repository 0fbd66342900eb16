import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image
from pyarrow import parquet

from fewlabel.data import absolute, draw_splits, open_dataset

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
LABELS = [i % 2 for i in range(20)]


@pytest.fixture(autouse=True)
def library_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own cache is not that of the user, and the hub is out of reach."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def made(
    rows: slice, labels: list | None = None, feature: object = None, **more: list
) -> datasets.Dataset:
    images = [Image.fromarray(one) for one in PIXELS[rows]]
    label = datasets.ClassLabel(names=["cat", "dog"]) if feature is None else feature
    columns = {"picture": datasets.Image(), "kind": label}
    columns |= {name: datasets.Value("string") for name in more}
    content = {"picture": images, "kind": labels or LABELS[rows], **more}
    return datasets.Dataset.from_dict(content, features=datasets.Features(columns))


def test_a_saved_dataset_opens_by_its_features(tmp_path: Path) -> None:
    made(slice(20), caption=["a"] * 20).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(dataset.values, PIXELS)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.test is None
    assert open_dataset(f"hf:{tmp_path / 'saved'}", 3).shape == (3, 3, 3)


def test_the_own_test_part_never_trains_and_other_parts_are_left_out(tmp_path: Path) -> None:
    parts = {"test": made(slice(12, 20)), "train": made(slice(12)), "more": made(slice(3))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(dataset.values, PIXELS)
    splits = draw_splits(dataset, "all", 0)
    assert list(splits.test) == list(range(12, 20))
    assert {*splits.train, *splits.validation} == set(range(12))


def test_missing_and_negative_labels_are_none(tmp_path: Path) -> None:
    labels = [None if i < 3 else -1 if i < 6 else i % 2 for i in range(20)]
    made(slice(20), labels).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(dataset.labels, [-1] * 6 + LABELS[6:])


def test_labels_may_be_texts(tmp_path: Path) -> None:
    texts = [None if i == 0 else "yz"[i % 2] for i in range(20)]
    saved = made(slice(20), texts, datasets.Value("string")).rename_column("kind", "label")
    saved.save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    assert dataset.class_names == ("y", "z")
    np.testing.assert_array_equal(dataset.labels, [-1, *LABELS[1:]])


def test_labels_may_be_of_any_kind_of_integer(tmp_path: Path) -> None:
    labels = [None, *LABELS[1:]]
    saved = made(slice(20), labels, datasets.Value("uint8")).rename_column("kind", "label")
    saved.save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(dataset.labels, [-1, *LABELS[1:]])


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made(slice(12)).to_parquet(tmp_path / "files" / "train-0.parquet")
    made(slice(12, 20)).to_parquet(tmp_path / "files" / "test-0.parquet")
    dataset = open_dataset(f"hf:{tmp_path / 'files'}")
    np.testing.assert_array_equal(dataset.values, PIXELS)
    assert list(dataset.test if dataset.test is not None else ()) == list(range(12, 20))


def test_a_folder_of_images_opens_to_the_same_pixels(make_folder: MakeFolder) -> None:
    root = make_folder(
        {f"{'ab'[i % 2]}/{i:02d}.png": Image.fromarray(PIXELS[i]) for i in range(6)}
    )
    there, here = open_dataset(f"hf:{root}"), open_dataset(root)
    assert there.class_names == here.class_names == ("a", "b")
    order = np.lexsort((there.values.reshape(6, -1).sum(1), there.labels))
    same = np.lexsort((here.values.reshape(6, -1).sum(1), here.labels))
    np.testing.assert_array_equal(there.values[order], here.values[same])


def test_broken_images_are_left_out_with_their_labels(tmp_path: Path, refuses: Refuses) -> None:
    good = made(slice(12)).cast_column("picture", datasets.Image(decode=False))[:]
    good["picture"][4] = {"bytes": b"no image", "path": None}
    good["picture"][7] = None
    features = made(slice(1)).features
    train = datasets.Dataset.from_dict(good, features=features)
    parts = {"train": train, "test": made(slice(12, 20))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(f"hf:{tmp_path / 'saved'}")
    kept = [i for i in range(20) if i not in (4, 7)]
    np.testing.assert_array_equal(dataset.values, PIXELS[kept])
    np.testing.assert_array_equal(dataset.labels, np.array(LABELS)[kept])
    assert [name.split(", ", 1)[1] for name in dataset.skipped] == ["train, row 4", "train, row 7"]
    assert list(dataset.test if dataset.test is not None else ()) == list(range(10, 18))
    with refuses("train, row 4", "not an image", "2 of 20"):
        open_dataset(f"hf:{tmp_path / 'saved'}", strict=True)


def test_a_copy_is_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(slice(20)).save_to_disk(tmp_path / "a")
    made(slice(20)).save_to_disk(tmp_path / "b")
    made(slice(20), LABELS[::-1]).save_to_disk(tmp_path / "c")
    a, b, c = (open_dataset(f"hf:{tmp_path / name}").fingerprint for name in "abc")
    assert a == b != c
    monkeypatch.chdir(tmp_path)
    assert absolute("hf:a") == f"hf:{tmp_path / 'a'}"
    assert absolute("hf:someone/birds") == "hf:someone/birds"


def test_what_cannot_be_used_is_explained(tmp_path: Path, refuses: Refuses) -> None:
    with refuses("hf:/no/where", "no such folder", "check the path"):
        open_dataset("hf:/no/where")
    with refuses("hf:nobody/nothing cannot be loaded", "check the name"):
        open_dataset("hf:nobody/nothing")
    (tmp_path / "empty").mkdir()
    with refuses("empty cannot be loaded", "check the folder"):
        open_dataset(f"hf:{tmp_path / 'empty'}")
    made(slice(4)).remove_columns("kind").save_to_disk(tmp_path / "bare")
    with refuses("no columns of labels among picture", "`label`"):
        open_dataset(f"hf:{tmp_path / 'bare'}")
    made(slice(4)).remove_columns("picture").save_to_disk(tmp_path / "blind")
    with refuses("no columns of images among kind", "`image`"):
        open_dataset(f"hf:{tmp_path / 'blind'}")
    parts = {"left": made(slice(4)), "right": made(slice(4, 8))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    with refuses("parts left, right and no `train`"):
        open_dataset(f"hf:{tmp_path / 'parts'}")


def test_code_in_a_folder_is_not_run(tmp_path: Path, refuses: Refuses) -> None:
    root = tmp_path / "scripted"
    root.mkdir()
    (root / "scripted.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    with refuses("scripted cannot be loaded"):
        open_dataset(f"hf:{root}")
    assert not (tmp_path / "trace").exists()


def test_the_library_is_named_if_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refuses("hf:cifar10", "`datasets`", "fewlabel[hub]"):
        open_dataset("hf:cifar10")


def test_the_library_is_loaded_on_use_and_brings_no_torchvision(tmp_path: Path) -> None:
    made(slice(20)).save_to_disk(tmp_path / "saved")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("__version__ = '0.0'\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import fewlabel.data; assert 'datasets' not in sys.modules\n"
        "assert len(fewlabel.data.open_dataset('hf:' + sys.argv[1] + '/saved')) == 20\n"
        "assert 'datasets' in sys.modules; print('torchvision' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_a_pipe_among_the_files_that_a_dataset_names_is_refused(
    make_folder: MakeFolder, tmp_path: Path, refuses: Refuses
) -> None:
    pictures = make_folder({"0.png": Image.new("L", (4, 4)), "1.png": Image.new("L", (4, 4))})
    columns = {"image": [str(pictures / f"{i}.png") for i in range(2)], "label": ["a", "b"]}
    named = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    (tmp_path / "table").mkdir()
    parquet.write_table(named.data.table, tmp_path / "table/train.parquet")  # no bytes of images
    assert len(open_dataset(f"hf:{tmp_path}/table")) == 2
    (pictures / "1.png").unlink()
    os.mkfifo(pictures / "1.png")
    with refuses(f"{pictures}/1.png is a pipe, not a regular file"):
        open_dataset(f"hf:{tmp_path}/table")
