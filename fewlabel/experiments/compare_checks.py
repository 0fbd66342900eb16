"""What is refused of a comparison before anything is trained."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fewlabel import guidance, launched, samplers
from fewlabel.data import absolute
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.experiments.compare_cells import METRICS_TO_CHOOSE, Protocol
from fewlabel.experiments.grid import Grid
from fewlabel.methods import DEFAULT, find_method
from fewlabel.metrics.extractors import find_extractor
from fewlabel.metrics.judging import check_data, check_numbers
from fewlabel.regular_file import regular
from fewlabel.run_folder import RunFolder
from fewlabel.training.plan import Plan, plan
from fewlabel.training.stages import check_settings

__all__ = [
    "check_same",
    "checked",
    "plain",
    "planned_cell",
    "protocol_in",
    "refuse_overrides",
]

_OPTIONS = {
    "data": "DATA",
    "size": "--size",
    "method": "--methods",
    "labels": "--labels",
    "seed": "--seeds",
    "label_seed": "--draws",
    "score_from": "--score",
    "teacher": "--teacher",
}
"""What --set must leave to the cells, and the options that set it."""


def checked(asked: Grid) -> Grid:
    """Refuse what cannot be, and give the grid with the whole paths of what it names.

    Raises:
        UserError: for the first thing that is wrong.
    """
    protocol, methods, labels = asked.protocol, asked.methods, asked.labels
    if launched.number() > 1:
        raise UserError("a comparison has processes of its own: start it without a launcher")
    draws = 1 if asked.draws is None else asked.draws
    for name, value in {"--seeds": asked.seeds, "--draws": draws}.items():
        if value < 1:
            raise UserError(f"{name} {value}: give at least 1")
    for listed, option in ((methods, "--methods"), (labels, "--labels")):
        if len(set(listed)) < max(1, len(listed)):
            raise UserError(f"{option} {','.join(listed)}: give each once, and at least one")
    if len(asked.tables) < sum(map(is_table, labels)):
        raise UserError(f"--labels {','.join(labels)}: files of the same name; rename one")
    for method in methods:
        find_method(method)
    refuse_overrides(protocol.overrides, _OPTIONS)
    _check_judging(protocol)
    plans = [planned_cell(protocol, method, labels[0]) for method in methods]
    for planned in plans:
        check_settings(planned, processes=1)
    for planned in (plans[0], *(planned_cell(protocol, methods[0], n) for n in labels[1:])):
        data = planned.dataset, planned.splits
        check_data(METRICS_TO_CHOOSE, *data, "validation")
        check_data(protocol.metrics, *data, "report")
    judged = protocol.extractor == "judge"
    extractor = None if judged else find_extractor(protocol.extractor, plans[0].dataset).key
    taught = next((p.config for p in plans if p.config.teacher), None)
    if protocol.teacher and not taught:
        raise UserError(
            f"--teacher {protocol.teacher}: none of {', '.join(methods)} takes one; leave it out, "
            f"or add {DEFAULT} to --methods"
        )
    score = RunFolder(protocol.score) if protocol.score is not None else None
    whole = replace(
        protocol,
        data=absolute(protocol.data),
        data_id=plans[0].dataset.fingerprint,
        score=str(score.path.resolve()) if score else None,
        score_id=score.weights_id("score") if score else None,
        teacher=taught.teacher if taught else None,
        teacher_id=taught.teacher_id if taught else None,
        extractor_id=extractor,
    )
    return replace(asked, protocol=whole)


def plain(protocol: Protocol) -> dict[str, Any]:
    """A protocol as it is read back."""
    return dict(json.loads(json.dumps(asdict(protocol))))


def protocol_in(out: Path) -> dict[str, Any] | None:
    """What a comparison was begun with; None if there is none in the folder.

    Raises:
        UserError: if the file is damaged.
    """
    path = out / "protocol.json"
    if not path.exists():
        return None
    try:
        return dict(json.loads(regular(path).read_text(encoding="utf-8")))
    except UserError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: choose another --out") from error


def check_same(out: Path, protocol: Protocol) -> None:
    """Refuse to go on with a comparison by another protocol.

    What it names is known by what it holds, where that was noted, not by its place.

    Args:
        out: the folder.
        protocol: what is asked for.

    Raises:
        UserError: for the first thing that is another.
    """
    now = plain(protocol)
    before = protocol_in(out) or now
    known = [k for k in now if before.get(f"{k}_id") and now.get(f"{k}_id")]
    compared = {k: before.get(k) == now[k] for k in now if k not in known and k[-3:] != "_id"}
    compared |= {k: before[f"{k}_id"] == now[f"{k}_id"] for k in known}  # size tells of the data
    for key in [key for key, same in compared.items() if not same]:
        also = ", where something else is than before" * (before.get(key) == now[key])
        raise UserError(
            f"{out} is another comparison: there {key} is {before.get(key)}, now it is "
            f"{now[key]}{also}; choose another --out, or the same settings to go on"
        )


def refuse_overrides(overrides: Iterable[str], options: Mapping[str, str]) -> None:
    """Refuse settings that have an option of their own: they would be the same in every run.

    Args:
        overrides: "dotted.key=value" strings.
        options: what to give in the place of each key.

    Raises:
        UserError: for the first of them.
    """
    for text in overrides:
        key = text.partition("=")[0]
        if key in options:
            raise UserError(f"--set {text}: {key} is not for --set here; give {options[key]}")


def _check_judging(protocol: Protocol) -> None:
    """Refuse what would be refused when the first samples are judged."""
    if not protocol.scales:
        raise UserError("there is no guidance scale to choose from; give --scale 1,2,4")
    for scale in protocol.scales:
        guidance.check(scale)
    samplers.find_sampler(protocol.sampler, protocol.steps)
    check_numbers(METRICS_TO_CHOOSE, protocol.per_class_to_choose)
    check_numbers(protocol.metrics, protocol.per_class)


def planned_cell(protocol: Protocol, method: str, labels: str) -> Plan:
    """What a method would train on an amount of labels; it refuses what is wrong."""
    settings = protocol.settings
    options = {name: settings.pop(name) for name in ("size", "preset")}
    options |= {"method": method, "labels": labels}
    teacher, row = protocol.teacher_of(method), find_method(method)
    score = Path(protocol.score) if protocol.score is not None and row.shares_score else None
    return plan(protocol.data, options=options, score=score, teacher=teacher, **settings)
