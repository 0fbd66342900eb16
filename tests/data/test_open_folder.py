import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import cache_folder, draw_splits, open_folder


def grey(level: int, size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new("L", size, level)


def broken_png(folder: Path) -> bytes:
    """A valid header and no end."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    path = folder / "whole.png"
    Image.fromarray(noise).save(path)
    return path.read_bytes()[:700]


PETS: dict[str, Image.Image | bytes] = {
    "dog/2.png": grey(40),
    "dog/1.JPEG": grey(30),
    "cat/deep/x.bmp": grey(20),
    "cat/b.png": grey(10),
    "unlabeled/z.png": grey(50),
    "Unlabelled/y.png": grey(60),
    ".hidden/h.png": grey(99),
    "dog/.thumbnail.png": grey(99),
    "dog/notes.txt": b"good dog",
}


class Counter:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


def test_files_pixels_and_labels_belong_together_in_sorted_order(make_folder: MakeFolder) -> None:
    dataset = open_folder(make_folder(PETS))
    assert dataset.files == (
        "cat/b.png",
        "cat/deep/x.bmp",
        "dog/1.JPEG",
        "dog/2.png",
        "Unlabelled/y.png",
        "unlabeled/z.png",
    )
    assert dataset.name == "pets"
    assert dataset.class_names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1, -1, -1])
    np.testing.assert_array_equal(dataset.values[:, 0, 0, 0], [10, 20, 30, 40, 60, 50])
    assert dataset.values.shape == (6, 4, 4, 1)


def test_one_coloured_image_makes_the_dataset_coloured(make_folder: MakeFolder) -> None:
    root = make_folder({**PETS, "dog/3.png": Image.new("RGB", (4, 4), (1, 2, 3))})
    images = open_folder(root).values
    np.testing.assert_array_equal(images[:, 0, 0], [[v] * 3 for v in (10, 20, 30, 40)] + [
        [1, 2, 3], [60] * 3, [50] * 3,
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([(10, 30), (50, 10), (12, 12)], 10),
        ([(8, 8), (8, 8), (12, 20), (12, 12)], 12),  # as frequent: the larger
        ([(100, 90), (90, 200), (5, 5)], 64),
    ],
)
def test_default_size_is_the_most_frequent_short_side(
    sides: list[tuple[int, int]], expected: int, make_folder: MakeFolder
) -> None:
    files = {f"{'ab'[i % 2]}/{i}.png": grey(9, side) for i, side in enumerate(sides)}
    assert open_folder(make_folder(files)).shape == (1, expected, expected)


def test_second_open_maps_the_cache_and_decodes_nothing(
    make_folder: MakeFolder, cache: Path
) -> None:
    root = make_folder(PETS)
    first, second = Counter(), Counter()
    once, again = open_folder(root, progress=first), open_folder(root, progress=second)
    assert first.calls == [(n, 6) for n in range(1, 7)]
    assert second.calls == []
    assert isinstance(again.values, np.memmap)
    assert Path(str(again.values.filename)).parent == cache
    np.testing.assert_array_equal(once.values, again.values)
    open_folder(root, size=4, progress=second)  # the side that it has by itself
    assert second.calls == []
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".json", ".npy"]


def test_a_changed_file_of_the_same_length_is_decoded_again(make_folder: MakeFolder) -> None:
    root = make_folder({"a/1.bmp": grey(1), "b/1.bmp": grey(2)})
    before = open_folder(root)
    grey(7).save(root / "a/1.bmp")
    stat = (root / "a/1.bmp").stat()
    os.utime(root / "a/1.bmp", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    after = open_folder(root)
    assert (before.values[0, 0, 0, 0], after.values[0, 0, 0, 0]) == (1, 7)


def test_a_touched_file_is_decoded_again_but_the_dataset_is_the_same(
    make_folder: MakeFolder,
) -> None:
    root = make_folder(PETS)
    before, count = open_folder(root), Counter()
    os.utime(root / "dog/2.png", ns=(1, 1))
    after = open_folder(root, progress=count)
    assert len(count.calls) == 6
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after.values, before.values)


def test_fingerprint_knows_a_copy_from_a_change(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(PETS)
    original = open_folder(root).fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "another cache"))
    assert open_folder(copy).fingerprint == original
    assert open_folder(copy, size=4).fingerprint == original
    assert open_folder(copy, size=6).fingerprint != original
    (copy / "dog").rename(copy / "hound")
    renamed = open_folder(copy).fingerprint
    (copy / "hound").rename(copy / "dog")
    (copy / "dog/2.png").unlink()
    assert len({original, renamed, open_folder(copy).fingerprint}) == 3


def test_folders_alike_but_for_their_pixels_do_not_share_a_cache_entry(
    make_folder: MakeFolder,
) -> None:
    roots = [
        make_folder({"a/1.bmp": grey(level), "b/1.bmp": grey(2)}, name)
        for level, name in [(5, "x"), (6, "y")]
    ]
    for path in [path for root in roots for path in root.rglob("*.bmp")]:
        os.utime(path, ns=(0, 0))  # as after unpacking a reproducible archive
    assert [open_folder(root).values[0, 0, 0, 0] for root in roots] == [5, 6]


@pytest.mark.parametrize(
    ("entry", "damage"),
    [("npy", b"\x93NUMPY"), ("npy", b""), ("json", b"{"), ("json", b'{"0": "not in the array"}')],
)
def test_a_damaged_cache_entry_is_made_again(
    entry: str, damage: bytes, make_folder: MakeFolder, cache: Path
) -> None:
    root = make_folder(PETS)
    expected = np.array(open_folder(root).values)
    (array,) = cache.glob("*.npy")
    path = array.with_suffix(f".{entry}")
    path.unlink()  # not truncated in place: the first array still maps it
    path.write_bytes(damage)
    np.testing.assert_array_equal(open_folder(root).values, expected)


@pytest.mark.parametrize("fault", ["empty", "text", "truncated"])
def test_a_broken_image_is_named_and_nothing_is_kept(
    fault: str, make_folder: MakeFolder, cache: Path, tmp_path: Path, refuses: Refuses
) -> None:
    content = {"empty": b"", "text": b"<html>404</html>", "truncated": broken_png(tmp_path)}[fault]
    reason = {"empty": "an empty file", "text": "not an image", "truncated": "truncated"}[fault]
    root = make_folder({**PETS, "cat/c.png": content})
    with refuses(f"{root}/cat/c.png", reason, "1 of 7", "remove or replace it"):
        open_folder(root, strict=True)
    assert list(cache.iterdir()) == []


def test_broken_images_are_counted_and_left_out_on_request(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder({**PETS, "cat/a.png": b"", "dog/9.png": b"?", "unlabeled/a.png": b"?"})
    with refuses("cat/a.png", "3 of 9", "remove or replace them"):
        open_folder(root, strict=True)
    clean = open_folder(make_folder(PETS, "clean"))
    for _ in ("decoded", "from the cache"):
        dataset = open_folder(root)
        assert dataset.skipped == ("cat/a.png", "dog/9.png", "unlabeled/a.png")
        assert dataset.files == clean.files
        assert dataset.fingerprint == clean.fingerprint
        np.testing.assert_array_equal(dataset.values, clean.values)
        np.testing.assert_array_equal(dataset.labels, clean.labels)
    with refuses("cat/a.png", "3 of 9", "leave --strict out"):
        open_folder(root, strict=True)


def test_a_class_of_broken_images_only_is_refused(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder({**PETS, "eel/1.png": b"?"})
    with refuses("class without a label", "eel has no images but broken ones (1 of "):
        open_folder(root)


def test_broken_images_only_are_refused(make_folder: MakeFolder, refuses: Refuses) -> None:
    root = make_folder({"a/1.png": b"?", "b/1.png": b"?"})
    with refuses("a/1.png", "2 of 2"):
        open_folder(root)


@pytest.mark.parametrize(
    ("files", "fragments"),
    [
        ({}, ["holds no images", "unlabeled/"]),
        ({"a/readme.txt": b"hello", "b/.1.png": b""}, ["holds no images", "png"]),
        (
            {"a/1.png": grey(1), "b/x.txt": b""},
            ["class without a label", "/b has no images", "add at least one"],
        ),
        ({**PETS, "q.png": grey(1), "r.png": grey(1)}, ["2 images", "q.png", "move each"]),
    ],
)
def test_a_wrong_layout_is_explained(
    files: dict[str, Image.Image | bytes],
    fragments: list[str],
    make_folder: MakeFolder,
    refuses: Refuses,
) -> None:
    root = make_folder(files)
    with refuses(str(root), *fragments):
        open_folder(root)


@pytest.mark.parametrize(
    ("files", "fragments"),
    [
        ({"1.png": grey(1)}, ["no class sub-folders", "sub-folder of its own"]),
        ({"unlabeled/1.png": grey(1)}, ["no class sub-folders", "sub-folder of its own"]),
        ({"a/1.png": grey(1), "unlabeled/1.png": grey(1)}, ["only one class", ", a:", "add"]),
    ],
)
def test_a_folder_of_too_few_classes_opens_and_does_not_train(
    files: dict[str, Image.Image | bytes],
    fragments: list[str],
    make_folder: MakeFolder,
    refuses: Refuses,
) -> None:
    dataset = open_folder(make_folder(files))
    assert (len(dataset), set(dataset.labels) <= {0, -1}) == (len(files), True)
    with refuses(
        "folder pets", "--labels FILE.csv" if "a/1.png" in files else "--labels", *fragments
    ):
        draw_splits(dataset, "all", 0)


def test_a_class_whose_name_cannot_be_shown_is_refused(
    make_folder: MakeFolder, refuses: Refuses
) -> None:
    root = make_folder({"a/1.png": grey(1)})
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    with refuses("caf\\udce9 is not UTF-8", "rename it"):
        open_folder(root)


def test_what_is_no_folder_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    with refuses("nowhere does not exist", "check the path"):
        open_folder(tmp_path / "nowhere")
    (tmp_path / "data.zip").write_bytes(b"")
    with refuses("data.zip is a file, not a folder", "give the folder"):
        open_folder(tmp_path / "data.zip")


def test_a_size_that_is_not_positive_is_refused(make_folder: MakeFolder, refuses: Refuses) -> None:
    with refuses("size 0", "32"):
        open_folder(make_folder(PETS), size=0)


def test_a_dangling_link_is_named(make_folder: MakeFolder, refuses: Refuses) -> None:
    root = make_folder(PETS)
    (root / "cat/gone.png").symlink_to(root / "nothing")
    with refuses("cat/gone.png", "cannot be read", "remove it"):
        open_folder(root)


def test_linked_folders_are_read_but_not_round_in_circles(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder(PETS)
    pool = tmp_path / "elsewhere"
    pool.mkdir()
    grey(70).save(pool / "w.png")
    (root / "unlabeled/pool").symlink_to(pool)
    (root / "cat/deep/up").symlink_to(root / "cat")
    files = open_folder(root).files or ()
    assert [name for name in files if name.startswith("unlabeled")] == [
        *("unlabeled/pool/w.png", "unlabeled/z.png")
    ]
    assert [name for name in files if name.startswith("cat")] == ["cat/b.png", "cat/deep/x.bmp"]


def test_a_class_with_a_line_break_is_refused(make_folder: MakeFolder, refuses: Refuses) -> None:
    with refuses(r"class 'a\nb' holds a line break", "rename it"):
        open_folder(make_folder({"a\nb/1.png": grey(1), "c/1.png": grey(2)}))


def test_a_cache_that_cannot_be_written_is_named(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "taken"))
    with refuses("taken cannot be written", "set FEWLABEL_CACHE"):
        open_folder(make_folder(PETS))


def test_a_full_disk_is_noticed_before_it_kills(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    full = type(shutil.disk_usage("/"))(100, 99, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with refuses("needs", "MB", "make room"):
        open_folder(make_folder(PETS))


def test_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "the cache"
    monkeypatch.delenv("FEWLABEL_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "fewlabel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fewlabel"
