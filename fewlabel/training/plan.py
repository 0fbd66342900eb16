"""From what a user asked for to the whole configuration of a run, before anything is built."""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewlabel import methods, presets, process
from fewlabel.batch import UNLABELLED
from fewlabel.config import Config, Request, setting, validated
from fewlabel.data import (
    Dataset,
    Splits,
    absolute,
    draw_splits,
    labelled_by_csv,
    open_dataset,
)
from fewlabel.data.dataset import in_words, refuse_other_shape
from fewlabel.data.holding_out import TRAIN, by_place
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.models import training_times
from fewlabel.progress import tell, track
from fewlabel.recipes import NO_RECIPE, find_recipe, merged
from fewlabel.run_folder import RunFolder, read_settings
from fewlabel.training import origins

__all__ = ["Plan", "flat", "plan"]


class Plan:
    """A resolved configuration with the data and the split manifest it speaks of."""

    def __init__(self, config: Config, dataset: Dataset, splits: Splits) -> None:
        self.config, self.dataset, self.splits = config, dataset, splits

    def summary(self) -> str:
        """What is about to be trained on what, in one line."""
        config, splits = self.config, self.splits
        held_out = np.concatenate([splits.validation, splits.test])
        with_label = int((self.dataset.labels[held_out] != UNLABELLED).sum())
        row = methods.find_method(config.method)
        models = ", ".join(map(self._to_train, row.stages))
        if row.taught and len(splits.labelled) == len(splits.train):
            models += "; every training image shows its label, there is none to propagate one to"
        return (
            f"{self.dataset.name}: {len(splits.train)} examples of {in_words(config.shape)}, "
            f"{len(splits.labelled)} labelled in {len(splits.class_names)} classes, "
            f"{len(held_out)} held out, {with_label} of them labelled; {config.method}, preset "
            f"{config.preset}: {models}"
        )

    def _to_train(self, stage: methods.Stage) -> str:
        if stage == "score" and self.config.score_from:
            return "score model shared"
        title = "score model" if stage == "score" else "classifier"
        return f"{title} {self.config.fit(stage).steps} steps"


def plan(
    data: str | os.PathLike[str] | None,
    *,
    options: Mapping[str, Any],
    steps: int | None = None,
    score: Path | None = None,
    teacher: str | None = None,
    config: Path | None = None,
    overrides: Iterable[str] = (),
    strict: bool = False,
    balance: bool = False,
    flip: bool = False,
    recipe: str | None = None,
    scale_down: bool = False,
    begun: RunFolder | None = None,
) -> Plan:
    """Resolve a configuration: preset, recipe, YAML file, options, then `--set`, key by key.

    Args:
        data: the dataset; may be None if the YAML file names it.
        options: values of top-level keys; None means not given.
        steps: training steps of each stage.
        score: the run whose score model is used.
        teacher: what labels the unlabelled, see `fewlabel.training.given_teacher`.
        config: a YAML file such as the config.yaml of a run.
        overrides: "dotted.key=value" strings; values are YAML.
        strict: refuse broken images, rather than leave them out and say so.
        balance: draw labelled examples equally often of each class, in both stages.
        flip: mirror images at random as they train, in both stages.
        recipe: a name in `fewlabel.recipes.RECIPES`.
        scale_down: of the recipe take the small form.
        begun: the run that training goes on with: what it took from others need not be there.

    Raises:
        UserError: for whatever is wrong with them or the data.
    """
    if scale_down and recipe is None:
        raise UserError(NO_RECIPE)
    asked = find_recipe(recipe, scale_down).settings if recipe else {}
    settings = read_settings(config) if config else {}
    asked = merged(asked, settings)
    if data is not None and asked.get("data") not in (None, absolute(data)):
        theirs = {key: asked.pop(key) for key in _FROM_DATA if key in asked}
        if theirs.get("size") is not None and options.get("size") is None:
            _say_once(
                f"note: size {theirs['size']} in {config} is that of other data, and not taken"
            )
    given = {key: value for key, value in options.items() if value is not None}
    asked = merged(asked, given | ({"data": absolute(data)} if data is not None else {}))
    if steps is not None:
        asked = merged(asked, {s: {"fit": {"steps": steps}} for s in ("score", "classifier")})
    for key in [key for key, wanted in {"balance": balance, "flip": flip}.items() if wanted]:
        asked = merged(asked, {s: {"fit": {key: True}} for s in ("score", "classifier")})
    for text in overrides:
        asked = merged(asked, _override(text))
    asked |= {k: str(v) for k, v in (("score_from", score), ("teacher", teacher)) if v}
    of_config = origins.taken_out(asked, settings)
    if "data" not in asked:
        raise UserError("no data: name a built-in dataset or a folder, as in `train digits`")
    asked.setdefault("method", methods.DEFAULT)
    if is_table(str(asked.get("labels"))):
        asked["labels"] = str(Path(asked["labels"]).expanduser().resolve())
    of_request = {key: asked[key] for key in Request.model_fields if key in asked}
    request = validated(of_request, "configuration", Request)
    methods.find_method(request.method)
    if request.sigma_data is not None:
        asked["sigma_data"] = request.sigma_data
    dataset = labelled_by_csv(_open(request, strict), request.labels)
    for remark in dataset.remarks():
        _say_once(f"note: {remark}")
    source, shared = asked.get("score_from"), {}
    holder = origins.score_holder(RunFolder(source), begun) if source else None
    splits = _splits(request, dataset, holder)
    asked["preset"] = request.preset or presets.preset_for(dataset.shape)
    if source and holder:
        place = str(holder.path.resolve()) if holder is not begun else None
        shared = _score_of(holder, place, request.method, dataset)
        if ignored := _differing(asked, shared):
            _say_once(f"note: {', '.join(ignored)}: as {source} has it, whose score model this is")
        asked |= shared
    if named := asked.get("teacher"):
        asked |= origins.origin_of_teacher(named, request.method, dataset, splits, begun)
    origins.refuse_other(of_config, asked, str(config))
    if "sigma_data" not in asked:
        asked["sigma_data"] = _spread(dataset, splits)
    values = merged(_preset(asked), asked) | {"shape": dataset.shape}
    if len(dataset.shape) > 1:
        values["size"] = dataset.shape[-1]
    values = merged(_default_weights(asked["method"]), values) | shared
    resolved = validated(values, "configuration", Config)
    _check_times(resolved)
    if len(dataset.shape) == 1:
        _check_centre(resolved, dataset, splits)
    _check_weights(resolved)
    _check_shares(resolved, splits)
    return Plan(resolved, dataset, splits)


