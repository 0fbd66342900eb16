"""What a source says of labels, made labels and classes: every source of data goes through here.

- Some texts say "no label": -1, nan, none and the like. They are counted in a note.
- Names are composed (Unicode NFC) and trimmed: two spellings of one name are one class.
- Numbers are in the order of numbers, other names in that of text or of the source's own list.
- A class that no example has is left out, with a note.
"""

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.errors import UserError
from fewlabel.files import printable
from fewlabel.limits import read_text

__all__ = [
    "Known",
    "are_numbers",
    "index_of",
    "known_integers",
    "known_labels",
    "names_in",
    "plain_name",
    "position_of",
    "refuse_sign",
    "says_none",
    "signed",
]

_UNLABELLED_FOLDERS = ("unlabeled", "unlabelled")
_SIGNS = {
    *("", "nan", "-nan", "na", "<na>", "n/a", "#n/a", "#na", "none", "null"),
    *_UNLABELLED_FOLDERS,
}
_DASH = re.compile("[\u2010-\u2014\u2212]")
_MINUS_ONE = re.compile(r"-1([.,]0*)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_WHOLE = re.compile(r"(\d+|-\d+)(\.0*)?")
_ZERO = re.compile(r"-(0+(\.0*)?|\.0+)")
_UNSEEN = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]+")
_CONTROLS = ("Cc", "Zl", "Zp")
_SHOWN = 3


class Known(NamedTuple):
    """What is known of the labels of examples.

    Attributes:
        labels: (N,) int64; −1 for none.
        class_names: the name of each class; every class has an example.
        notes: what people should know of how the labels were read, one sentence each.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def plain_name(text: str) -> str:
    """A name in one spelling: composed letters (NFC), no space around it."""
    return unicodedata.normalize("NFC", text).strip()


def names_in(path: Path) -> list[str]:
    """The names in a list of classes, one a line; blank lines at its end do not count.

    Raises:
        UserError: for a blank line before others, which would shift them.
    """
    names = [line.strip() for line in read_text(path, errors="replace").splitlines()]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise UserError(f"{path}, line {names.index('') + 1} is blank: write a name there")
    return names


def says_none(text: str) -> bool:
    """Whether a text in the place of a label says that there is none."""
    plain = _DASH.sub("-", unicodedata.normalize("NFKC", plain_name(text))).casefold()
    return plain in _SIGNS or bool(_MINUS_ONE.fullmatch(plain))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether all names are decimal numbers."""
    return all(_NUMBER.fullmatch(name) for name in names)


def position_of(asked: str, names: tuple[str, ...]) -> int | None:
    """Which of the names is meant, in whatever Unicode form; 3, 3.0 and 03 are one number."""
    places, plain = _places(names), plain_name(asked)
    return places.get(plain, places.get(_value(plain)))


def index_of(asked: int | str, names: tuple[str, ...]) -> tuple[int, bool] | None:
    """Which class is asked for, and whether by its position rather than by its name.

    A number is a name where one of the names is that number, or all are numbers; else a position.
    None: there is no such class.
    """
    number = None
    with suppress(TypeError, ValueError):
        number = int(asked) if isinstance(asked, str) else operator.index(asked)
    by_name = position_of(asked if isinstance(asked, str) else str(number), names)
    if by_name is not None:
        return by_name, False
    if number is None or are_numbers(names) or not 0 <= number < len(names):
        return None
    return number, True


def refuse_sign(folder: Path) -> None:
    """Refuse a class folder whose name says "no label", but for unlabeled/.

    Raises:
        UserError: if it does.
    """
    if says_none(folder.name) and plain_name(folder.name).lower() not in _UNLABELLED_FOLDERS:
        raise UserError(
            f"folder {folder}: its name says that there is no label: rename it to unlabeled/ if "
            "its images have none, or to another name if it is a class"
        )


def signed(values: NDArray[np.integer], n_names: int = 0) -> NDArray[np.int64]:
    """Integers in which −1 is −1, even where it was stored in a kind without a sign.

    Stored so it is the largest value of the kind. The largest value is taken for −1 if the value
    just below it does not occur, as it would among so many classes.

    Args:
        values: integers of any kind.
        n_names: how many classes have names; a value that has one is a class.
    """
    if values.dtype.kind != "u":
        return values.astype(np.int64)
    largest = int(np.iinfo(values.dtype).max)
    is_minus_one = values == largest
    if n_names > largest or (values == largest - 1).any():
        is_minus_one[...] = False
    return np.where(is_minus_one, UNLABELLED, values.astype(np.int64))


