"""Wrong usage: exit status 2, one line on standard error, nothing on standard output."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabel.run import Run
from fewlabel.run_folder import RunFolder

Cli = Callable[..., SimpleNamespace]
Arguments = Callable[..., list[str]]


def assert_refused(ended: SimpleNamespace, *fragments: str, early: bool = True) -> None:
    assert ended.status == 2
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert lines[-1].startswith("fewlabel: ")
    for fragment in fragments:
        assert fragment in lines[-1]
    assert "Traceback" not in ended.err
    if early:
        assert len(lines) == 1


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of three pictures, and two without a label."""
    for label, level in (("cat", 20), ("dog", 150), ("unlabeled", 90)):
        for index in range(3):
            picture(tmp_path / "pets" / label / f"{index}.png", level + 10 * index)
    return tmp_path / "pets"


def test_data_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    missing = cli("train", tmp_path / "gone", "--out", out)
    assert_refused(missing, str(tmp_path / "gone"), "no such folder", "check the path")
    assert_refused(cli("train", "digit", "--out", out), "did you mean digits?")
    assert_refused(cli("train", "--out", out), "no data")
    assert_refused(cli("train"), "--out")
    assert not out.exists()


def test_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = cli("train", tmp_path / "empty", "--out", tmp_path / "run")
    assert_refused(refused, str(tmp_path / "empty"), "holds no images", "sub-folder")
    assert not (tmp_path / "run").exists()


def test_a_broken_image(cli: Cli, pets: Path, tmp_path: Path) -> None:
    (pets / "cat" / "1.png").write_bytes(b"no picture")
    refused = cli("train", pets, "--out", tmp_path / "run", "--strict")
    assert_refused(refused, str(pets / "cat" / "1.png"), "remove or replace", early=False)
    rest = refused.err.splitlines()[:-1]
    assert all(line.startswith("reading images: ") for line in rest)
    assert not (tmp_path / "run").exists()


def test_a_broken_image_is_skipped_and_counted(
    cli: Cli, pets: Path, tmp_path: Path, tiny_train: Arguments
) -> None:
    (pets / "cat" / "1.png").write_bytes(b"")
    arguments = tiny_train(tmp_path / "run", "--labels", "all", "--steps", "1", data=str(pets))
    ended = cli(*arguments)
    assert ended.status == 0, ended.err
    assert ended.err.count("1 broken image of pets left out, such as cat/1.png") == 1
    told = json.loads(cli("info", tmp_path / "run", "--json").out)
    assert told["examples"]["broken"] == 1
    assert Run(tmp_path / "run").dataset.skipped == ("cat/1.png",)


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        ("file,label\ngone.png,cat\n", ["labels.csv, line 2", "no image 'gone.png'", "correct"]),
        ("file,label\ncat/0.png,a\ncat/0.png,b\n", ["line 3: cat/0.png", "second time"]),
        ("file,kind\ncat/0.png,a\n", ["labels.csv", "no column 'label'", "first line"]),
        ("name,label\ncat/0.png,a\n", ["labels.csv", "no column 'file'", "first line"]),
        (
            "file,label\ncat/1.png,cat\ncat/0.png,dog\n",
            ["labels.csv, line 3: cat/0.png lies in class folder cat", "says dog", "correct"],
        ),
        ("file,label\ncat/0.png,a\n", ["line 2: cat/0.png lies in class folder cat", "says a"]),
        ("file,label\n", ["labels.csv", "lists nothing", "add a line"]),
        ("\xff", ["labels.csv", "is no CSV", "UTF-8"]),
    ],
)
def test_a_wrong_labels_csv(
    cli: Cli, pets: Path, tmp_path: Path, table: str, fragments: list[str]
) -> None:
    (pets / "labels.csv").write_bytes(table.encode("latin-1"))
    assert_refused(cli("train", pets, "--out", tmp_path / "run"), *fragments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        ("file,label\n0.png,\n", ["no label in labels.csv", "the columns file and label"]),
        ("file,label\n0.png,a\n", ["only one class, a", "images of another", "labels.csv"]),
    ],
)
def test_a_table_of_too_few_classes(
    cli: Cli, pets: Path, tmp_path: Path, table: str, fragments: list[str]
) -> None:
    (pets / "cat" / "labels.csv").write_text(table)
    refused = cli("train", pets / "cat", "--out", tmp_path / "run")
    assert_refused(refused, "folder cat", *fragments, early=False)
    assert not (tmp_path / "run").exists()


