import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fewlabel.data import Dataset, open_dataset
from fewlabel.errors import UserError

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
VECTORS = GENERATOR.normal(2.0, 3.0, (6, 2))
LABELS = np.array([0, 1, -1, 1, 0, -1])


def opened(folder: Path, **arrays: NDArray) -> Dataset:
    np.savez(folder / "data.npz", **arrays)
    return open_dataset(folder / "data.npz")


def test_images_come_as_they_are(tmp_path: Path) -> None:
    dataset = opened(tmp_path, images=IMAGES, labels=LABELS, class_names=np.array(["a", "b"]))
    assert dataset.class_names == ("a", "b")
    np.testing.assert_array_equal(dataset.labels, LABELS)
    expected = IMAGES[[3, 0]].transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(dataset.examples([3, 0]).numpy(), expected, atol=1e-6)


def test_grey_images_need_no_channel(tmp_path: Path) -> None:
    dataset = opened(tmp_path, images=IMAGES[..., 0], labels=LABELS)
    assert dataset.shape == (1, 4, 4)
    np.testing.assert_array_equal(dataset.values[..., 0], IMAGES[..., 0])


def test_images_of_another_size_are_cropped_and_resized(tmp_path: Path) -> None:
    wide = np.repeat(np.repeat(IMAGES, 2, 1), 4, 2)  # 8 × 16; its centre is 8 × 8
    dataset = opened(tmp_path, images=wide, labels=LABELS)
    np.testing.assert_array_equal(dataset.values, wide[:, :, 4:12])
    again = open_dataset(tmp_path / "data.npz", size=8)  # as a stored run asks
    assert again.fingerprint == dataset.fingerprint
    assert open_dataset(tmp_path / "data.npz", size=5).shape == (3, 5, 5)


def test_vectors_have_no_size(tmp_path: Path) -> None:
    opened(tmp_path, vectors=VECTORS, labels=LABELS)
    with pytest.raises(UserError, match="no size 8: leave --size out"):
        open_dataset(tmp_path / "data.npz", size=8)


def test_vectors_keep_their_scale(tmp_path: Path) -> None:
    dataset = opened(tmp_path, vectors=VECTORS, labels=LABELS)
    np.testing.assert_allclose(dataset.examples(range(6)).numpy(), VECTORS, rtol=1e-6)
    assert dataset.spread(range(6)) == pytest.approx(VECTORS.std(), rel=1e-6)


def test_equal_content_is_the_same_dataset(tmp_path: Path) -> None:
    first = opened(tmp_path, vectors=VECTORS, labels=LABELS).fingerprint
    (tmp_path / "other").mkdir()
    assert opened(tmp_path / "other", vectors=VECTORS, labels=LABELS).fingerprint == first
    assert opened(tmp_path, vectors=VECTORS + 1, labels=LABELS).fingerprint != first
    assert opened(tmp_path, vectors=VECTORS, labels=LABELS[::-1]).fingerprint != first


def with_nan() -> NDArray:
    vectors = VECTORS.copy()
    vectors[4, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"labels": LABELS}, ["holds labels", "`images` or `vectors`"]),
        ({"images": IMAGES, "vectors": VECTORS, "labels": LABELS}, ["either"]),
        ({"vectors": VECTORS}, ["no `labels`"]),
        ({"vectors": with_nan(), "labels": LABELS}, ["row 4", "not finite"]),
        ({"vectors": VECTORS[:, 0], "labels": LABELS}, ["(6,)", "(N, D)"]),
        ({"images": IMAGES / 255, "labels": LABELS}, ["float64", "uint8"]),
        ({"images": IMAGES[..., :2], "labels": LABELS}, ["(6, 4, 4, 2)"]),
        ({"vectors": VECTORS, "labels": LABELS[:5]}, ["labels are int64 of shape (5,)", "(6,)"]),
        ({"vectors": VECTORS, "labels": LABELS / 2}, ["float64", "integers"]),
        ({"vectors": VECTORS, "labels": LABELS - 1}, ["label -2 in row 2", "−1 is none"]),
        (
            {"vectors": VECTORS, "labels": LABELS, "class_names": np.array(["a"])},
            ["class_names: 1 names for 2 classes, none for 1"],
        ),
        (
            {"vectors": VECTORS, "labels": LABELS, "class_names": np.array(["a", "a"])},
            ["class_names: two of the names are alike (a)"],
        ),
        (
            {"vectors": VECTORS, "labels": LABELS, "class_names": np.array([["a"], ["b"]])},
            ["class_names are <U1 of shape (2, 1)", "(K,)"],
        ),
        ({"vectors": VECTORS[:, :0], "labels": LABELS}, ["(6, 0)", "numbers (N, D)"]),
        ({"images": IMAGES[:, :0], "labels": LABELS}, ["uint8 of shape (6, 0"]),
    ],
)
def test_refuses(tmp_path: Path, arrays: dict[str, NDArray], fragments: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        opened(tmp_path, **arrays)
    message = str(refused.value)
    assert "data.npz" in message
    assert "\n" not in message
    assert all(fragment in message for fragment in fragments), message


@pytest.mark.parametrize("damage", ["cut", "flipped", "one array"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, vectors=np.arange(4000.0).reshape(2000, 2), labels=np.arange(2000))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[200:240] = bytes(40)
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"data.npz is no readable .npz .* write it again"):
        open_dataset(path)


class Bomb:
    """An object whose unpickling would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bombs = np.array([Bomb(trace)], dtype=object)
    np.savez(tmp_path / "data.npz", vectors=bombs, labels=LABELS)
    with pytest.raises(UserError, match="plain arrays"):
        open_dataset(tmp_path / "data.npz")
    assert not trace.exists()
    pickle.loads(pickle.dumps(bombs))
    assert trace.exists(), "unpickling would have left a trace"