def known_integers(
    values: NDArray[np.integer],
    where: str,
    names: Sequence[str] | Mapping[int, str] | None = None,
) -> Known:
    """Labels that are integers: 0 and up are classes, what is negative is none.

    Args:
        values: (N,) integers of any kind.
        where: where the names are from, for messages.
        names: the names of the classes 0, 1, … in their order, or of 1, 2, … if there is no 0 and
            a name for each; or each by its integer. None: a class is called by its integer.

    Raises:
        UserError: for a class without a name, two names alike, or a name that cannot be shown.
    """
    integers = signed(values, len(names or ()))
    if values.dtype.kind == "u" and ((integers < 0) & (values < np.iinfo(values.dtype).max)).any():
        raise UserError(f"{where}: label {values.max()} is too large: number the classes from 0")
    found, each = np.unique(integers, return_inverse=True)
    notes = _of_negatives(values, each, found)
    classes = found[found >= 0].tolist()
    if names is None:
        listed = dict(zip(classes, map(str, classes), strict=True))
    else:
        listed, more = _numbered(names, classes, where)
        notes += more
    place = {label: code for code, label in enumerate(listed)}
    codes = np.array([place.get(label, UNLABELLED) for label in found.tolist()], dtype=np.int64)
    known = known_labels(codes[each.reshape(values.shape)], list(listed.values()), where, True)
    if names is None and classes and (n_gaps := classes[-1] + 1 - len(classes)):
        present = set(classes)
        some = range(min(classes[-1], len(classes) + _SHOWN))
        gaps = [str(label) for label in some if label not in present]
        notes += _left_out(gaps, n_gaps, classes[-1] + 1)
    return Known(known.labels, known.class_names, (*notes, *known.notes))


