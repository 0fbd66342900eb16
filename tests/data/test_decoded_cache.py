"""What is cached by content is known by content, and what is damaged is made again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeFolder
from PIL import Image

from fewlabel.data import Dataset, draw_splits, open_dataset, open_folder


def noise(seed: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def folder(make_folder: MakeFolder) -> Path:
    files: dict[str, Image.Image | bytes] = {
        f"{name}/{i}.png": noise(10 * k + i) for k, name in enumerate("ab") for i in range(9)
    }
    return make_folder({**files, "a/broken.png": b"no image"})


def flipped(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a pixel": lambda path: flipped(path, 0.8),
    "the head": lambda path: flipped(path, 0.001),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("ending", [".npy", ".json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(
    damage: str, ending: str, folder: Path, cache: Path
) -> None:
    before = open_folder(folder)
    values = before.values.copy()
    for path in cache.glob(f"*{ending}"):
        DAMAGES[damage](path)
    after = open_folder(folder)
    np.testing.assert_array_equal(after.values, values)
    np.testing.assert_array_equal(after.contents, before.contents)
    assert (after.fingerprint, after.skipped) == (before.fingerprint, ("a/broken.png",))


@pytest.mark.parametrize("key", ["contents", "sizes", "brightest", "broken"])
def test_facts_that_were_changed_are_made_again(key: str, folder: Path, cache: Path) -> None:
    before = open_folder(folder)
    others = {
        "contents": "AAAAAAAAAAA=" * 18,
        "sizes": {"7×7": 18},
        "brightest": 3,
        "broken": {"0": "x"},
    }
    for path in cache.glob("*.json"):
        noted = json.loads(path.read_text())
        if "facts" in noted:
            noted["facts"][key] = others[key]
            path.write_text(json.dumps(noted))
    after = open_folder(folder)
    np.testing.assert_array_equal(after.contents, before.contents)
    assert (after.sizes, after.skipped) == (before.sizes, before.skipped)


def test_a_cached_size_that_was_changed_is_found_again(folder: Path, cache: Path) -> None:
    open_folder(folder)
    noted = {path: json.loads(path.read_text()) for path in cache.glob("*.json")}
    (own,) = (path for path, known in noted.items() if "side" in known["facts"])
    own.write_text(json.dumps(noted[own] | {"facts": {"side": 5}}))
    assert open_folder(folder).shape == (3, 6, 6)


def test_equal_names_and_sizes_are_not_equal_images(tmp_path: Path) -> None:
    """Two folders of BMP: every name and every size is the same, the classes are swapped."""
    for name, seeds in {"one": (0, 50), "two": (50, 0)}.items():
        for label, first in zip("ab", seeds, strict=True):
            for i in range(9):
                path = tmp_path / name / label / f"{i}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise(first + i).save(path)
                os.utime(path, (1, 1))
    one, two = (open_folder(tmp_path / name) for name in ("one", "two"))
    assert one.files == two.files
    assert one.fingerprint != two.fingerprint
    copy = open_folder(shutil.copytree(tmp_path / "one", tmp_path / "copied" / "one"))
    assert copy.fingerprint == one.fingerprint


@pytest.mark.parametrize("size", [None, 4])
def test_another_image_of_the_same_name_size_and_time_is_read(size: int, tmp_path: Path) -> None:
    """As archives unpack them, with times of their own."""
    paths = [tmp_path / "pets" / label / "0.bmp" for label in "ab"]
    for turn in (0, 2):
        for i, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(turn + i).save(path)
            os.utime(path, (1, 1))
        found = open_folder(tmp_path / "pets", size)
        alone = open_folder(shutil.copytree(tmp_path / "pets", tmp_path / f"at {turn}"), size)
        np.testing.assert_array_equal(found.values, alone.values)
        np.testing.assert_array_equal(found.contents, alone.contents)


def saved_npz(path: Path, images: np.ndarray, labels: np.ndarray) -> Dataset:
    np.savez(path, images=images, labels=labels)
    return open_dataset(path)


def test_the_split_of_a_folder_survives_a_turn_of_labelling(tmp_path: Path) -> None:
    """Six labels a class are added by moving files, three files removed, one renamed."""
    for i in range(120):
        name = f"{'ab'[i % 2]}" if i < 24 else "unlabeled"
        path = tmp_path / "pets" / name / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(i).save(path)
    root = tmp_path / "pets"
    first = open_folder(root)
    before = draw_splits(first, "all", 0)
    assert len(before.validation) > 4
    moved = sorted((root / "unlabeled").iterdir())
    for i in range(12):
        moved[i].rename(root / "ab"[i % 2] / moved[i].name)
    for path in moved[12:15]:
        path.unlink()
    moved[15].rename(root / "unlabeled" / "another name.png")
    now = open_folder(root)
    after = draw_splits(now, "all", 0, before=before)
    sides = [
        {
            content: part
            for part in ("train", "validation")
            for content in d.contents[getattr(s, part)]
        }
        for d, s in ((first, before), (now, after))
    ]
    assert len(sides[0]) == 120
    assert len(sides[1]) == 117
    assert sides[1].items() <= sides[0].items()
    assert len(after.labelled) > len(before.labelled)


def test_arrays_are_known_row_by_row_at_every_size(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    labels = np.arange(40) % 2
    whole = saved_npz(tmp_path / "whole.npz", images, labels)
    turned = saved_npz(tmp_path / "turned.npz", images[::-1], labels)
    np.testing.assert_array_equal(whole.contents, turned.contents[::-1])
    assert whole.fingerprint != turned.fingerprint
    small = open_dataset(tmp_path / "whole.npz", 6)
    np.testing.assert_array_equal(small.contents, whole.contents)
    assert small.fingerprint != whole.fingerprint
