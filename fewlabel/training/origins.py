"""What a run takes from elsewhere, a score model or a teacher: it may move, but not change.

The configuration has the place of each and a digest of what it holds. What the run has its own
copy of need not be at its place any more when training goes on.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from fewlabel.data import Dataset, Splits
from fewlabel.data.table import is_table
from fewlabel.errors import UserError
from fewlabel.methods import find_method
from fewlabel.progress import tell
from fewlabel.run_folder import RunFolder
from fewlabel.training import given_teacher

__all__ = ["may_move", "origin_of_teacher", "refuse_other", "score_holder", "taken_out"]

_ORIGINS = {
    "score_from": ("score_id", "score model", "--score"),
    "teacher": ("teacher_id", "teacher", "--teacher"),
}
"""The keys of places: the key of the digest, what is taken from there, and the option for it."""


def may_move(key: str, before: Any, now: Any) -> bool:
    """Whether the place that a key names may be another when training goes on.

    The digest decides in its stead; of labels in a CSV the split manifest does.
    """
    if before is None or now is None:
        return False
    return key in _ORIGINS or (key == "labels" and is_table(str(before)) and is_table(str(now)))


def taken_out(asked: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Take the digests out of what was asked for; those that still count, for `refuse_other`.

    Args:
        asked: the settings of a file, with what was given beside it.
        settings: those of the file alone; where another place was given its digest is void.
    """
    taken = {digest: asked.pop(digest, None) for digest, *_ in _ORIGINS.values()}
    same = [d for key, (d, *_) in _ORIGINS.items() if asked.get(key) == settings.get(key)]
    return {digest: taken[digest] for digest in same}


def score_holder(source: RunFolder, begun: RunFolder | None) -> RunFolder:
    """The run to read a score model from: the one that was named, or the copy of a run.

    Args:
        source: the run that was named.
        begun: the run that training goes on with, if there is one.
    """
    if begun is None or source.steps_done("score") or not begun.steps_done("score"):
        return source
    if begun.read_config().score_from is None:
        return source
    _say_once(f"note: there is no score model in {source} any more; {begun} has its own copy")
    return begun


def origin_of_teacher(
    named: str, method: str, dataset: Dataset, splits: Splits, begun: RunFolder | None
) -> dict[str, Any]:
    """The keys of the configuration that tell what labels the unlabelled.

    Args:
        named: what was asked for, see `given_teacher`.
        method: the method.
        dataset: the data.
        splits: which of them train.
        begun: the run that training goes on with, if there is one.

    Raises:
        UserError: if it cannot teach, and the run that was begun does not have what it said.
    """
    if begun is not None and begun.has_beliefs and not given_teacher.is_there(named):
        before = begun.read_config()
        if before.teacher is not None and find_method(method).takes_teacher:
            _say_once(f"note: there is no {named} any more; {begun} has what it said")
            return {"teacher": before.teacher, "teacher_id": before.teacher_id}
    teacher, digest = given_teacher.resolved(named, method, dataset, splits)
    return {"teacher": teacher, "teacher_id": digest}


def refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse a score model or a teacher that is not the one that was taken before.

    Args:
        before: settings with places and digests; those without a digest are not looked at.
        now: the same settings of what is there now.
        where: what the settings before are those of.

    Raises:
        UserError: if what they hold differs.
    """
    for key, (digest, title, option) in _ORIGINS.items():
        if before.get(digest) is not None and now.get(digest) not in (None, before[digest]):
            raise UserError(
                f"{where} took another {title} than the one that {now[key]} holds now; give "
                f"{option} with the one that it took, or choose another --out"
            )


@cache
def _say_once(text: str) -> None:
    """To standard error, however many runs are planned."""
    tell(text)