def known_labels(
    codes: NDArray[np.int64], said: Sequence[str], where: str, ordered: bool = False
) -> Known:
    """Labels that are texts.

    Args:
        codes: (N,): which text each example has; −1 for none at all.
        said: the texts.
        where: where they are from, for messages.
        ordered: keep the order of the texts, if they are no numbers.

    Raises:
        UserError: for a name that cannot be shown in a line.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(said)).tolist()
    plain = [_without_sign(plain_name(text)) for text in said]
    notes = _of_signs(plain, counts)
    _check_letters([name for name in plain if not says_none(name)], where)
    named = [name for name, n in zip(plain, counts, strict=True) if n and not says_none(name)]
    are_whole = all(map(_WHOLE.fullmatch, named))  # as a column of them that has gaps is written
    written = {name for name in named if are_whole or _whole(name) in named}
    plain = [_whole(name) if name in written else name for name in plain]
    in_use: dict[str, int] = {}
    for name, count in zip(plain, counts, strict=True):
        if not says_none(name):
            in_use[name] = in_use.get(name, 0) + count
    class_names = _in_order([name for name, count in in_use.items() if count], ordered)
    lacking = [name for name, count in in_use.items() if not count]
    notes += _left_out(lacking, len(lacking), len(in_use))
    notes += _of_case(class_names)
    place = {name: label for label, name in enumerate(class_names)}
    labels = np.array([*(place.get(name, UNLABELLED) for name in plain), UNLABELLED])
    return Known(labels.astype(np.int64)[codes], class_names, notes)


@lru_cache(8)
def _places(names: tuple[str, ...]) -> dict[str | Decimal | None, int]:
    """The place of each name, and of each value that one of the names alone has."""
    plain = [plain_name(name) for name in names]
    count = Counter(map(_value, plain))
    places: dict[str | Decimal | None, int] = {name: place for place, name in enumerate(plain)}
    values = {_value(name): place for place, name in enumerate(plain) if count[_value(name)] == 1}
    return places | {value: place for value, place in values.items() if value is not None}


def _value(name: str) -> Decimal | None:
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def _without_sign(name: str) -> str:
    """A number without a sign that changes nothing: +1 is 1, −0 is 0."""
    if (name[:1] == "+" and _NUMBER.fullmatch(name)) or _ZERO.fullmatch(name):
        return name[1:]
    return name


def _whole(name: str) -> str:
    found = _WHOLE.fullmatch(name)
    return found[1] if found else name


def _in_order(names: Sequence[str], ordered: bool) -> tuple[str, ...]:
    if are_numbers(names):
        return tuple(sorted(names, key=lambda name: (Decimal(name), name)))
    return tuple(names if ordered else sorted(names))


def _numbered(
    names: Sequence[str] | Mapping[int, str], classes: Sequence[int], where: str
) -> tuple[dict[int, str], tuple[str, ...]]:
    """The name of each integer, and a note if the first name is that of 1."""
    if isinstance(names, Mapping):
        listed, from_one = dict(sorted(names.items())), False
    else:
        _check_distinct(names, where)
        from_one = bool(classes) and classes[0] > 0 and classes[-1] == len(names)
        listed = dict(enumerate(names, int(from_one)))
    for label in classes:
        if label not in listed:
            raise UserError(
                f"{where}: {len(names)} names for {classes[-1] + 1} classes, none for {label}: "
                "name each class"
            )
    note = f"the {len(names)} names are those of the labels 1 to {len(names)}"
    return listed, (note,) * from_one


def _check_distinct(names: Sequence[str], where: str) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UserError(f"{where}: two of the names are alike ({name}): give each class its own")


def _check_letters(names: Sequence[str], where: str) -> None:
    for name in names:
        if (shown := printable(name)) != name:
            raise UserError(f"{where}: the name of class {shown} is not UTF-8: rename it")
        if any(unicodedata.category(letter) in _CONTROLS for letter in name):
            raise UserError(
                f"{where}: the name of class {name!r} holds a line break or another control "
                "character: rename it"
            )


def _of_negatives(
    values: NDArray[np.integer], each: NDArray[np.integer], found: NDArray[np.int64]
) -> tuple[str, ...]:
    counts = np.bincount(each.ravel(), minlength=len(found))
    n = int(counts[found < 0].sum())
    if not n:
        return ()
    if values.dtype.kind == "u":
        stored = f"{int(np.iinfo(values.dtype).max)}, which is -1 without its sign"
        return (_unlabelled(n, stored),)
    return tuple(
        _unlabelled(int(count), str(label))
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
        if label < 0
    )


def _of_signs(names: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    signs: dict[str, int] = {}
    for name, count in zip(names, counts, strict=True):
        if name and count and says_none(name):
            signs[name] = signs.get(name, 0) + count
    return tuple(_unlabelled(count, sign) for sign, count in signs.items())


def _unlabelled(n: int, sign: str) -> str:
    return f"{n} row{'s say' if n > 1 else ' says'} {sign}: unlabelled"


def _left_out(names: Sequence[str], n: int, total: int) -> tuple[str, ...]:
    """The note on classes without an example; only the first names are looked at."""
    if not n:
        return ()
    have, are = ("has", "is") if n == 1 else ("have", "are")
    shown = ", ".join(names[:_SHOWN]) + (", …" if n > _SHOWN else "")
    return (f"{n} of {total} classes {have} no example and {are} left out: {shown}",)


def _of_case(names: Sequence[str]) -> tuple[str, ...]:
    """Notes on names that differ by case alone, and on others that look alike."""
    by_case = _alike(names, str.casefold)
    same = {frozenset(group) for group in by_case}
    others = [group for group in _alike(names, _seen) if frozenset(group) not in same]
    mend = "write them alike if they are the same"
    kinds = {"differ only by case": by_case, "look alike": others}
    return tuple(
        f"classes that {how}: {_some_groups(groups)}; {mend}"
        for how, groups in kinds.items()
        if groups
    )


def _alike(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _seen(name: str) -> str:
    """What people see of a name: without spaces, signs of no width and zeros in front."""
    plain = _UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold()
    value = _value(plain)
    return plain if value is None else str(value.normalize())


def _some_groups(groups: Sequence[Sequence[str]]) -> str:
    texts = [" and ".join(map(_escaped, group)) for group in groups[:_SHOWN]]
    return ", ".join(texts) + (", …" if len(groups) > _SHOWN else "")


def _escaped(name: str) -> str:
    """A name with what is not seen as escapes, but for single spaces."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] == " " else ascii(found[0])[1:-1], name)
