import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import SoftFileLock

from fewlabel import files
from fewlabel.errors import UserError
from fewlabel.files import (
    file_stems,
    locked,
    replacing,
    replacing_folder,
    scratch_folder,
    write_json,
    write_text,
)
from fewlabel.owners import Owner, owned_name, sweep

HOST = re.escape(socket.gethostname())


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
    refused = pytest.raises(UserError, match=f"worked in by process {os.getpid()} .*on {HOST}")
    with locked(folder), refused, locked(folder):
        pass
    with locked(folder):  # and is free again
        pass


def test_who_is_patient_waits_for_the_folder_and_says_for_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"waiting: {tmp_path} is being worked in by process {os.getpid()} (")
    assert f") on {socket.gethostname()}, since {time.strftime('%Y-')}" in said
    assert os.listdir(tmp_path) == [".lock"]


def test_a_lock_without_a_holder_that_can_be_found_tells_the_way_out(tmp_path: Path) -> None:
    """Where a disk has no locks of the system, a file is the lock: of another machine it stays."""
    (tmp_path / ".lock").write_text("17\nelsewhere\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "FileLock", SoftFileLock)
        lock = re.escape(str(tmp_path / ".lock"))
        with pytest.raises(UserError, match=f"if that process is gone, remove {lock}"):
            locked(tmp_path).__enter__()


def other_place(name: str) -> str:
    """The same temporary name, of a process on another machine."""
    return name.replace(Owner.this().place, "0123abcd")


def test_what_the_dead_left_is_swept_and_nothing_else(
    tmp_path: Path, left_by_the_dead: Callable[[str], str]
) -> None:
    """Files of another machine go after days; those of a living process stay."""
    dead, folder, living = (
        left_by_the_dead("a.png"),
        left_by_the_dead("run"),
        owned_name(Path("b")),
    )
    number_again = living.replace(f"-{Owner.this().start}-", "-1-")
    elsewhere, forgotten = other_place(living), other_place(left_by_the_dead("c.txt"))
    kept = [living, elsewhere, ".a-0123abcd.png", ".f.new", "a.png", ".hidden~notes"]
    for name in (dead, number_again, forgotten, *kept):
        (tmp_path / name).write_text("half")
    (tmp_path / folder / "inner").mkdir(parents=True)
    week = time.time() - 7 * 24 * 3600
    os.utime(tmp_path / forgotten, (week, week))
    write_text(tmp_path / "new.txt", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "new.txt"])


def test_a_process_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    """Killed processes stay in the system's table until their parent asks for their end."""
    script = (
        "import os; from fewlabel.files import replacing\n"
        f"with replacing({str(tmp_path / 'a.txt')!r}) as t: t.touch(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert len(os.listdir(tmp_path)) == 1
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []
    killed.wait()


def test_a_scratch_folder_is_gone_after_use(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "a").write_text("a")
        assert folder.parent == tmp_path
        sweep(tmp_path)  # another thread's start
        assert (folder / "a").is_file()
    assert os.listdir(tmp_path) == []


def test_of_two_that_make_a_new_folder_the_second_is_refused(tmp_path: Path) -> None:
    def second() -> None:
        with replacing_folder(tmp_path / "f", new=True) as temporary:
            (temporary / "second").touch()
            fill(tmp_path / "f", "first")

    with pytest.raises(UserError, match="not empty; give another --out"):
        second()
    assert os.listdir(tmp_path) == ["f"]
    assert os.listdir(tmp_path / "f") == ["first.txt"]


def test_a_new_folder_may_be_there_and_empty(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with replacing_folder(tmp_path / "f", new=True) as temporary:
        (temporary / "a").touch()
    assert os.listdir(tmp_path / "f") == ["a"]


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


def test_what_a_killed_process_left_is_not_mixed_in(
    tmp_path: Path, left_by_the_dead: Callable[[str], str]
) -> None:
    left = tmp_path / left_by_the_dead("f")
    left.mkdir()
    (left / "old.txt").write_text("old")
    fill(tmp_path / "f", "one")
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["one.txt"]
    assert os.listdir(tmp_path) == ["f"]
