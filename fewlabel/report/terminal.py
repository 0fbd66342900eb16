"""Tables for the terminal."""

from typing import TYPE_CHECKING

from fewlabel.report.table import TIED, Cell, Comparison, groups, notes
from fewlabel.texts import shown

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["print_table"]

_WIDE = 160
"""Characters of a line where the output is no terminal."""


def print_table(comparison: Comparison) -> None:
    """Print a comparison to standard output: the best bold, the tied with a sign, notes below.

    The names of rows and groups take at most a third of the line each; longer ones lose their
    middle.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=_WIDE)
    longest = console.width // 3
    all_groups = groups(comparison)
    grouped = any(group.name for group in all_groups)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in [comparison.group_head] * grouped + [comparison.head]:
        table.add_column(title, no_wrap=True)
    for column in comparison.columns:
        table.add_column(column.title, justify="right")
    for group in all_groups:
        for i, (name, cells) in enumerate(group.rows.items()):
            first = [Text(_shortened(group.name, longest) if i == 0 else "")] * grouped
            name = _shortened(name, longest)  # which may look like markup
            row = [*first, Text(name), *map(_text, cells)]
            table.add_row(*row, end_section=i == len(group.rows) - 1)
    console.print(table)
    for line in (comparison.caption, *notes(comparison)):
        console.print(shown(line), markup=False)


def _shortened(name: str, cells: int) -> str:
    """A name as it can be shown, with … in the middle if it is wider than so many letters."""
    from rich.cells import cell_len, set_cell_size

    name = shown(name)
    if cell_len(name) <= cells:
        return name
    half = max(1, (cells - 1) // 2)
    return f"{set_cell_size(name, half)}…{set_cell_size(name[::-1], half)[::-1]}"


def _text(cell: Cell) -> "Text":
    from rich.text import Text

    tied = f"{TIED} " if cell.mark == "tied" else ""
    text = Text(tied + shown(cell.text), "bold" if cell.mark == "best" else "")
    return text + Text(f" ({cell.interval})") if cell.interval else text