def test_a_class_of_a_table_whose_images_are_all_broken(
    cli: Cli, pets: Path, tmp_path: Path
) -> None:
    rows = ["file,label", "cat/0.png,cat", "cat/1.png,cat", "unlabeled/0.png,dog"]
    (pets / "labels.csv").write_text("\n".join(rows))
    shutil.rmtree(pets / "dog")
    (pets / "unlabeled" / "0.png").write_bytes(b"")
    refused = cli("train", pets, "--out", tmp_path / "run")
    assert_refused(refused, "class dog of", "labels.csv has no images", early=False)


def test_a_class_without_an_image(cli: Cli, pets: Path, tmp_path: Path) -> None:
    (pets / "emu").mkdir()
    assert_refused(cli("train", pets, "--out", tmp_path / "run"), str(pets / "emu"), "no images")


def test_one_class_only(cli: Cli, pets: Path, tmp_path: Path) -> None:
    shutil.rmtree(pets / "dog")
    refused = cli("train", pets, "--out", tmp_path / "run")
    assert_refused(refused, "only one class", "cat", "add a sub-folder", early=False)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--method", "magic"], ["'magic'", "cg-sc-all", "lpg"]),
        (["--preset", "huge"], ["'huge'", "choose one of tiny"]),
        (["--set", "score.fit.setps=3"], ["score.fit.setps", "unknown key"]),
        (["--set", "score.fit.labelled_share=2"], ["score.fit.labelled_share", "less than or"]),
        (["--set", "score.fit.labelled_share=0.5"], ["labelled_share", "show a label there"]),
        (["--balance"], ["fit.balance", "lpg draws all images alike", "leave --balance out"]),
        (
            ["--method", "cg", "--set", "classifier.fit.labelled_share=0.5"],
            ["classifier.fit.labelled_share", "cg draws labelled images alone"],
        ),
        (["--set", "seed"], ["--set seed", "key=value"]),
        (
            ["--method", "cg-jem", "--set", "classifier.fit.batch=4096"],
            ["classifier.fit.batch=4096", "set it to 2048 or less"],
        ),
        (["--set", "seed=[1"], ["--set seed=[1"]),
        (["--colour", "red"], ["--colour"]),
        (["--steps", "many"], ["--steps", "integer"]),
        (["--steps", "0"], ["steps", "greater than 0"]),
        (["--size", "16"], ["8 × 8", "leave the size out"]),
        (["--labels", "some"], ["'some'", "0.05"]),
        (["--labels", "1.5"], ["'1.5'", "at most 1"]),
        (["--labels", "0"], ["'0'", "above 0"]),
        (["--labels", "1000/class"], ["1000/class", "ask for at most"]),
        (["--labels", "gone.csv"], ["gone.csv cannot be read", "check the path"]),
        (["--labels", "1e9/class"], ["'1e9/class'", "4/class"]),
        (["--config", "gone.yaml"], ["gone.yaml"]),
        (["--score", "gone"], ["no run folder gone"]),
        (["--device", "abacus"], ["'abacus'", "cpu or cuda"]),
    ],
)
def test_wrong_options_of_train(
    cli: Cli, tmp_path: Path, arguments: list[str], fragments: list[str]
) -> None:
    refused = cli("train", "digits", "--out", tmp_path / "run", *arguments)
    assert_refused(refused, *fragments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--score", "--teacher"])
def test_the_model_of_a_run_that_was_stopped(
    cli: Cli, copied_run: Path, tmp_path: Path, option: str
) -> None:
    """What is made of it would not be what its own training makes in the end."""
    for stage in ("score", "classifier"):
        for manifest in (copied_run / stage).glob("step-*/checkpoint.json"):
            content = json.loads(manifest.read_text())
            if content["finished"]:
                shutil.rmtree(manifest.parent)
    refused = cli("train", "digits", option, copied_run, "--out", tmp_path / "run")
    assert_refused(refused, str(copied_run), "train that run on")
    assert not (tmp_path / "run").exists()


def test_settings_that_the_shared_score_model_has_otherwise_are_named(
    cli: Cli, finished_run: Run, tmp_path: Path
) -> None:
    shared = finished_run.folder.path
    asked = ("--set", "process.sigma_max=5", "--set", "score.layers=1", "--dry-run")
    ended = cli("train", "digits", "--score", shared, "--out", tmp_path / "run", *asked)
    assert ended.status == 0
    assert f"note: process.sigma_max: as {shared} has it" in ended.err
    same = ("--set", f"score.widths={[*finished_run.config.score.widths]}", "--dry-run")
    ended = cli("train", "digits", "--score", shared, "--out", tmp_path / "run", *same)
    assert "note: score" not in ended.err


def test_train_into_a_finished_run(cli: Cli, copied_run: Path, tiny_train: Arguments) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied_run.rglob("*")}
    assert_refused(cli(*tiny_train(copied_run)), str(copied_run), "is finished", "--out")
    assert {p: p.stat().st_mtime_ns for p in copied_run.rglob("*")} == before


