"""What files claim is checked before memory is taken, against a limit that can be raised."""

import gzip
import io
import struct
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import open_dataset
from fewlabel.data.decoded import _what_is_wrong
from fewlabel.data.image_memory import Budget
from fewlabel.data.images import TooLarge, decode
from fewlabel.errors import TrainingError, UserError
from fewlabel.limits import check_claim, max_bytes, read_text

MB = 2**20


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda megabytes: monkeypatch.setenv("FEWLABEL_MAX_MB", str(megabytes))


def png(width: int, height: int, bits: int, colour: int, n_channels: int) -> bytes:
    """A black PNG, made row by row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    row = bytes(1 + width * bits * n_channels // 8)
    packed = zlib.compressobj()
    body = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("bits", "colour", "n_channels", "bytes_a_pixel"),
    [(8, 0, 1, 2), (16, 0, 1, 3), (8, 2, 3, 8), (8, 6, 4, 8)],
)
def test_an_image_is_read_up_to_the_limit_in_bytes_and_not_beyond(
    limit: Callable[[int], None], bits: int, colour: int, n_channels: int, bytes_a_pixel: int
) -> None:
    """As Pillow stores its pixels, and its central square as grey or RGB beside them."""
    limit(4)
    side = int((4 * MB / bytes_a_pixel) ** 0.5)
    pixels = decode(io.BytesIO(png(side, side, bits, colour, n_channels)), 4)
    assert (pixels == (255 if n_channels == 4 else 0)).all()  # black, or transparent
    with pytest.raises(TooLarge) as refused:
        decode(io.BytesIO(png(side + 1, side + 1, bits, colour, n_channels)), 4)
    message = f"too large: {side + 1:,}×{side + 1:,} pixels would take 5 MB of memory, limit 4 MB"
    assert message in str(refused.value)
    assert "set FEWLABEL_MAX_MB=5" in str(refused.value)
    limit(5)
    decode(io.BytesIO(png(side + 1, side + 1, bits, colour, n_channels)), 4)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_smaller_but_for_one_whose_scans_are_all_kept(
    limit: Callable[[int], None], progressive: bool
) -> None:
    limit(4)
    stream = io.BytesIO()
    Image.new("RGB", (1500, 1500), "white").save(stream, "JPEG", progressive=progressive)
    if progressive:
        with pytest.raises(TooLarge, match="1,500×1,500 pixels would take 14 MB"):
            decode(stream, 8)
    else:
        assert decode(stream, 8).min() == 255


@pytest.mark.parametrize(("kind", "megabytes"), [("WEBP", 20), ("TIFF", 11)])
def test_what_a_decoder_keeps_beside_the_pixels_counts(
    limit: Callable[[int], None], kind: str, megabytes: int
) -> None:
    stream = io.BytesIO()
    facts = {"compression": "tiff_lzw"} if kind == "TIFF" else {"lossless": True}
    Image.new("RGB", (1024, 1024), "white").save(stream, kind, **facts)
    limit(megabytes - 1)
    with pytest.raises(TooLarge, match=f"would take {megabytes} MB"):
        decode(stream, 4)
    limit(megabytes)
    assert decode(stream, 4).min() == 255


def test_a_large_whole_image_gives_no_warning_and_pillows_limit_stays(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it warns above, and refuses above twice
    for side in (40, 60):
        assert decode(io.BytesIO(png(side, side, 8, 0, 1)), 4).shape == (4, 4, 1)
    assert not recwarn.list
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_too_large_image_is_left_out_with_its_reason(
    make_folder: MakeFolder, limit: Callable[[int], None], refuses: Refuses
) -> None:
    grey = Image.new("L", (8, 8), 200)
    large = png(2000, 2000, 8, 2, 3)
    names = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    folder = make_folder({**dict.fromkeys(names, grey), "b/large.png": large})
    limit(8)
    dataset = open_dataset(folder)
    assert dataset.skipped == ("b/large.png",)
    (note,) = dataset.notes
    left_out = f"{folder}/b/large.png is left out, too large: 2,000×2,000 pixels would take 31 "
    assert note.startswith(left_out)
    with refuses("large.png", "too large: 2,000×2,000"):
        open_dataset(folder, size=4, strict=True)
    limit(512)  # what was too large then is read now
    again = open_dataset(folder)
    assert (len(again), again.skipped, again.notes) == (5, (), ())


def test_an_almost_black_folder_is_told(make_folder: MakeFolder) -> None:
    dark = {f"{name}/{i}.png": Image.new("L", (4, 4), 9 + i) for name in "ab" for i in range(3)}
    (note,) = open_dataset(make_folder(dark)).notes
    assert "the brightest pixel of all images is 11 of 255" in note


def test_an_absurd_size_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(4) % 2)
    with refuses("size 1000000 is above 4096"):
        open_dataset(tmp_path / "a.npz", size=1_000_000)


def test_threads_wait_for_memory_that_others_have(limit: Callable[[int], None]) -> None:
    limit(10)
    budget, order = Budget(), []

    def later() -> None:
        with budget.taken(6 * MB):
            order.append("second")

    with budget.taken(6 * MB):
        thread = threading.Thread(target=later)
        thread.start()
        with budget.taken(4 * MB):  # this much is left
            order.append("beside the first")
        thread.join(0.1)
        assert thread.is_alive()
        order.append("first ends")
    thread.join(10)
    assert order == ["beside the first", "first ends", "second"]
    with budget.taken(11 * MB):  # alone, more than there is
        pass


def test_too_little_memory_is_no_fault_of_the_file() -> None:
    with pytest.raises(TrainingError, match=r"not enough memory to read a\.png: close other"):
        _what_is_wrong(MemoryError(), io.BytesIO(b"x"), "a.png")


def archive(path: Path, **members: tuple[tuple[int, ...], str, int]) -> Path:
    """An .npz whose members have these shapes and kinds in their heads, and so many zero bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, (shape, kind, n_bytes) in members.items():
            head = io.BytesIO()
            facts = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(head, facts)
            file.writestr(f"{name}.npy", head.getvalue() + bytes(n_bytes))
    return path


