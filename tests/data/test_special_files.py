"""Pipes, sockets, devices and links among the pictures, and where a file is asked for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.config import read_yaml
from fewlabel.data import Dataset, open_dataset, open_folder
from fewlabel.data.table import rows_of
from fewlabel.data.walk import Walk
from fewlabel.extractors.inception import inception_extractor
from fewlabel.interop.diffusers_folder import read_folder
from fewlabel.interop.tensors import read_pickled, read_weights
from fewlabel.run_folder import RunFolder
from fewlabel.training.checkpoint import Checkpoints


def grey(level: int) -> Image.Image:
    image = Image.new("L", (4, 4), level)
    image.putpixel((3, 3), 255)  # or the images would be told to be dark
    return image


PETS: dict[str, Image.Image | bytes] = {
    "cat/0.png": grey(0),
    "cat/1.png": grey(1),
    "dog/2.png": grey(2),
    "unlabeled/3.png": grey(3),
}


def known(dataset: Dataset) -> dict[int, str | None]:
    """The class of each image, by its grey level."""
    names = (*dataset.class_names, None)
    levels = dataset.values[:, 0, 0, 0].tolist()
    assert len(levels) == len(set(levels))
    return {level: names[label] for level, label in zip(levels, dataset.labels, strict=True)}


PETS_KNOWN = {0: "cat", 1: "cat", 2: "dog", 3: None}


def bind(path: Path) -> None:
    """Make a socket; its name may be longer than a socket's address can be."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def test_what_is_no_regular_file_is_left_out_and_counted(make_folder: MakeFolder) -> None:
    root = make_folder({**PETS, "cat/notes.txt": b"good cat"})
    os.mkfifo(root / "cat/z.png")
    os.mkfifo(root / "dog/readme.txt")
    bind(root / "dog/s.png")
    (root / "unlabeled/d.png").symlink_to("/dev/zero")
    dataset = open_folder(root)
    assert known(dataset) == PETS_KNOWN
    assert dataset.unread == {"not a regular file": 4, ".txt": 1}
    assert dataset.skipped == ()


def test_a_pipe_beside_a_table_is_left_out(make_folder: MakeFolder) -> None:
    root = make_folder({"0.png": grey(0), "1.png": grey(1)})
    os.mkfifo(root / "z.png")
    (root / "labels.csv").write_text("file,label\n0.png,a\n1.png,b\n")
    dataset = open_folder(root)
    assert known(dataset) == {0: "a", 1: "b"}
    assert dataset.unread == {"not a regular file": 1}


def read_a_run(path: Path) -> object:
    return RunFolder(path.parent).read_splits()


def read_a_log(path: Path) -> object:
    return RunFolder(path.parent).records()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("labels.csv", lambda path: open_folder(path.parent)),
        ("dataset.json", lambda path: open_folder(path.parent)),
        ("some.csv", lambda path: next(rows_of(path, "file"))),
        ("data.npz", open_dataset),
        ("config.yaml", read_yaml),
        ("pt_inception.pth", inception_extractor),
        ("weights.safetensors", read_weights),
        ("weights.bin", read_weights),
        ("checkpoint.pth", read_pickled),
        ("config.json", lambda path: read_folder(path.parent, None, {})),
        ("labels.json", read_a_run),
        ("metrics.jsonl", read_a_log),
    ],
)
def test_a_pipe_that_a_user_names_is_refused(
    name: str, read: Callable[[Path], object], tmp_path: Path, refuses: Refuses
) -> None:
    path = tmp_path / "given" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with refuses(f"{path} is a pipe, not a regular file", "write its content to a file"):
        read(path)


def test_a_checkpoint_with_a_pipe_for_a_file_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "step-00000001").mkdir()
    os.mkfifo(tmp_path / "step-00000001/checkpoint.json")
    assert Checkpoints(tmp_path).newest() is None


