"""Rows of a CSV file that says something of examples."""

import csv
from collections.abc import Iterator
from pathlib import Path

from fewlabel.data.classes import plain_name
from fewlabel.errors import UserError

__all__ = ["is_table", "plain_path", "repeated", "rows_of"]

_DELIMITERS = ",;\t"


def is_table(text: str) -> bool:
    """Whether what was asked for is a CSV, by its name."""
    return text.lower().endswith(".csv")


def rows_of(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV, by column, each with the number of its line.

    Its first line tells whether commas, semicolons or tabs part the columns, as spreadsheets
    write either. Blank rows do not count.

    Args:
        path: the file.
        columns: what its first line must name.

    Raises:
        UserError: if it cannot be read, is no CSV in UTF-8, lacks a column, has no rows, or one
            with more fields than columns.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=max(_DELIMITERS, key=first.count))
            reader.fieldnames = [plain_name(name) for name in reader.fieldnames or ()]
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise UserError(
                        f"{path} has no column '{column}': its first line is '{first.strip()}'; "
                        "name it there"
                    )
            for row in reader:
                if None in row:  # what no column is for
                    raise UserError(
                        f"{path}, line {reader.line_num}: more fields than the first line has: "
                        f'quote a text that holds {reader.reader.dialect.delimiter!r}, as "a, b"'
                    )
                if any((cell or "").strip() for cell in row.values()):
                    line = reader.line_num
                    yield line, row
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV: save it as CSV in UTF-8") from error
    if not line:
        raise UserError(f"{path} lists nothing: add a line for each image")


def plain_path(name: str) -> str:
    """A path in a folder in one spelling, whatever the system that wrote it.

    Backslashes are slashes, letters are composed (NFC), and ``./`` at the front is gone.
    """
    return plain_name(name.replace("\\", "/")).removeprefix("./")


def repeated(path: Path, line: int, name: str) -> UserError:
    """The error for a line that lists an example which a line before it has listed."""
    return UserError(f"{path}, line {line}: {name} is listed a second time: remove the line")