@pytest.mark.parametrize(
    ("others", "key", "there", "now"),
    [
        (["--method", "cg"], "method", "lpg", "cg"),
        (["--labels", "0.1"], "labels", "0.05", "0.1"),
        (["--seed", "1"], "seed", "0", "1"),
        (["--set", "sigma_data=0.5"], "sigma_data", "0.75", "0.5"),
    ],
)
def test_train_into_a_different_run(
    cli: Cli, copied_run: Path, tiny_train: Arguments, others: list[str], key: str, there: str,
    now: str,
) -> None:  # fmt: skip
    shutil.rmtree(copied_run / "classifier")  # it is different, whether it is finished or not
    before = {p: p.stat().st_mtime_ns for p in copied_run.rglob("*")}
    refused = cli(*tiny_train(copied_run, *others))
    # Weights of the losses differ with the method too, but it is the method that people chose.
    assert_refused(refused, "is another run", f"there {key} is {there}", f", now it is {now};")
    assert "choose another --out" in refused.err
    assert {p: p.stat().st_mtime_ns for p in copied_run.rglob("*")} == before


def test_train_into_a_run_of_another_dataset(
    cli: Cli, copied_run: Path, pets: Path, tiny_train: Arguments
) -> None:
    refused = cli(*tiny_train(copied_run, data=str(pets)))
    assert_refused(refused, str(copied_run), "another dataset (digits", "pets", early=False)


