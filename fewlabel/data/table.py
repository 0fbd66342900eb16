"""Rows of a CSV file that says something of examples."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fewlabel.data.classes import plain_name
from fewlabel.errors import UserError
from fewlabel.regular_file import regular

__all__ = ["is_table", "plain_path", "repeated", "rows_of"]

_DELIMITERS = ",;\t"
_LONGEST_FIELD = 4096  # letters, as of a path
_LONGEST_LINE = 2**20


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
        UserError: if it cannot be read, is no regular file or no CSV in UTF-8, lacks a column,
            has no rows, or one with more fields than columns.
    """
    line = 0
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as stream:
            first = next(_lines(stream, path), "")
            stream.seek(0)
            reader = csv.DictReader(
                _lines(stream, path), delimiter=max(_DELIMITERS, key=first.count)
            )
            reader.fieldnames = [plain_name(name) for name in reader.fieldnames or ()]
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise UserError(
                        f"{path} has no column '{column}': its first line is "
                        f"'{first.strip()[:_LONGEST_FIELD]}'; "
                        "name it there"
                    )
            for row in reader:
                if None in row:  # what no column is for
                    raise UserError(
                        f"{path}, line {reader.line_num}: more fields than the first line has: "
                        f'quote a text that holds {reader.reader.dialect.delimiter!r}, as "a, b"'
                    )
                _check_lengths(path, reader.line_num, row)
                if any((cell or "").strip() for cell in row.values()):
                    line = reader.line_num
                    yield line, row
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV: save it as CSV in UTF-8") from error
    if not line:
        raise UserError(f"{path} lists nothing: add a line for each image")


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file, none of which may be so long that it fills the memory."""
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise UserError(
                f"{path}, line {number}: longer than {_LONGEST_LINE:,} letters: save it as CSV "
                "with a line for each image"
            )
        yield line


def _check_lengths(path: Path, line: int, row: dict[str, str | None]) -> None:
    for column, cell in row.items():
        if cell and len(cell) > _LONGEST_FIELD:
            raise UserError(
                f"{path}, line {line}: its '{column[:_LONGEST_FIELD]}' has {len(cell):,} letters, "
                f"the most are {_LONGEST_FIELD:,}: shorten it"
            )


def plain_path(name: str) -> str:
    """A path in a folder in one spelling, whatever the system that wrote it.

    Backslashes are slashes, letters are composed (NFC), and ``./`` at the front is gone.
    """
    return plain_name(name.replace("\\", "/")).removeprefix("./")


def repeated(path: Path, line: int, name: str) -> UserError:
    """The error for a line that lists an example which a line before it has listed."""
    return UserError(f"{path}, line {line}: {name} is listed a second time: remove the line")
