"""The files of a run folder, and nothing of what is in them.

config.yaml          the whole configuration, versions, git revision
labels.json          the split manifest: who trains, who is held out, whose label is used
teacher.safetensors  class probabilities of the training examples, for methods with a teacher
score/  classifier/  checkpoints, see `fewlabel.training.checkpoint`
metrics.jsonl        one line a logging step
sheets/              samples of the score model while it trained
tensorboard/         curves, if they were asked for
samples/             a folder of pictures for each request of `sample`
evaluation.json      the figures of the last evaluation
report.html          the page to look at
.lock                held by the process that trains here
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any

import yaml
from torch import Tensor

from fewlabel import methods
from fewlabel.config import Config, read_yaml, validated
from fewlabel.data import Splits
from fewlabel.errors import UserError
from fewlabel.files import (
    append_line,
    check_free,
    read_json,
    write_json,
    write_text,
)
from fewlabel.owners import sweep
from fewlabel.regular_file import regular
from fewlabel.training.best import validation_loss
from fewlabel.training.checkpoint import Checkpoints

__all__ = ["RunFolder", "read_settings", "summary"]

_PROVENANCE = ("versions", "revision")
_IN_A_RECORD: dict[str, type | UnionType] = {
    "stage": str,
    "step": int,
    "steps": int,
    "seconds": int | float,
    "losses": dict,
    "validation": dict,
}
_OF_OTHERS = ("score_from", "teacher")
_WHOLE = re.compile(r"(\w+:)?(/.*)", re.DOTALL)
_FROM_FILE = re.compile(r"(\w+:)?(\.\.?/.*)", re.DOTALL)


class RunFolder:
    """The folder of a run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.expanduser(path))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "config.yaml").is_file()

    def check_free(self) -> None:
        """Refuse a folder that is neither a run nor free for one.

        Raises:
            UserError: if it is a file, or holds other files.
        """
        begun = self.path.is_dir() and [p.name for p in self.path.iterdir() if p.name[0] != "."]
        if not (begun == ["labels.json"] and self._holds_splits()):
            check_free(self.path, "config.yaml", "run")

    def begin(self, config: Config, splits: Splits) -> None:
        """Write the manifest and the configuration; the folder is a run from then on."""
        self.check_free()
        write_json(self.path / "labels.json", splits.to_json())
        self._write(config, {"versions": _versions(), "revision": _revision()})

    def rewrite(self, config: Config) -> None:
        """Replace the configuration by another of the same run, whose data moved for example."""
        if config != self.read_config():
            found = read_yaml(self.path / "config.yaml")
            self._write(config, {key: found[key] for key in _PROVENANCE if key in found})

    def _write(self, config: Config, provenance: Mapping[str, Any]) -> None:
        places = {
            key: _from_file(value, self.path.resolve())
            for key in _OF_OTHERS
            if (value := getattr(config, key)) is not None
        }
        text = config.model_copy(update=places).to_yaml() + yaml.safe_dump(
            dict(provenance), sort_keys=False
        )
        write_text(self.path / "config.yaml", text)

    def _holds_splits(self) -> bool:
        """Whether a run was begun here and stopped before its configuration was written."""
        try:
            self.read_splits()
        except UserError:
            return False
        return True

    def remove_leftovers(self) -> None:
        """Remove what a killed training left half-written, beside its checkpoints."""
        for folder in (self.path, self.path / "sheets"):
            sweep(folder)

    def read_config(self) -> Config:
        """The configuration.

        Raises:
            UserError: if the folder is no run.
        """
        if not self.path.is_dir():
            raise UserError(f"there is no run folder {self.path}; `fewlabel train` makes one")
        if not self.exists:
            raise UserError(f"{self.path} is no run folder: it has no config.yaml; give another")
        path = self.path / "config.yaml"
        return validated(read_settings(path), str(path), Config)

    def read_splits(self) -> Splits:
        """The split manifest.

        Raises:
            UserError: if it is not there or is damaged.
        """
        path = regular(self.path / "labels.json")
        try:
            return Splits.from_json(read_json(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); train into another --out") from None

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of a stage, "score" or "classifier"."""
        return Checkpoints(self.path / stage)

    def steps_done(self, stage: str) -> int:
        """Steps up to the newest whole checkpoint of a stage."""
        newest = self.checkpoints(stage).newest()
        return newest[0] if newest else 0

    def average(self, stage: str, config: Config) -> dict[str, Tensor]:
        """The averaged weights of a stage that the run works with.

        Those of the best validation where training may stop early (`fit.patience`), else the last.

        Raises:
            UserError: if there are none.
        """
        checkpoints, best = self.checkpoints(stage), config.fit(stage).patience is not None
        checkpoints.report_damaged(best)
        return checkpoints.ema_weights(best)

    def weights_id(self, stage: str) -> str | None:
        """A name for the averaged weights of a stage, the same wherever they are copied to."""
        best = self.read_config().fit(stage).patience is not None
        return self.checkpoints(stage).identity(best)

    def is_finished(self, config: Config) -> bool:
        """Whether every stage is trained; a shared score model needs no training."""
        stages = methods.find_method(config.method).stages
        own = [s for s in stages if not (s == "score" and config.score_from)]
        done = all(self.checkpoints(s).is_finished(config.fit(s).steps) for s in own)
        return done and all(self.steps_done(stage) > 0 for stage in stages)

    @property
    def has_beliefs(self) -> bool:
        """Whether its teacher was asked: teacher.safetensors is there."""
        return self.beliefs.is_file()

    @property
    def beliefs(self) -> Path:
        """teacher.safetensors."""
        return self.path / "teacher.safetensors"

    @property
    def log(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    def records(self) -> list[dict[str, Any]]:
        """What was logged; lines cut short by a crash, or damaged since, are left out."""
        if not self.log.exists():
            return []
        lines = regular(self.log).read_bytes().splitlines()
        return [record for line in lines if (record := _record(line))]

    def seconds(self, stage: str) -> float:
        """The training time of a stage up to its last line in the log."""
        return max((r["seconds"] for r in self.records() if r["stage"] == stage), default=0.0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        append_line(self.log, json.dumps(record))

    def forget_after(self, stage: str, step: int) -> None:
        """Drop what was logged of a stage after a step that training goes on from, or in part."""
        kept = [r for r in self.records() if r["stage"] != stage or r["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if self.log.exists() and self.log.read_bytes() != text.encode():
            write_text(self.log, text)


def _record(line: bytes) -> dict[str, Any] | None:
    """A line of the log, or None if it is not whole."""
    try:
        record = json.loads(line)
        whole = all(isinstance(record[key], kind) for key, kind in _IN_A_RECORD.items())
        numbers = [*record["losses"].values(), *record["validation"].values()] if whole else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if whole and all(isinstance(n, int | float) for n in numbers) else None


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file such as config.yaml, without the versions it was made with.

    The place of another run that begins with ``./`` or ``../`` is taken from the file's folder.
    """
    found = {key: value for key, value in read_yaml(path).items() if key not in _PROVENANCE}
    for key in _OF_OTHERS:
        place = _FROM_FILE.fullmatch(str(found.get(key)))
        if place:
            prefix, relative = place.groups("")
            found[key] = prefix + str((path.parent.resolve() / relative).resolve())
    return found


def _from_file(place: str, folder: Path) -> str:
    """A place as config.yaml in a folder has it: from there, if both lie in the same folder.

    The folders of a comparison, or of a project, can then be moved together.
    """
    whole = _WHOLE.fullmatch(place)
    if whole and (path := Path(whole[2])).parent in folder.parents:
        return (whole[1] or "") + os.path.relpath(path, folder)
    return place


def _versions() -> dict[str, str]:
    packages = ("fewlabel", "torch", "diffusers", "accelerate", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _revision() -> str | None:
    """The git revision of the working directory, if it is in a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def summary(folder: RunFolder) -> dict[str, Any]:
    """What a run is and how far it came: the document of `fewlabel info --json`."""
    config, splits, records = folder.read_config(), folder.read_splits(), folder.records()
    stages = methods.find_method(config.method).stages
    done = {stage: folder.steps_done(stage) for stage in stages}
    wanted = {stage: config.fit(stage).steps for stage in stages}
    if config.score_from:
        wanted["score"] = done["score"]
    validation = {stage: _last_validation(records, stage) for stage in stages}
    best = {stage: _best_validation(records, stage) for stage in stages}
    return {
        "run": str(folder.path),
        "state": "finished" if folder.is_finished(config) else "unfinished",
        "data": config.data,
        "method": config.method,
        "labels": config.labels,
        "seed": config.seed,
        "preset": config.preset,
        "shape": list(config.shape),
        "classes": list(splits.class_names),
        "examples": {
            "train": len(splits.train),
            "labelled": len(splits.labelled),
            "validation": len(splits.validation),
            "test": len(splits.test),
            "broken": len(splits.skipped),
        },
        "steps": {stage: f"{done[stage]}/{wanted[stage]}" for stage in stages},
        "validation": {stage: figures for stage, figures in validation.items() if figures},
        "best": {stage: figures for stage, figures in best.items() if figures},
        "seconds": {stage: round(folder.seconds(stage), 1) for stage in stages},
        "score_from": config.score_from,
        "score_id": config.score_id,
        "score_source": _score_source(config),
        "imported_from": config.imported_from,
    }


def _score_source(config: Config) -> str | None:
    """What is now where the score model was taken from; the run has its own copy."""
    if config.score_from is None:
        return None
    source = RunFolder(config.score_from)
    if not source.exists:
        return "no longer there"
    return "there" if source.weights_id("score") == config.score_id else "another model is there"


def _last_validation(records: list[dict[str, Any]], stage: str) -> dict[str, float]:
    """The newest figures on the validation split."""
    found = [r["validation"] for r in records if r["stage"] == stage and r["validation"]]
    return found[-1] if found else {}


def _best_validation(records: list[dict[str, Any]], stage: str) -> dict[str, float]:
    """The figures of the validation with the least loss, and its step."""
    found = [r for r in records if r["stage"] == stage]
    losses = [(validation_loss(r["validation"]), r) for r in found]
    scored = [(loss, r) for loss, r in losses if loss is not None]
    if not scored:
        return {}
    _, best = min(scored, key=lambda pair: pair[0])  # the first of equals, as in training
    return {"step": best["step"], **best["validation"]}