_KNOWN = 0.5  # of fewer files than this share a note says what it may mean
_OF_CENTRE = 10_000
_FROM_DATA = ("size", "shape", "sigma_data")
_ORIGIN = ("score_from", "score_id")


def _preset(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The preset that was asked for; of another process than its own it knows no parameters."""
    preset = presets.preset_values(asked["preset"], asked["sigma_data"])
    if methods.find_method(asked["method"]).taught == "classifier":
        preset = merged(preset, presets.TAUGHT.get(asked["preset"], {}))
    process = asked.get("process")
    name = process.get("name") if isinstance(process, Mapping) else None
    if name in (None, preset["process"]["name"]):
        return preset
    return (
        preset
        | {"process": {}}
        | {stage: {**preset[stage], "times": {}} for stage in ("score", "classifier")}
    )


def _spread(dataset: Dataset, splits: Splits) -> float:
    """σ_data of the training examples, to six significant digits."""
    spread = float(f"{dataset.spread(splits.train):.6g}")
    if spread == 0:
        raise UserError(f"{dataset.name}: all values are the same (constant); check the data")
    return spread


def _check_times(config: Config) -> None:
    """Refuse distributions of training times that there are not, before anything is trained."""
    for stage in methods.find_method(config.method).stages:
        training_times(config, stage)


def _check_centre(config: Config, dataset: Dataset, splits: Splits) -> None:
    """Refuse vectors that are far from where sampling begins, N(0, σ(t_max)²)."""
    of_score, some = process.from_config(config.process), len(splits.train) // _OF_CENTRE + 1
    centre = float(dataset.examples(splits.train[::some]).mean())
    last = torch.tensor(of_score.t_max, dtype=torch.float64)
    if abs(centre) * of_score.alpha(last) > of_score.sigma(last):
        raise UserError(
            f"{dataset.name}: the vectors lie around {centre:.4g}, and sampling begins around 0 "
            f"with a spread of {of_score.sigma(last):.4g}: subtract their mean"
        )


def _default_weights(method: str) -> dict[str, Any]:
    row = methods.find_method(method)
    return {
        stage: {"fit": {"weights": {n: loss.weight for n, loss in row.losses(stage).items()}}}
        for stage in row.stages
    }


def _check_weights(config: Config) -> None:
    """Refuse a weight whose loss the method does not have, before anything is trained."""
    row = methods.find_method(config.method)
    for stage in row.stages:
        losses = row.losses(stage)
        if unknown := set(config.fit(stage).weights) - set(losses):
            raise UserError(
                f"configuration: {stage}.fit.weights.{min(unknown)}: {config.method} has no such "
                f"loss; it has {', '.join(losses)}"
            )


def _check_shares(config: Config, splits: Splits) -> None:
    """Refuse what says how often labelled examples are drawn, and changes nothing."""
    row, n_train = methods.find_method(config.method), len(splits.train)
    parts = {stage: {loss.part for loss in row.losses(stage).values()} for stage in row.stages}
    balanced = {stage for stage in row.stages if config.fit(stage).balance}
    if balanced and not any(
        "labelled" in parts[stage] or config.fit(stage).labelled_share for stage in balanced
    ):
        raise UserError(
            f"configuration: {min(balanced)}.fit.balance: {config.method} draws all images alike, "
            "with a label or without; leave --balance out, or give a labelled_share too"
        )
    for stage in row.stages:
        share = config.fit(stage).labelled_share
        if share is not None and "all" not in parts[stage]:
            raise UserError(
                f"configuration: {stage}.fit.labelled_share: {share:g}, but {config.method} draws "
                "labelled images alone there; leave it out"
            )
        pseudo = row.taught == stage == "score"
        if share not in (None, 1) and (pseudo or len(splits.labelled) == n_train):
            raise UserError(
                f"configuration: {stage}.fit.labelled_share: {share:g}, but all {n_train} "
                f"training examples of {splits.data} show a label there: use fewer labels or "
                "leave it out"
            )


def _open(request: Request, strict: bool) -> Dataset:
    with track("reading images") as task:
        return open_dataset(request.data, request.size, task.set, strict)


@cache
def _say_once(text: str) -> None:
    """To standard error, however many runs are planned."""
    tell(text)


def _differing(asked: Mapping[str, Any], shared: Mapping[str, Any]) -> list[str]:
    """The keys of the score model for which something else was asked."""
    wanted = flat({key: asked[key] for key in shared if key in asked and key not in _ORIGIN})
    has = {key: list(v) if isinstance(v, tuple) else v for key, v in flat(shared).items()}
    return [key for key in wanted if key in has and has[key] != wanted[key] and ".fit." not in key]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _score_of(
    holder: RunFolder, place: str | None, method: str, dataset: Dataset
) -> dict[str, Any]:
    """The keys that follow from using the score model of another run, and which model it is.

    Args:
        holder: the run that holds it: that one, or one that has a copy.
        place: where that one is; None for where the holder's own was.
        method: the method.
        dataset: the data.
    """
    shared = _shared_score(holder.path, method, dataset)
    came_from = place or holder.read_config().score_from
    return shared | {"score_from": came_from, "score_id": holder.weights_id("score")}


def _shared_score(folder: Path, method: str, dataset: Dataset) -> dict[str, Any]:
    """The keys that follow from using the score model of another run."""
    source = RunFolder(folder).read_config()
    if not methods.find_method(method).shares_score:
        raise UserError(
            f"{method} trains a score model of its own; leave --score out, or choose a method "
            "with classifier guidance such as cg"
        )
    if not methods.find_method(source.method).shares_score:
        raise UserError(
            f"the score model of {folder} is conditional ({source.method}); give a run of a "
            "method with classifier guidance, such as cg"
        )
    if RunFolder(folder).steps_done("score") == 0:
        raise UserError(f"{folder} has no score model yet; train that run first")
    if not RunFolder(folder).checkpoints("score").is_finished(source.score.fit.steps):
        raise UserError(
            f"the score model of {folder} is still in training, or was stopped; wait for it, or "
            "train that run on"
        )
    refuse_other_shape(f"the score model of {folder} makes", source.shape, dataset)
    keys = {"score", "process"}
    if source.score.prediction == "preconditioned":  # others do not depend on it
        keys.add("sigma_data")
    return source.model_dump(include=keys)


def _splits(request: Request, dataset: Dataset, score: RunFolder | None) -> Splits:
    """The split of the data; what a score model that is used here knows keeps its side.

    Raises:
        UserError: if the score model was trained on examples that are held out here, or on most of
            those whose content holds them out: too little would be left to measure by.
    """
    label_seed = request.seed if request.label_seed is None else request.label_seed
    usual = draw_splits(dataset, request.labels, label_seed)
    if score is None:
        return usual
    score.read_config()  # says if it is no run
    theirs = score.read_splits()
    splits = draw_splits(dataset, request.labels, label_seed, before=theirs)
    seen, held = splits.leaked(theirs), splits.held_out
    due = np.intersect1d(usual.held_out, np.flatnonzero(by_place(dataset) != TRAIN))
    lost = np.intersect1d(due, usual.leaked(theirs))
    if len(lost) > len(due) / 2 or not len(held):
        seen, held = usual.leaked(theirs), usual.held_out
    if len(seen):
        named = f", such as {dataset.files[seen[0]]}" if dataset.files else ""
        raise UserError(
            f"the score model of {score} was trained on {len(seen)} of the {len(held)} examples "
            f"that are to be held out here{named}: give its labels ({theirs.labels}), train a "
            "score model anew (leave --score out), or give a run that did not see them"
        )
    known = sum(int(np.isin(dataset.contents, side).sum()) for side in theirs.sides.values())
    if theirs.sides and known < _KNOWN * len(dataset):
        _say_once(
            f"note: the score model of {score} knows {known} of the {len(dataset)} examples: if "
            "it saw others in another form, such as files saved anew, figures look too good"
        )
    return splits


def _override(text: str) -> dict[str, Any]:
    key, nested = setting(text)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested
