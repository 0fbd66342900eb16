"""Where commands write: a run that is read-only, another folder, a folder that another fills."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fewlabel.files import replacing
from fewlabel.interop import export, imported
from fewlabel.interop.imported import Imported, write_run
from fewlabel.report import run_page
from fewlabel.run import Run

Cli = Callable[..., SimpleNamespace]
QUICK = ["-n", 10, "--steps", 2, "--metrics", "accuracy"]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder read-only, for the superuser too."""

    def make(folder: Path) -> None:
        def refuse(path: object) -> None:
            if not isinstance(path, int) and folder in (
                Path(os.fspath(path)),
                *Path(path).parents,
            ):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        open_low, open_high, mkdir = os.open, io.open, os.mkdir

        def low(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                refuse(path)
            return open_low(path, flags, *rest, **more)

        def high(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if set(mode) & set("wax+"):
                refuse(path)
            return open_high(path, mode, *rest, **more)

        def made(path: Any, *rest: Any, **more: Any) -> None:
            if not os.path.isdir(path):
                refuse(path)
            mkdir(path, *rest, **more)

        for name, patched in (("os.open", low), ("io.open", high), ("os.mkdir", made)):
            monkeypatch.setattr(name, patched)
        monkeypatch.setattr("builtins.open", high)

    return make


def test_a_read_only_run_gives_its_figures_and_says_how_to_keep_them(
    cli: Cli,
    copied_run: Path,
    weak_judge: None,
    read_only: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    before = sorted(path.name for path in copied_run.rglob("*"))
    read_only(copied_run)
    ended = cli("evaluate", copied_run, *QUICK, "--json")
    assert ended.status == 0, ended.err
    assert len(json.loads(ended.out)["results"]) == 11
    (note,) = [line for line in ended.err.splitlines() if line.startswith("note: cannot")]
    assert "Read-only file system" in note
    assert "--out" in note
    assert before == sorted(path.name for path in copied_run.rglob("*"))
    out = tmp_path / "elsewhere"
    kept = cli("evaluate", copied_run, *QUICK, "--out", out)
    assert kept.status == 0, kept.err
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "report.html"]
    assert json.loads((out / "evaluation.json").read_text()) | {"draws": 0} == json.loads(
        ended.out
    ) | {"draws": 0}  # but for the seconds it took
    assert str(out / "report.html") in kept.out
    assert "accuracy" in kept.out


def test_an_out_that_cannot_be_written_is_refused_before_the_work(
    cli: Cli, finished_run: Run, read_only: Callable[[Path], None], tmp_path: Path
) -> None:
    read_only(tmp_path)
    ended = cli("evaluate", finished_run.folder.path, *QUICK, "--out", tmp_path / "out")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert str(tmp_path / "out") in line
    assert "Read-only" in line


def test_figures_are_printed_though_the_disk_is_full(
    cli: Cli, copied_run: Path, weak_judge: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        with replacing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_page, "write_json", full)
    ended = cli("evaluate", copied_run, *QUICK)
    assert ended.status == 1
    assert "No space left on device" in ended.err.splitlines()[-1]
    assert "accuracy" in ended.out


def test_of_two_exports_into_one_folder_one_is_refused(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins and ends while the first writes."""
    run, out, write = finished_run.folder.path, tmp_path / "out", export._write_classifier
    ended = []

    def slow(*arguments: Any) -> None:
        write(*arguments)
        monkeypatch.setattr(export, "_write_classifier", write)
        ended.append(export.export_run(run, out))

    monkeypatch.setattr(export, "_write_classifier", slow)
    first = cli("export", run, "--out", out)
    assert first.status == 2
    assert first.err == f"fewlabel: {out} is there and not empty; give another --out\n"
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(path for path in out.rglob("*") if path.is_file()) == ended[0]
    assert len(ended[0]) == 8


def test_of_two_imports_into_one_folder_one_is_refused(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first writes its weights; that one's are whole."""
    score = finished_run.config.score.model_dump(exclude={"fit"})
    weights = finished_run.score_model.network.state_dict()
    model = Imported(finished_run.config.shape, finished_run.config.process, score, weights)
    save, refused = imported.RunFolder.checkpoints, []

    def slow(folder: Any, stage: str) -> Any:
        monkeypatch.setattr(imported.RunFolder, "checkpoints", save)
        with pytest.raises(ValueError, match="worked in by process") as error:
            write_run(model, tmp_path, "second")
        refused.append(error.value)
        return save(folder, stage)

    monkeypatch.setattr(imported.RunFolder, "checkpoints", slow)
    folder = write_run(model, tmp_path, "first")
    assert len(refused) == 1
    assert folder.read_config().imported_from == "first"
    assert folder.steps_done("score") == 1
    assert {path.name for path in tmp_path.rglob(".*")} == {".lock"}
