"""table.json: the document that an experiment leaves, with the names of its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.files import write_json

__all__ = ["write_document"]


def write_document(
    out: Path, document: Mapping[str, Any], files: Sequence[str] = ()
) -> dict[str, Any]:
    """Write OUT/table.json, in which files are named as from the folder: it may be moved.

    Args:
        out: the folder.
        document: plain values.
        files: the keys of files; the values are their names in the folder.

    Returns:
        The document with the whole paths of the files.
    """
    write_json(out / "table.json", document)
    return {**document, **{key: str(out / document[key]) for key in files}}
