import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from data_cases import Refuses
from numpy.typing import NDArray
from PIL import Image

from fewlabel.data import Dataset, absolute, draw_splits, open_dataset

GENERATOR = np.random.default_rng(0)
TRAIN = GENERATOR.integers(0, 256, (40, 6, 6), dtype=np.uint8)
TEST = GENERATOR.integers(0, 256, (20, 6, 6), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 2
PARTS = {
    "train-images-idx3-ubyte": TRAIN,
    "train-labels-idx1-ubyte": LABELS[:40],
    "t10k-images-idx3-ubyte": TEST,
    "t10k-labels-idx1-ubyte": LABELS[40:],
}


def idx(array: NDArray[np.uint8]) -> bytes:
    """As the page of MNIST describes the format."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "garments"
    root.mkdir()
    for name, array in PARTS.items():
        (root / name).write_bytes(idx(array))
    return root


def opened(folder: Path, size: int | None = None) -> Dataset:
    return open_dataset(f"mnist:{folder}", size)


def test_pixels_and_labels_come_in_order(folder: Path) -> None:
    dataset = opened(folder)
    np.testing.assert_array_equal(dataset.values[..., 0], np.concatenate([TRAIN, TEST]))
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.class_names == ("0", "1")
    assert dataset.name == "garments"


@pytest.mark.parametrize("labels", ["all", "0.3", "4/class"])
def test_the_own_test_part_never_trains(labels: str, folder: Path) -> None:
    splits = draw_splits(opened(folder), labels, seed=3)
    assert list(splits.test) == list(range(40, 60))
    assert {*splits.train, *splits.validation} == set(range(40))
    assert not {*splits.train} & {*splits.validation}
    assert 0 < len(splits.validation) < 20


def test_gzip_dots_and_copies_are_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    expected = opened(folder).fingerprint
    other = tmp_path / "other"
    other.mkdir()
    for name, array in PARTS.items():
        dotted = name.replace("-idx", ".idx")
        (other / f"{dotted}.gz").write_bytes(gzip.compress(idx(array)))
    assert opened(other).fingerprint == expected
    (folder / "t10k-images-idx3-ubyte").unlink()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    alone = opened(folder)
    assert alone.fingerprint != expected
    assert alone.test is None


def test_another_size_is_antialiased(folder: Path) -> None:
    """Halving a fine checkerboard gives grey, not a selection of its squares."""
    board = (np.indices((40, 6, 6)).sum(0) % 2 * 255).astype(np.uint8)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(board))
    dataset = opened(folder, 3)
    assert dataset.shape == (1, 3, 3)
    assert np.abs(dataset.values[:40].astype(int) - 128).max() < 40
    expected = [Image.fromarray(one).resize((3, 3), Image.Resampling.LANCZOS) for one in TEST]
    np.testing.assert_array_equal(dataset.values[40:, ..., 0], [np.asarray(e) for e in expected])
    assert opened(folder, 6).fingerprint == opened(folder).fingerprint != dataset.fingerprint


def test_classes_may_have_names(folder: Path) -> None:
    (folder / "class_names.txt").write_text("shirt\nbag\n", encoding="utf-8")
    assert opened(folder).class_names == ("shirt", "bag")


def test_a_relative_path_means_the_same_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert absolute("mnist:garments") == f"mnist:{folder}"
    assert opened(Path("garments")).fingerprint == opened(folder).fingerprint
    assert absolute("mnist:gone") == "mnist:gone"


@pytest.mark.parametrize(
    ("file", "content", "fragments"),
    [
        ("train-labels-idx1-ubyte", None, ["train-labels-idx1-ubyte", "put it there"]),
        ("t10k-images-idx3-ubyte", None, ["t10k-images-idx3-ubyte", "put it there"]),
        ("train-images-idx3-ubyte", b"", ["train-images-idx3-ubyte", "no IDX file"]),
        ("train-images-idx3-ubyte", idx(LABELS), ["no IDX file", "3 axes"]),
        ("train-images-idx3-ubyte", idx(TRAIN)[:-1], ["1439 bytes", "40 × 6 × 6", "again"]),
        ("train-labels-idx1-ubyte", idx(LABELS), ["40 images and 60 labels", "replace"]),
        ("t10k-images-idx3-ubyte", idx(TEST[:, :5]), ["6×6", "5×6", "one dataset"]),
        ("class_names.txt", b"one\n", ["class_names.txt: 1 names for 2 classes", "none for 1"]),
        ("class_names.txt", b"one\n\nthree\n", ["class_names.txt, line 2 is blank"]),
        (
            "class_names.txt",
            b"one\none\n",
            ["class_names.txt: two of the names are alike (one)", "its own"],
        ),
    ],
)
def test_refuses(
    file: str, content: bytes | None, fragments: list[str], folder: Path, refuses: Refuses
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with refuses(str(folder), *fragments):
        opened(folder)


@pytest.mark.parametrize("damage", [b"no gzip", gzip.compress(idx(TRAIN))[:-30]])
def test_a_damaged_gzip_is_named(damage: bytes, folder: Path, refuses: Refuses) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(damage)
    with refuses("train-images-idx3-ubyte.gz cannot be read", "again"):
        opened(folder)


def test_a_path_that_is_no_folder(folder: Path, refuses: Refuses) -> None:
    with refuses("mnist:/no/where", "check the path"):
        open_dataset("mnist:/no/where")
    with refuses("is no folder", "give the one with the IDX files"):
        open_dataset(f"mnist:{folder}/train-images-idx3-ubyte")
    shutil.rmtree(folder)
    with refuses("mnist:", "check the path"):
        open_dataset("mnist:")


def write_emnist(root: Path, split: str, first: int = 1) -> None:
    """Twelve images of 6 × 6, stored transposed, of the labels first, first + 1, first + 2."""
    for part, images in (("train", TRAIN[:12]), ("test", TEST[:12])):
        stem = f"emnist-{split}-{part}"
        labels = (np.arange(12) % 3 + first).astype(np.uint8)
        upright = np.ascontiguousarray(images.transpose(0, 2, 1))
        (root / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(upright)))
        (root / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def test_emnist_is_upright_and_its_characters_are_the_classes(tmp_path: Path) -> None:
    write_emnist(tmp_path, "letters")
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n")
    dataset = opened(tmp_path)
    np.testing.assert_array_equal(dataset.values[..., 0], np.concatenate([TRAIN[:12], TEST[:12]]))
    assert dataset.class_names == ("Aa", "Bb", "Cc")
    assert dataset.labels.tolist() == [0, 1, 2] * 8
    assert list(draw_splits(dataset, "all", 0).test) == list(range(12, 24))
    assert (dataset.name, dataset.notes) == ("emnist-letters", ())
    (tmp_path / "emnist-letters-mapping.txt").unlink()
    assert opened(tmp_path).class_names == ("1", "2", "3")


def test_of_several_splits_of_emnist_one_is_chosen(tmp_path: Path, refuses: Refuses) -> None:
    write_emnist(tmp_path, "letters")
    write_emnist(tmp_path, "digits", first=0)
    with refuses("several datasets, emnist-digits, emnist-letters", "give a file of the one"):
        opened(tmp_path)
    chosen = opened(tmp_path / "emnist-digits-train-images-idx3-ubyte.gz")
    assert (chosen.name, chosen.class_names) == ("emnist-digits", ("0", "1", "2"))
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 A\n")
    with refuses("emnist-letters-mapping.txt is no list of labels", "fetch it again"):
        opened(tmp_path / "emnist-letters-test-labels-idx1-ubyte.gz")
