import json
import os
import threading
from pathlib import Path

import pytest

from fewlabel.errors import UserError
from fewlabel.files import (
    file_stems,
    locked,
    replacing,
    replacing_folder,
    write_json,
    write_text,
)


def test_the_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_text, write_json])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, write: object) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: .*choose another folder"):
        write(tmp_path / "file" / "a.txt", "text")  # type: ignore[operator]


def test_what_is_written_can_be_read_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    with replacing(tmp_path / "alone") as temporary:
        temporary.touch(0o600)
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").touch(0o600)
    modes = {
        path.stat().st_mode for path in (plain, tmp_path / "alone", tmp_path / "folder/inner")
    }
    assert len(modes) == 1


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"ß": [1, 2.5, None, "x"]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def fill(folder: Path, text: str, fail: bool = False) -> None:
    with replacing_folder(folder) as temporary:
        (temporary / f"{text}.txt").write_text(text)
        if fail:
            raise RuntimeError("half way")


def test_names_of_classes_make_safe_names_of_files(tmp_path: Path) -> None:
    names = [
        "a_b-5",
        "heron",
        "../../x",
        "/etc/x",
        "a/b",
        "a_b",
        "A_B",
        ".h",
        "é" * 200,
        "é" * 201,
        "",
        "日",
    ]
    stems = file_stems(names)
    for stem in stems:
        (tmp_path / f"{stem}-0000.png").write_text(stem)
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{s}-0000.png" for s in stems)
    assert (stems[1], stems[4], stems[-1]) == ("heron", "a_b", "日")
    assert not any(stem.startswith(".") for stem in stems)


def test_a_folder_has_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    with locked(folder), pytest.raises(UserError, match="another process"), locked(folder):
        pass
    with locked(folder):  # and is free again
        pass


def test_who_is_patient_waits_for_the_folder(tmp_path: Path) -> None:
    told: list[str] = []

    def work() -> None:
        with locked(tmp_path, patient=True):
            told.append("second")

    other = threading.Thread(target=work)
    with locked(tmp_path):
        other.start()
        other.join(0.2)
        told.append("first")
    other.join()
    assert told == ["first", "second"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "f"
    fill(folder, "one")
    fill(folder, "two")
    assert [p.name for p in folder.iterdir()] == ["two.txt"]
    assert [p.name for p in folder.parent.iterdir()] == ["f"]


def test_a_folder_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    fill(tmp_path / "f", "one")
    with pytest.raises(RuntimeError, match="half way"):
        fill(tmp_path / "f", "two", fail=True)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["one.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / ".f.new").mkdir()
    (tmp_path / ".f.new" / "old.txt").write_text("old")
    fill(tmp_path / "f", "one")
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["one.txt"]
    assert os.listdir(tmp_path) == ["f"]