@pytest.mark.parametrize("command", ["train", "compare", "demo"])
def test_work_in_a_folder_of_other_files(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "report.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert_refused(cli(command, "digits", "--out", tmp_path / "photos"), "holds other files")
    assert [p.name for p in (tmp_path / "photos").iterdir() if p.name != ".lock"] == [
        "report.html"
    ]
    assert_refused(cli(command, "digits", "--out", tmp_path / "file"), "is a file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["train", "compare", "demo", "datasets"])
def test_work_within_the_data(
    cli: Cli, pets: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Its pictures would be images of a class the next time."""
    for index in range(3, 9):
        for label in ("cat", "dog"):
            picture(pets / label / f"{index}.png", 10 * index)
    monkeypatch.chdir(pets)
    before = {*pets.rglob("*")}
    refused = cli(command, ".", "--size", 8) if command != "demo" else cli(command, ".")
    assert_refused(refused, "lies in the data folder", "choose another --out", early=False)
    assert {*pets.rglob("*")} == before


def test_a_run_whose_data_moved(
    cli: Cli, pets: Path, tmp_path: Path, tiny_train: Arguments
) -> None:
    """They are known by their files: training goes on, and the run can be judged."""
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere" / "animals"
    for index in range(3, 9):
        for label in ("cat", "dog"):
            picture(pets / label / f"{index}.png", 10 * index)
    assert cli(*tiny_train(out, "--method", "cg", "--labels", "all", data=str(pets))).status == 0
    shutil.copytree(pets, elsewhere)
    shutil.rmtree(pets)
    judged = ("--metrics", "accuracy", "-n", 10, "--steps", 2, "--device", "cpu")
    refused = cli("evaluate", out, *judged)
    assert_refused(refused, f"are no longer at {pets}", "with --data")
    assert cli("evaluate", out, *judged, "--data", elsewhere).status == 0
    shutil.rmtree(out / "classifier")
    on = tiny_train(out, "--method", "cg", "--labels", "all", data=str(elsewhere))
    assert cli(*on, "--set", "classifier.fit.checkpoint_every=7").status == 0
    config = RunFolder(out).read_config()
    assert (config.data, config.classifier.fit.checkpoint_every) == (str(elsewhere), 7)
    assert "revision:" in (out / "config.yaml").read_text()
    assert cli("evaluate", out, *judged).status == 0
    picture(elsewhere / "cat" / "more.png", 77)  # one image more: the others keep their sides
    more = cli("evaluate", out, *judged)
    assert more.status == 0
    assert "the data changed" in more.err
    assert "1 are new, such as cat/more.png" in more.err
    assert_refused(cli(*on), "was made from another dataset", "cat/more.png", early=False)
    for path in elsewhere.glob("*/*.png"):
        picture(path, 255 - int(np.asarray(Image.open(path))[0, 0].max()))  # other data
    refused = cli("evaluate", out, *judged)
    assert_refused(refused, "was made from another dataset", "are gone", early=False)


def test_too_little_memory_says_what_needs_less(
    cli: Cli, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0")

    monkeypatch.setattr(Run, "draw", full)
    ended = cli("sample", finished_run.folder, "--out", tmp_path)
    assert ended.status == 1
    assert "fewlabel: CUDA out of memory; draw fewer together" in ended.err.splitlines()[-1]


def test_train_into_a_folder_with_labels_of_another_kind(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"classes": ["a"]}')
    assert_refused(cli("train", "digits", "--out", tmp_path), "holds other files")
    assert (tmp_path / "labels.json").read_text() == '{"classes": ["a"]}'


def test_train_on_after_the_labels_changed(
    cli: Cli, pets: Path, tmp_path: Path, tiny_train: Arguments
) -> None:
    """Other rows in the same CSV would train on what the run holds out."""
    labels, out = tmp_path / "few.csv", tmp_path / "run"
    labels.write_text("file\ncat/0.png\ndog/0.png\n")
    given = tiny_train(out, "--labels", str(labels), "--method", "cg", data=str(pets))
    assert cli(*given).status == 0
    labels.write_text("file\ncat/0.png\ndog/0.png\ndog/1.png\n")
    assert_refused(cli(*given), "begun with other labels", "few.csv", "choose another --out")


@pytest.mark.parametrize("command", ["sample", "evaluate", "info"])
def test_what_is_no_run(cli: Cli, tmp_path: Path, command: str) -> None:
    assert_refused(cli(command, tmp_path / "gone"), str(tmp_path / "gone"), "no run folder")
    assert_refused(cli(command, tmp_path), str(tmp_path), "no config.yaml")


def test_a_run_without_a_classifier_yet(cli: Cli, copied_run: Path) -> None:
    shutil.rmtree(copied_run / "classifier")
    refused = cli("sample", copied_run, "-n", 1)
    assert_refused(refused, str(copied_run / "classifier"), "train the run first")
    assert not (copied_run / "samples").exists()
    assert '"unfinished"' in cli("info", copied_run, "--json").out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--label", "cat"], ["'cat'", "choose one of 0, 1"]),
        (["--label", "10"], ["'10'", "choose one of 0, 1"]),
        (["--sampler", "magic"], ["'magic'", "choose one of dpm++"]),
        (["--steps", "1"], ["steps=1", "at least 2"]),
        (["-n", "0"], ["-n 0", "at least 1"]),
        (["--scale", "-1"], ["scale -1", "0 is unconditional"]),
        (["--scale", "nan"], ["scale nan", "0 is unconditional"]),
        (["--scale", "much"], ["--scale", "number"]),
        (["--batch-size", "0"], ["batch size 0"]),
        (["--device", "mps"], ["'mps'", "cpu or cuda"]),
        (["--temperature", "0"], ["temperature 0", "positive"]),
        (["--interval", "1"], ["--interval 1", "two noise levels"]),
        (["--interval", "3,1"], ["--interval 3,1", "the lower one first"]),
        (["--device", "abacus"], ["'abacus'", "cpu or cuda"]),
        (["--colour", "red"], ["--colour"]),
    ],
)
def test_wrong_options_of_sample(
    cli: Cli, finished_run: Run, tmp_path: Path, arguments: list[str], fragments: list[str]
) -> None:
    out = tmp_path / "out"
    refused = cli("sample", finished_run.folder, "-n", 2, "--out", out, *arguments)
    assert_refused(refused, *fragments, early=False)
    assert all(line == "sampling: 0/20" for line in refused.err.splitlines()[:-1])
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--metrics", "accuracy,magic"], ["'magic'", "intra-fid"]),
        (["--scale", "1;2"], ["1;2", "1,2,4"]),
        (["-n", "3"], ["3 samples", "at least 10"]),
        (["--extractor", "magic"], ["'magic'", "judge, inception:FILE"]),
        (["--sampler", "dpm++,magic"], ["'magic'", "choose one of dpm++"]),
        (["--steps", "3,1"], ["steps=1", "at least 2"]),
        (["--steps", "3.9"], ["--steps 3.9", "whole numbers"]),
        (["--extractor", "inception:no.pth"], ["no.pth", "cannot be read"]),
    ],
)
def test_wrong_options_of_evaluate(
    cli: Cli, finished_run: Run, arguments: list[str], fragments: list[str]
) -> None:
    assert_refused(cli("evaluate", finished_run.folder, *arguments), *fragments)


def test_commands(cli: Cli) -> None:
    assert_refused(cli("fly"), "fly")
    assert_refused(cli("sample"), "RUN")
    nothing = cli()
    assert nothing.status == 2
    assert "Usage" in nothing.out + nothing.err
    assert "fewlabel:" not in nothing.err


def test_debug_shows_the_traceback(cli: Cli, tmp_path: Path) -> None:
    for arguments in (["--debug", "info", tmp_path], ["info", tmp_path, "--debug"]):
        ended = cli(*arguments)
        assert ended.status == 2
        assert ended.out == ""
        assert ended.err.startswith("Traceback")
        assert ended.err.splitlines()[-1].startswith("fewlabel: ")


def test_work_that_fails_ends_with_1(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of no known\nkind")

    monkeypatch.setattr("fewlabel.run_folder.summary", fail)
    ended = cli("info", tmp_path)
    assert ended.status == 1
    assert ended.err == "fewlabel: RuntimeError: of no known kind (--debug shows where)\n"


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["train", "digits", "--colour", "red"], ["--colour"]),
        (["info", "gone"], ["no run folder gone"]),
        (["train", "gone", "--out", "run"], ["'gone'", "check the path"]),
    ],
)
def test_a_process_ends_the_same_way(
    tmp_path: Path, arguments: list[str], fragments: list[str]
) -> None:
    command = [sys.executable, "-m", "fewlabel", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    ended = SimpleNamespace(status=done.returncode, out=done.stdout, err=done.stderr)
    assert_refused(ended, *fragments)
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_said_with_what_helps(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> NoReturn:
        raise MemoryError("Unable to allocate 8.00 EiB for an array")

    monkeypatch.setattr("fewlabel.data.open_dataset", exhausted)
    ended = cli("datasets", "digits")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("fewlabel: not enough memory; close other programs, ")
    assert "--size" in line


def test_a_message_has_a_length_that_can_be_read(cli: Cli, tmp_path: Path) -> None:
    ended = cli("train", "digits", "--method", "x" * 100_000, "--out", tmp_path / "run")
    assert_refused(ended, "xxx")
    assert len(ended.err) < 2100
