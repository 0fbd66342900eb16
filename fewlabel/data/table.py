"""Rows of a CSV file that says something of examples."""

import csv
from collections.abc import Iterator
from pathlib import Path

from fewlabel.errors import UserError

__all__ = ["repeated", "rows_of"]


def rows_of(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV, by column, each with the number of its line.

    Args:
        path: the file.
        columns: what its first line must name.

    Raises:
        UserError: if it cannot be read, is no CSV in UTF-8, lacks a column or has no rows.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise UserError(f"{path} has no column '{column}': name it in the first line")
            for row in reader:
                line = reader.line_num
                yield line, row
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV: save it as CSV in UTF-8") from error
    if not line:
        raise UserError(f"{path} lists nothing: add a line for each image")


def repeated(path: Path, line: int, name: str) -> UserError:
    """The error for a line that lists an example which a line before it has listed."""
    return UserError(f"{path}, line {line}: {name} is listed a second time: remove the line")
