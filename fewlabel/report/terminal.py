"""Tables for the terminal."""

from typing import TYPE_CHECKING

from fewlabel.report.table import TIED, Cell, Comparison, groups, notes

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["print_table"]

_WIDE = 160
"""Characters of a line where the output is no terminal."""


def print_table(comparison: Comparison) -> None:
    """Print a comparison to standard output: the best bold, the tied with a sign, notes below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    shown = groups(comparison)
    grouped = any(group.name for group in shown)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in [comparison.group_head] * grouped + [comparison.head]:
        table.add_column(title, no_wrap=True)
    for column in comparison.columns:
        table.add_column(column.title, justify="right")
    for group in shown:
        for i, (name, cells) in enumerate(group.rows.items()):
            first = [Text(group.name if i == 0 else "")] * grouped
            row = [*first, Text(name), *map(_text, cells)]  # a name may look like markup
            table.add_row(*row, end_section=i == len(group.rows) - 1)
    console.print(table)
    for line in (comparison.caption, *notes(comparison)):
        console.print(line, markup=False)


def _text(cell: Cell) -> "Text":
    from rich.text import Text

    tied = f"{TIED} " if cell.mark == "tied" else ""
    text = Text(tied + cell.text, "bold" if cell.mark == "best" else "")
    return text + Text(f" ({cell.interval})") if cell.interval else text
