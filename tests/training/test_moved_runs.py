"""Runs and what they take from others go on after they moved; what changed is refused."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from fewlabel.errors import Interrupted, UserError
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.training import train as training
from fewlabel.training.ema import Ema
from fewlabel.training.plan import plan

STEPS, STOPPED = 8, 3


class Project:
    """A folder with a run `score`, a table of labels, and a run `mine` that uses them."""

    def __init__(self, folder: Path, method: str, overrides: tuple[str, ...]) -> None:
        self.folder, self.method = folder, method
        self.overrides = (*overrides, f"classifier.fit.steps={STEPS}")

    @property
    def mine(self) -> RunFolder:
        return RunFolder(self.folder / "mine")

    def train(self, **others: Any) -> Run:
        given: dict[str, Any] = {
            "out": self.folder / "mine",
            "score": self.folder / "score",
            "method": self.method,
            "labels": "2/class",
            "overrides": self.overrides,
            "device": "cpu",
        }
        return training.train("digits", **given | others)

    def moved(self, name: str = "elsewhere") -> "Project":
        """The same project in another folder; nothing is left in the old one."""
        target = self.folder.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder.rename(target)
        return Project(target, self.method, self.overrides[:-1])


def stop_at(step: int) -> None:
    """Ask to stop in a step of the training in progress, as by Ctrl-C, once."""
    update = Ema.update

    def stopping(self: Ema, model: nn.Module, done: int) -> None:
        update(self, model, done)
        if done + 1 == step:
            Ema.update = update  # type: ignore[method-assign]
            os.kill(os.getpid(), signal.SIGINT)

    Ema.update = stopping  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def begun(
    tmp_path_factory: pytest.TempPathFactory, finished_run: Run, tiny: tuple[str, ...]
) -> Callable[[str, str | None], Path]:
    """Projects in which a run was interrupted, by method and teacher; not to be changed."""
    made: dict[tuple[str, str | None], Path] = {}

    def make(method: str, teacher: str | None) -> Path:
        if (method, teacher) not in made:
            folder = tmp_path_factory.mktemp("begun") / "project"
            shutil.copytree(finished_run.folder.path, folder / "score")
            write_table(folder / "said.csv", finished_run, 3)
            project = Project(folder, method, tiny)
            stop_at(STOPPED)
            with pytest.raises(Interrupted, match=f"at step {STOPPED} of {STEPS}"):
                project.train(**taught_by(folder, teacher))
            made[method, teacher] = folder
        return made[method, teacher]

    return make


def write_table(path: Path, run: Run, sure_of: int) -> None:
    """A table that calls every image the same."""
    sure = ",".join("1" if i == sure_of else "0" for i in range(10))
    lines = [f"{i},{sure}" for i in range(len(run.dataset))]
    path.write_text("\n".join([",".join(["index", *run.class_names]), *lines]))


def taught_by(folder: Path, teacher: str | None) -> dict[str, str]:
    return {} if teacher is None else {"teacher": teacher.replace("PROJECT", str(folder))}


@pytest.fixture
def project(
    begun: Callable[[str, str | None], Path], tmp_path: Path, tiny: tuple[str, ...]
) -> Callable[..., Project]:
    """A copy of an interrupted project, and another one that stays where it is, at its end."""

    def copied(method: str = "cg", teacher: str | None = None) -> Project:
        source = begun(method, teacher)
        return Project(Path(shutil.copytree(source, tmp_path / "project")), method, tiny)

    return copied


def weights(run: RunFolder) -> dict[str, Any]:
    """Every tensor that the training of the classifier changes, as bytes."""
    newest = run.checkpoints("classifier").newest()
    assert newest is not None
    assert newest[0] == STEPS
    files = ("last", "ema", "optimizer")
    tensors = {f: load_file(newest[1] / f"{f}.safetensors") for f in files}
    return {f"{f}.{k}": v.numpy().tobytes() for f in files for k, v in tensors[f].items()}


@pytest.fixture(scope="module")
def never_moved(
    begun: Callable[[str, str | None], Path],
    tmp_path_factory: pytest.TempPathFactory,
    tiny: tuple[str, ...],
) -> Callable[[str, str | None], dict[str, Any]]:
    """What the runs end with that went on where they were."""
    ended: dict[tuple[str, str | None], dict[str, Any]] = {}

    def end(method: str, teacher: str | None) -> dict[str, Any]:
        if (method, teacher) not in ended:
            folder = tmp_path_factory.mktemp("still") / "project"
            shutil.copytree(begun(method, teacher), folder)
            # the interrupted one names the place that it was begun at, which is still there
            place = begun(method, teacher)
            stays = Project(folder, method, tiny)
            stays.train(score=place / "score", **taught_by(place, teacher))
            ended[method, teacher] = weights(stays.mine)
        return ended[method, teacher]

    return end


def other_model(run: Path) -> None:
    """Train the score model in a folder to other weights, as if from another seed."""
    (newest,) = (run / "score").glob("step-00000040")
    averaged = load_file(newest / "ema.safetensors")
    save_file({k: v * 1.01 for k, v in averaged.items()}, newest / "ema.safetensors")
    manifest = json.loads((newest / "checkpoint.json").read_text())
    digest = hashlib.sha256((newest / "ema.safetensors").read_bytes()).hexdigest()
    manifest["sha256"]["ema.safetensors"] = digest
    (newest / "checkpoint.json").write_text(json.dumps(manifest))


def test_a_run_goes_on_after_it_and_the_run_of_its_score_model_moved(
    project: Callable[..., Project], never_moved: Callable[..., dict[str, Any]]
) -> None:
    moved = project().moved()
    run = moved.train()
    assert weights(moved.mine) == never_moved("cg", None)
    assert run.config.score_from == str(moved.folder / "score")
    assert yaml.safe_load((moved.folder / "mine" / "config.yaml").read_text())["score_from"] == (
        "../score"
    )
    again = moved.moved("third")  # finished, it knows where the other is
    assert again.mine.read_config().score_from == str(again.folder / "score")
    assert again.train(exist_ok=True).folder.path == again.mine.path


def test_a_run_goes_on_after_the_run_of_its_score_model_moved_alone(
    project: Callable[..., Project], never_moved: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    mine = project()
    (tmp_path / "far" / "away").mkdir(parents=True)
    target = (mine.folder / "score").rename(tmp_path / "far" / "away" / "it")
    run = mine.train(score=target)
    assert weights(mine.mine) == never_moved("cg", None)
    assert run.config.score_from == str(target)


@pytest.mark.parametrize("teacher", [None, "PROJECT/score"])
def test_what_was_taken_need_not_be_there_any_more(
    project: Callable[..., Project],
    never_moved: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    cli: Callable[..., SimpleNamespace],
    teacher: str | None,
) -> None:
    method = "cg" if teacher is None else "lpg"
    mine = project(method, teacher)
    place = mine.mine.read_config().score_from
    told = cli("info", mine.folder / "mine").out
    assert f"score_from   {mine.folder / 'score'} (there)" in told
    shutil.rmtree(mine.folder / "score")
    capsys.readouterr()
    run = mine.train(**taught_by(mine.folder, teacher))
    assert (
        f"there is no score model in {mine.folder / 'score'} any more" in capsys.readouterr().err
    )
    assert weights(mine.mine) == never_moved(method, teacher)
    assert run.config.score_from == place
    assert "(no longer there)" in cli("info", mine.folder / "mine").out
    with pytest.raises(UserError, match="there is no run folder"):  # another run needs it
        mine.train(out=mine.folder / "other", **taught_by(mine.folder, teacher))


def test_another_score_model_at_the_same_place_is_refused(
    project: Callable[..., Project], cli: Callable[..., SimpleNamespace]
) -> None:
    mine = project()
    shutil.copytree(mine.folder / "score", mine.folder / "kept")
    other_model(mine.folder / "score")
    said = r"mine took another score model than the one that .*score holds now; give --score with"
    with pytest.raises(UserError, match=said):
        mine.train()
    assert "(another model is there)" in cli("info", mine.folder / "mine").out
    mine.train(score=mine.folder / "kept")  # the one that it took, from wherever


def test_a_run_without_a_score_model_of_others_does_not_take_one_later(
    finished_run: Run, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    out = Path(shutil.copytree(finished_run.folder.path, tmp_path / "own"))
    given = {"labels": 0.05, "steps": 40, "overrides": tiny, "device": "cpu"}
    with pytest.raises(UserError, match=r"there score_from is None, now it is"):
        training.train("digits", out=out, score=finished_run.folder.path, **given)


@pytest.mark.parametrize(
    "teacher", ["PROJECT/score", "features:PROJECT/score", "PROJECT/said.csv"]
)
def test_a_teacher_may_move_or_go_but_not_change(
    project: Callable[..., Project],
    never_moved: Callable[..., dict[str, Any]],
    finished_run: Run,
    teacher: str,
) -> None:
    """What it said is in the run; another one would be of no effect."""
    moved = project("lpg", teacher).moved()
    run = moved.train(**taught_by(moved.folder, teacher))
    assert weights(moved.mine) == never_moved("lpg", teacher)
    expected = taught_by(moved.folder, teacher)["teacher"]
    assert run.config.teacher == expected
    shutil.rmtree(moved.folder / "mine" / "classifier")  # it has to go on once more
    if teacher.endswith(".csv"):
        write_table(moved.folder / "said.csv", finished_run, 4)
        changed: dict[str, str] = taught_by(moved.folder, teacher)
    else:
        other = "" if teacher.startswith("features:") else "features:"
        changed = {"teacher": f"{other}{moved.folder / 'score'}"}  # classifier and features
    with pytest.raises(UserError, match=r"took another teacher than .*; give --teacher with"):
        moved.train(**changed)
    if teacher.endswith(".csv"):
        (moved.folder / "said.csv").unlink()
        moved.train(**changed)
        assert weights(moved.mine) == never_moved("lpg", teacher)


def test_data_and_labels_in_a_csv_may_move_and_not_change(
    tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    rng, data, listed = np.random.default_rng(0), tmp_path / "pets", tmp_path / "a.csv"
    for name in [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(6)]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(data / name)
    listed.write_text("file\ncat/0.png\ndog/0.png\n")
    given: dict[str, Any] = {"out": tmp_path / "mine", "method": "cg", "overrides": tiny}
    given |= {"steps": STEPS, "device": "cpu"}
    stop_at(STOPPED)
    with pytest.raises(Interrupted):
        training.train(data, labels=str(listed), **given)
    data, listed = data.rename(tmp_path / "animals"), listed.rename(tmp_path / "b.csv")
    stop_at(STOPPED + 2)
    with pytest.raises(Interrupted, match=f"at step {STOPPED + 2}"):
        training.train(data, labels=str(listed), **given)
    config = RunFolder(tmp_path / "mine").read_config()
    assert (config.labels, config.data) == (str(listed), str(data))
    listed.write_text("file\ncat/1.png\ndog/0.png\n")
    with pytest.raises(UserError, match="other labels"):
        training.train(data, labels=str(listed), **given)
    with pytest.raises(UserError, match=r"there labels is .*b.csv, now it is 1/class"):
        training.train(data, labels="1/class", **given)


def test_a_configuration_names_the_model_that_it_was_made_with(
    project: Callable[..., Project],
) -> None:
    """Copied or from elsewhere, it makes the same run, or says why not."""
    mine = project()
    config = mine.folder / "mine" / "config.yaml"
    before = mine.mine.read_config()
    again = plan(None, options={}, config=config).config
    assert again == before
    assert again.score_from == str(mine.folder / "score")
    shutil.copytree(mine.folder / "score", mine.folder / "kept")
    other_model(mine.folder / "score")
    with pytest.raises(UserError, match=r"config.yaml took another score model than"):
        plan(None, options={}, config=config)
    given = plan(None, options={}, config=config, overrides=[f"score_from={mine.folder / 'kept'}"])
    assert given.config.score_id == before.score_id


@pytest.mark.parametrize("named", ["relative", "slash", "home", "link"])
def test_a_run_is_the_same_however_it_is_named(
    copied_run: Path,
    finished_run: Run,
    tmp_path: Path,
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
) -> None:
    given: dict[str, Any] = {"method": "cg", "labels": 0.05, "overrides": tiny, "device": "cpu"}
    given |= {"steps": 40, "exist_ok": True}
    (tmp_path / "mine").mkdir()
    stop_at(1)
    with suppress(Interrupted):
        training.train("digits", out=tmp_path / "mine", score=copied_run, **given)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    out, score = {
        "relative": ("mine", "copied"),
        "slash": (f"{tmp_path}/mine/", f"{copied_run}/"),
        "home": ("~/mine", "~/copied"),
        "link": (tmp_path / "link" / "mine", tmp_path / "link" / "copied"),
    }[named]
    stop_at(2)
    with pytest.raises(Interrupted, match="at step 2"):
        training.train("digits", out=out, score=score, **given)
    config = RunFolder(tmp_path / "mine").read_config()
    assert config.score_from == str(copied_run)
    assert not (tmp_path / "~").exists()


def test_home_in_an_option_and_after_a_prefix_is_the_home(
    cli: Callable[..., SimpleNamespace],
    copied_run: Path,
    tmp_path: Path,
    tiny_train: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shells write it out before a word alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = tiny_train(Path("unused"), "--score=~/copied", "--method", "cg", "--out=~/it")
    assert cli(*arguments, "--steps", 1).status == 0
    assert RunFolder(tmp_path / "it").steps_done("classifier") == 1
    images = np.zeros((8, 8, 8), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None]
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(8) % 2)
    assert training.default_out("~/few.npz") == Path("runs") / "few.npz"
    planned = plan("~/few.npz", options={"method": "cg"})
    assert planned.config.data == str(tmp_path / "few.npz")