LABELS = ((4,), "<i8", 32)


def test_an_npz_is_checked_before_it_is_unpacked(
    tmp_path: Path, limit: Callable[[int], None], refuses: Refuses
) -> None:
    limit(2)
    bomb = archive(tmp_path / "bomb.npz", images=((4, 2**10, 2**10), "|u1", 4 * MB), labels=LABELS)
    tracemalloc.start()
    with refuses("bomb.npz: images.npy would take 4 MB", "limit 2 MB", "FEWLABEL_MAX_MB=4"):
        open_dataset(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MB
    with refuses("bomb.npz: its arrays would take 5 MB"):
        limit(4)
        open_dataset(bomb)
    limit(5)
    assert open_dataset(bomb, size=4).values.shape == (4, 4, 4, 1)


def test_what_is_made_of_an_array_counts(
    tmp_path: Path, limit: Callable[[int], None], refuses: Refuses
) -> None:
    """Vectors in float32, a label, a hash and places for each row, names as text."""
    limit(3)
    vectors = archive(tmp_path / "v.npz", vectors=((4, MB // 4), "|i1", MB), labels=LABELS)
    with refuses("v.npz: vectors.npy would take 5 MB"):
        open_dataset(vectors)
    n = MB // 16
    rows = archive(tmp_path / "r.npz", images=((n, 1, 1), "|u1", n), labels=((n,), "|i1", n))
    with refuses("r.npz: labels.npy would take 11 MB"):
        open_dataset(rows)
    images = ((4, 8, 8), "|u1", 256)
    names = archive(tmp_path / "n.npz", images=images, labels=LABELS, class_names=((n,), "|S1", n))
    with refuses("n.npz: class_names.npy would take 20 MB"):
        open_dataset(names)


def test_of_an_npz_only_what_is_used_is_read(tmp_path: Path, limit: Callable[[int], None]) -> None:
    limit(1)
    others = {"extra": ((4 * MB,), "|u1", 4 * MB)}
    path = archive(tmp_path / "a.npz", images=((4, 8, 8), "|u1", 256), labels=LABELS, **others)
    tracemalloc.start()
    assert len(open_dataset(path)) == 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MB


@pytest.mark.parametrize(("claimed", "there"), [((2**40, 8, 8), 256), ((4, 8, 8), 255)])
def test_a_head_that_claims_more_than_the_member_has_is_refused(
    tmp_path: Path, refuses: Refuses, claimed: tuple[int, ...], there: int
) -> None:
    path = archive(tmp_path / "a.npz", images=(claimed, "|u1", there), labels=LABELS)
    with refuses("a.npz", f"claims {np.prod(claimed, dtype=object):,} bytes and has {there}"):
        open_dataset(path)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    path = archive(tmp_path / "a.npz", labels=LABELS)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("images", b"hello, this is a text")
    with refuses("a.npz is no readable .npz of plain arrays", "magic"):
        open_dataset(path)


@pytest.mark.parametrize("label", [10**9, 2**62])
def test_a_large_label_is_a_class_and_takes_no_memory(tmp_path: Path, label: int) -> None:
    labels = np.array([0, 1, label, 1], np.uint64)
    np.savez(tmp_path / "a.npz", images=np.full((4, 8, 8), 99, np.uint8), labels=labels)
    dataset = open_dataset(tmp_path / "a.npz")
    assert dataset.class_names == ("0", "1", str(label))
    assert dataset.labels.tolist() == [0, 1, 2, 1]
    (note,) = dataset.notes
    assert note.startswith(f"{label - 2} of {label + 1} classes have no example")


def test_a_number_beyond_float32_is_refused_by_its_row(tmp_path: Path, refuses: Refuses) -> None:
    vectors = np.ones((5, 2))
    vectors[3, 1] = 1e300
    np.savez(tmp_path / "a.npz", vectors=vectors, labels=np.arange(5) % 2)
    with refuses("vectors row 3 is beyond float32", "scale"):
        open_dataset(tmp_path / "a.npz")


def test_class_names_in_bytes_are_utf_8(tmp_path: Path, refuses: Refuses) -> None:
    arrays = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4) % 2}
    for code in ("utf-8", "latin-1"):
        names = np.array(["héron".encode(code), b"duck"])
        np.savez(tmp_path / f"{code}.npz", class_names=names, **arrays)
    assert open_dataset(tmp_path / "utf-8.npz").class_names == ("héron", "duck")
    with refuses("latin-1.npz: class_names are not UTF-8"):
        open_dataset(tmp_path / "latin-1.npz")


@pytest.mark.parametrize("brightest", [1, 31, 32])
def test_a_note_says_that_all_images_are_nearly_black(tmp_path: Path, brightest: int) -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    images[2, 3, 4] = brightest
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(4) % 2)
    notes = open_dataset(tmp_path / "a.npz").notes
    if brightest == 32:
        assert notes == ()
    else:
        assert f"brightest pixel of all images is {brightest} of 255" in notes[0]


def idx(folder: Path, claimed: int, there: int) -> Path:
    """A folder of IDX files that claim so many images of 1024 pixels."""
    folder.mkdir(exist_ok=True)
    head = struct.pack(">4B3I", 0, 0, 8, 3, claimed, 32, 32)
    packed = gzip.compress(head + bytes(1024 * there))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(packed)
    labels = struct.pack(">4BI", 0, 0, 8, 1, claimed) + bytes(i % 2 for i in range(claimed))
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    return folder


def test_of_idx_in_gzip_no_more_is_unpacked_than_its_head_claims(
    tmp_path: Path, refuses: Refuses
) -> None:
    folder = idx(tmp_path / "small", claimed=10, there=16_000)
    tracemalloc.start()
    with refuses("train-images-idx3-ubyte.gz holds more than 10240 bytes", "10 × 32 × 32"):
        open_dataset(f"mnist:{folder}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MB


def test_what_an_idx_file_claims_is_checked(
    tmp_path: Path, refuses: Refuses, limit: Callable[[int], None]
) -> None:
    folder = idx(tmp_path / "claims", claimed=2048, there=2048)
    limit(1)
    with refuses("idx3-ubyte.gz: the values would take 5 MB", "limit 1 MB"):
        open_dataset(f"mnist:{folder}")  # twice, as a test part may join them, and rows
    limit(5)
    assert len(open_dataset(f"mnist:{folder}", size=4)) == 2048


def test_a_file_of_holes_is_no_large_file(
    tmp_path: Path, refuses: Refuses, limit: Callable[[int], None]
) -> None:
    limit(2)
    for part in range(1, 6):
        with (tmp_path / f"data_batch_{part}.bin").open("wb") as file:
            file.truncate(3073 * 1000)
    with refuses("data_batch_1.bin: its content would take 3 MB"):
        open_dataset(f"cifar10:{tmp_path}")


def test_a_large_file_may_unpack_to_a_few_times_its_size(
    tmp_path: Path, limit: Callable[[int], None]
) -> None:
    limit(1)
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(MB))
    check_claim(path, "it", 8 * MB)
    with pytest.raises(UserError, match="it would take 9 MB of memory"):
        check_claim(path, "it", 9 * MB)
    with pytest.raises(UserError, match="its text would take 8 MB of memory, limit 1 MB"):
        read_text(path)


@pytest.mark.parametrize("value", ["many", "-1", "0", "1.5", "9" * 5000])
def test_a_limit_that_is_no_number_of_megabytes_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FEWLABEL_MAX_MB", value)
    with pytest.raises(UserError, match=r"FEWLABEL_MAX_MB=.* whole number of megabytes"):
        max_bytes()


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("file,label\n1.png," + "x" * 5000, ["line 2", "'label' has 5,000 letters"]),
        ("file,label\n1.png," + "9" * 5000, ["line 2", "'label' has 5,000 letters"]),
        ("file,label\n1.png," + "x" * 201 + "\n2.png,b", ["has 201 letters", "at most 200"]),
        ("file,label\n" + "x" * 2**20, ["line 2", "longer than"]),
        ("x" * 2**20, ["line 1", "longer than"]),
    ],
)
def test_a_table_with_an_endless_text_is_refused(
    make_folder: MakeFolder, refuses: Refuses, text: str, fragments: list[str]
) -> None:
    grey = Image.new("L", (8, 8), 200)
    folder = make_folder({"1.png": grey, "2.png": grey, "labels.csv": text.encode()})
    with refuses(*fragments):
        open_dataset(folder)