@pytest.mark.parametrize(("made", "kind"), [("/dev/zero", "a device"), ("socket", "a socket")])
def test_devices_and_sockets_are_refused_too(
    made: str, kind: str, tmp_path: Path, refuses: Refuses
) -> None:
    path = tmp_path / "settings.yaml"
    if made == "socket":
        bind(path)
    else:
        path.symlink_to(made)
    with refuses(f"{path} is {kind}"):
        read_yaml(path)


@pytest.mark.parametrize("target", ["..", "../..", "/", ".", "../dog", "../unlabeled"])
def test_a_link_upwards_or_across_gives_no_images_of_others(
    make_folder: MakeFolder, target: str
) -> None:
    root = make_folder(PETS)
    (root / "cat/loop").symlink_to(target)
    dataset = open_folder(root)
    assert known(dataset) == PETS_KNOWN
    (note,) = dataset.notes
    assert "not followed: 1 (cat/loop)" in note


def test_a_link_upwards_beside_a_table(make_folder: MakeFolder) -> None:
    root = make_folder({"0.png": grey(0), "deep/1.png": grey(1)})
    (root / "deep/loop").symlink_to(root)
    (root / "labels.csv").write_text("file,label\n0.png,a\ndeep/1.png,b\n")
    assert known(open_folder(root)) == {0: "a", 1: "b"}


def test_linked_class_folders_outside_the_data_are_read(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    photos = make_folder({"cat/0.png": grey(0), "cat/old/1.png": grey(1), "p.png": grey(9)}, "all")
    (photos / "cat/up").symlink_to(photos)  # would give p.png
    root = make_folder({"dog/2.png": grey(2), "unlabeled/3.png": grey(3)})
    (root / "cat").symlink_to(photos / "cat")
    (root / "dog/shared").symlink_to(photos / "cat/old")  # lies in the folder of the cats
    dataset = open_folder(root)
    assert known(dataset) == PETS_KNOWN
    assert tuple(dataset.files or ())[:2] == ("cat/0.png", "cat/old/1.png")


def test_the_data_may_themselves_be_a_link(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(make_folder(PETS))
    assert known(open_folder(tmp_path / "link")) == PETS_KNOWN
    (tmp_path / "pets/labels.csv").write_text("file,label\ncat/0.png,cat\nunlabeled/3.png,dog\n")
    assert known(open_folder(tmp_path / "link")) == {**PETS_KNOWN, 3: "dog"}


@pytest.mark.parametrize("target", ["dog", "."])
def test_a_class_folder_that_links_to_another_is_refused(
    make_folder: MakeFolder, refuses: Refuses, target: str
) -> None:
    root = make_folder(PETS)
    (root / "ant").symlink_to(root / target)
    with refuses(f"class folder {root}/ant is a link", "remove the link"):
        open_folder(root)


def test_a_fan_of_links_is_walked_once(make_folder: MakeFolder) -> None:
    """Two links a level: 2^40 paths lead to the picture at the end."""
    root = make_folder({**PETS, **{f"fan/{i}/.keep": b"" for i in range(41)}}, "fan")
    grey(9).save(root / "fan/40/9.png")
    for level in range(40):
        for link in "ab":
            (root / f"fan/{level}/{link}").symlink_to(root / f"fan/{level + 1}")
    walk = Walk(root)
    (found,) = walk.images(["fan"])
    assert found == ("fan/40/9.png",)
    assert len(walk.again) == 80


def test_a_fan_outside_the_data_is_walked_once(make_folder: MakeFolder) -> None:
    pool = make_folder({f"{i}/.keep": b"" for i in range(31)}, "pool")
    grey(4).save(pool / "30/4.png")
    for level in range(30):
        for link in "ab":
            (pool / f"{level}/{link}").symlink_to(pool / f"{level + 1}")
    root = make_folder(PETS)
    (root / "dog/pool").symlink_to(pool / "0")
    assert known(open_folder(root)) == {**PETS_KNOWN, 4: "dog"}
