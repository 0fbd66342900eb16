import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import Refuses

from fewlabel.data import Dataset, draw_splits, open_dataset
from fewlabel.data.pickled_arrays import unpickle_arrays

GENERATOR = np.random.default_rng(0)
N = 20
PIXELS = GENERATOR.integers(0, 256, (6 * N, 32, 32, 3), dtype=np.uint8)
PLANES = PIXELS.transpose(0, 3, 1, 2).reshape(6 * N, 3072)
LABELS = np.arange(6 * N, dtype=np.uint8) % 10
NAMES = tuple(f"kind {label}" for label in range(10))
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def write_binary(folder: Path) -> None:
    for i, name in enumerate(BATCHES):
        rows = slice(i * N, i * N + N)
        content = np.concatenate([LABELS[rows, None], PLANES[rows]], axis=1)
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")


def write_python(folder: Path) -> None:
    for i, name in enumerate(BATCHES):
        rows = slice(i * N, i * N + N)
        batch = {b"labels": LABELS[rows].tolist(), b"data": PLANES[rows]}
        frame = pickle.dumps(batch, protocol=4) if i % 2 else pickle.dumps(batch, protocol=3)
        (folder / name).write_bytes(frame)
    meta = {b"label_names": [name.encode() for name in NAMES]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=3))


@pytest.fixture(params=[write_binary, write_python])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "cifar"
    root.mkdir()
    request.param(root)
    return root


def opened(folder: Path, size: int | None = None) -> Dataset:
    return open_dataset(f"cifar10:{folder}", size)


def test_pixels_labels_and_names_come_in_order(folder: Path) -> None:
    dataset = opened(folder)
    np.testing.assert_array_equal(dataset.values, PIXELS)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.class_names == NAMES
    assert opened(folder, 16).shape == (3, 16, 16)


def test_the_own_test_part_never_trains(folder: Path) -> None:
    splits = draw_splits(opened(folder), "2/class", seed=1)
    assert list(splits.test) == list(range(5 * N, 6 * N))
    assert {*splits.train, *splits.validation} == set(range(5 * N))


def test_both_versions_are_the_same_dataset(tmp_path: Path) -> None:
    folders = [tmp_path / "bin", tmp_path / "py"]
    for root, write in zip(folders, (write_binary, write_python), strict=True):
        root.mkdir()
        write(root)
    assert opened(folders[0]).fingerprint == opened(folders[1]).fingerprint
    for root in folders:
        next(root.glob("batches.meta*")).unlink()
        assert opened(root).class_names[:3] == ("airplane", "automobile", "bird")


PYTHON_2 = (  # {'data': array, 'labels': [1, 2]} in protocol 2; the strings are bytes
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02%bK\x00K\x01\x87R"
    b"(K\x03U\x01%bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb%bU%btbU\x06labels](K\x01K\x02eu."
)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("kind", ["|u1", "<i4", ">i4"])
def test_the_arrays_of_python_2_are_read(kind: str, order: str, tmp_path: Path) -> None:
    matrix = np.array([[1, 2, 3], [4, 5, 6]], dtype=kind)
    content = bytes([matrix.nbytes]) + matrix.tobytes(order)
    flag = b"\x88" if order == "F" else b"\x89"
    (tmp_path / "a").write_bytes(PYTHON_2 % (kind[1:].encode(), kind[:1].encode(), flag, content))
    found = unpickle_arrays(tmp_path / "a")
    np.testing.assert_array_equal(found["data"], matrix)
    assert found["labels"] == [1, 2]


