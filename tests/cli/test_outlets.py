"""What is printed: after all is saved, in letters that the terminal has, controlling nothing."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pytest

from fewlabel.cli import main
from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.progress import tell, track
from fewlabel.report.evaluation import figures_by_class
from fewlabel.report.terminal import print_table
from fewlabel.run import Run
from fewlabel.terminal import outlets
from fewlabel.texts import shown

Cli = Callable[..., SimpleNamespace]
NASTY = "a\x1b[31mred\x07\nfewlabel: all is well\u202egnp\x9b2J"
SHOWN = r"a\x1b[31mred\x07\nfewlabel: all is well\u202egnp\x9b2J"


def run_to(stream: IO[str], *arguments: object) -> int:
    """Run a command with a stream as its standard output: its exit status."""
    with pytest.MonkeyPatch.context() as patch, stream:
        patch.setattr(sys, "argv", ["fewlabel", *map(str, arguments)])
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as left:
            main()
        return int(str(left.value.code))


def closed_pipe() -> IO[str]:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def full() -> IO[str]:
    return open("/dev/full", "w")


LISTS = [
    *(["methods"], ["metrics"], ["samplers"], ["datasets"], ["recipes"], ["--help"]),
    *(["train", "--help"], ["sample", "--help"], ["evaluate", "--help"], ["compare", "--help"]),
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_lists_and_help_in_terminals_with_few_letters(arguments: list[str], encoding: str) -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as stream:
        raw = stream.buffer
        kept = SimpleNamespace(content=b"")
        stream.close = lambda: setattr(kept, "content", raw.getvalue())  # type: ignore[method-assign]
        assert run_to(stream, *arguments) == 0
        assert len(kept.content.splitlines()) >= 4
        assert b"\\x" not in kept.content
        assert b"\\u" not in kept.content


def written(encoding: str, text: str) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with outlets():
            print(text, end="")
    return stream.buffer.getvalue().decode(encoding)


def test_letters_that_are_lacking_are_written_otherwise() -> None:
    text = "σ/α: 3×10⁻¹² … → − é 日"
    assert written("utf-8", text) == text
    assert written("ascii", text) == r"sigma/alpha: 3x10^-12 ... -> - e \u65e5"
    assert written("latin-1", "σ: 3×4 é") == "sigma: 3×4 é"
    assert written("utf-8", "\udcff") == r"\udcff"  # of a file name in another encoding


@pytest.mark.parametrize(("open_stream", "how"), [(closed_pipe, []), (full, ["--json"])])
def test_an_evaluation_is_kept_if_nobody_reads(
    copied_run: Path,
    weak_judge: None,
    capsys: pytest.CaptureFixture[str],
    open_stream: Callable[[], IO[str]],
    how: list[str],
) -> None:
    arguments = ["-n", 10, "--steps", 2, "--metrics", "accuracy", *how]
    status = run_to(open_stream(), "evaluate", copied_run, *arguments)
    last = capsys.readouterr().err.splitlines()[-1]
    if open_stream is full:
        assert status == 1
        assert last.startswith("fewlabel: cannot write to standard output: No space left on dev")
    else:
        assert status == 0
        assert not last.startswith("fewlabel:")
    found = json.loads((copied_run / "evaluation.json").read_text())
    assert {row["metric"] for row in found["results"]} == {"accuracy"}
    assert len(found["results"]) == 11
    assert "accuracy" in (copied_run / "report.html").read_text()


@pytest.mark.parametrize("open_stream", [closed_pipe, full])
@pytest.mark.parametrize("command", ["sample", "export", "datasets"])
def test_files_are_whole_if_nobody_reads(
    finished_run: Run, tmp_path: Path, command: str, open_stream: Callable[[], IO[str]]
) -> None:
    out = tmp_path / "out"
    arguments, made = {
        "sample": ([finished_run.folder.path, "-n", 1, "--steps", 2, "--out", out], 24),
        "export": ([finished_run.folder.path, "--out", out], 8),
        "datasets": (["digits", "--out", out / "sheet.png"], 1),
    }[command]
    assert run_to(open_stream(), command, *arguments) == (open_stream is full)
    assert len([path for path in out.rglob("*") if path.is_file()]) == made


def test_work_goes_on_if_standard_error_is_full(capsys: pytest.CaptureFixture[str]) -> None:
    with full() as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with outlets(), track("working") as task:
            task.set(0, 1)
            tell("a note")
            task.set(1, 1)
    script = "from fewlabel.progress import tell; tell('a note of the library'); print('done')"
    with full() as stream:
        done = subprocess.run([sys.executable, "-c", script], stdout=-1, stderr=stream, text=True)
    assert done.stdout == "done\n"


def test_what_is_shown_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(NASTY) == SHOWN
    for harmless in ("plain", "Größe 日本 \u0646\u200c\u062f 👩\u200d🔬", r"C:\new"):
        assert shown(harmless) == harmless
    tell(NASTY)
    with track(NASTY) as task:
        task.set(1, 1, NASTY)
    assert capsys.readouterr().err == f"{SHOWN}\n{SHOWN}: 1/1, 0:00  {SHOWN}\n"


def test_a_bar_shows_names_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with track(f"[red]{NASTY}") as task:
        task.set(1, 1, f"[b]{NASTY}")
    err = capsys.readouterr().err
    assert f"[red]{SHOWN}" in err
    assert f"[b]{SHOWN}" in err


def controls(text: str) -> set[str]:
    return {c for c in text if c < " " or "\x7f" <= c < "\xa0" or c == "\u202e"} - {"\n"}


def test_errors_escape_names(cli: Cli, finished_run: Run) -> None:
    asked = cli("sample", finished_run.folder.path, "--label", NASTY)
    assert asked.status == 2
    assert not controls(asked.out + asked.err)
    traced = cli("sample", finished_run.folder.path, "--label", NASTY, "--debug")
    assert "Traceback" in traced.err
    assert not controls(traced.out + traced.err)


def report(classes: int) -> Report:
    figures = [
        Figure(1.0, "dpm++", 24, metric, c, 0.25 + c / 8, 0.125, 0.875)
        for metric in ("accuracy", "intra-fid")
        for c in range(classes)
    ]
    draws = [Draw(1.0, "dpm++", 24, 48, 1.0)]
    return Report("r", "lpg", "all", 20, "judge", None, 0, draws, figures, ())


@pytest.mark.parametrize("terminal", [False, True])
def test_figures_of_classes_with_long_and_nasty_names(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TERM", "dumb")  # no bold
    names = ["first" + "b" * 190 + "last", NASTY, ":smile:[red]", "日" * 200]
    table = figures_by_class(report(4), names, 1.0)
    assert table is not None
    print_table(table)
    out = capsys.readouterr().out
    assert not controls(out)
    rows = {name: next(line for line in out.splitlines() if name in line) for name in
            ("first", r"a\x1b[31mred", ":smile:[red]", "日日")}  # fmt: skip
    for index, row in enumerate(rows.values()):
        assert f"{0.25 + index / 8:.1%}" in row
        assert f"{0.25 + index / 8:.2f} (" in row
    assert "…" in rows["first"]
    assert "last" in rows["first"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_unwinds(
    cli: Cli, finished_run: Run, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files go, the line says why, and the handlers are as before."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]

    def saving(path: Path, **_: Any) -> None:
        path.touch()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(np, "savez_compressed", saving)
    ended = cli("sample", finished_run.folder.path, "-n", 1, "--steps", 2, "--out", tmp_path)
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == "fewlabel: interrupted"
    assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == [".lock"]
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    signal.signal(signal.SIGINT, inherited)