@pytest.mark.parametrize("binary", [True, False])
def test_cifar100_takes_the_fine_labels(binary: bool, tmp_path: Path) -> None:
    fine, coarse = np.arange(N, dtype=np.uint8) + 80, np.zeros(N, np.uint8)
    for name in ("train", "test"):
        if binary:
            rows = np.concatenate([coarse[:, None], fine[:, None], PLANES[:N]], axis=1)
            (tmp_path / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            batch = {b"coarse_labels": coarse, b"fine_labels": fine.tolist(), b"data": PLANES[:N]}
            (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=4))
    dataset = open_dataset(f"cifar100:{tmp_path}")
    np.testing.assert_array_equal(dataset.labels + 80, [*fine, *fine])
    np.testing.assert_array_equal(dataset.values[N:], PIXELS[:N])
    assert dataset.class_names == tuple(map(str, range(80, 100)))
    assert dataset.notes == ("80 of 100 classes have no example and are left out: 0, 1, 2, …",)
    assert dataset.test is not None
    assert list(dataset.test) == list(range(N, 2 * N))


class Calls:
    """Unpickled as a call of a function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "asked"),
    [(os.system, "system"), (eval, "eval"), (getattr, "getattr"), (np.load, "load")],
)
def test_a_malicious_pickle_is_refused_and_runs_nothing(
    function: Callable, asked: str, protocol: int, tmp_path: Path, refuses: Refuses
) -> None:
    write_python(tmp_path)
    trace = tmp_path / "trace"
    argument = {
        "system": (f"touch {trace}",),
        "eval": (f"open({str(trace)!r}, 'w')",),
        "getattr": (Path, "touch"),
        "load": (str(trace), None, True),
    }[asked]
    content = {"data": PLANES[:N], "labels": [0], "more": Calls(function, *argument)}
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content, protocol=protocol))
    with refuses("data_batch_3 is no pickle of plain arrays", "it asks for", "nothing in it"):
        opened(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"cnumpy\ndtype.__class__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        b"cnumpy\nndarray\n((I9\nI9\nttR.",
        b"cnumpy\ndtype\n(S'O'\ntR.",
        b"cnumpy\ndtype\n(S'V999999999'\ntR.",
        b"",
        b"hello",
        b"\x80\x02}U\x01acnumpy\nndarray\nK\x01\x85R.",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": np.array([{}], dtype=object)}),
        pickle.dumps({"a": PLANES[:2]}, protocol=4)[:-500],
    ],
)
def test_whatever_is_no_pickle_of_arrays_is_refused_in_one_line(
    content: bytes, tmp_path: Path, refuses: Refuses
) -> None:
    (tmp_path / "file").write_bytes(content)
    with refuses("file", "fetch it"):
        unpickle_arrays(tmp_path / "file")


def test_refuses_what_does_not_fit(tmp_path: Path, refuses: Refuses) -> None:
    with refuses("has no data_batch_1", "give the folder that holds"):
        opened(tmp_path)
    write_binary(tmp_path)
    whole = (tmp_path / "data_batch_2.bin").read_bytes()
    (tmp_path / "data_batch_2.bin").write_bytes(whole[:-1])
    with refuses("data_batch_2.bin", "no multiple of 3073", "fetch it again"):
        opened(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes([10]) + whole[1:])
    with refuses("data_batch_2.bin", "label 10 in row 0", "0 to 9"):
        opened(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    with refuses("has no data_batch_2.bin"):
        opened(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(whole)
    (tmp_path / "batches.meta.txt").write_text("one\ntwo\n")
    with refuses("batches.meta.txt names 2 classes instead of 10"):
        opened(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("\n".join([*"abcde", "", *"fghij"]))
    with refuses("batches.meta.txt, line 6 is blank"):
        opened(tmp_path)
    shutil.rmtree(tmp_path)
    with refuses("cifar10:", "check the path"):
        opened(tmp_path)


def test_a_pickle_of_other_arrays_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    write_python(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"x": PLANES[:2]}, protocol=4))
    with refuses("data_batch_1 holds x", "`data` (N, 3072)"):
        opened(tmp_path)
    wrong = {"data": PLANES[:2], "labels": [1, 2, 3]}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(wrong, protocol=4))
    with refuses("data_batch_1", "not one integer an image"):
        opened(tmp_path)
