"""Tables for people: aligned rows, rich tables on a terminal, and a pager for long ones."""

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from egec_cli.output.messages import to_text
from egec_cli.output.pager import lines_of_the_terminal, pager

# The first rows, kept in memory to set the width of the columns.
_ROWS_FOR_WIDTHS = 200
# The header and the borders of a table.
_LINES_AROUND_ROWS = 5


def show_table(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    """Show rows on stdout below the names of their columns."""
    first = list(islice(rows, _ROWS_FOR_WIDTHS))
    if not sys.stdout.isatty():
        _show_aligned(first, rows, names)
    elif len(first) + _LINES_AROUND_ROWS <= lines_of_the_terminal():
        _show_rich_table(first, names)
    else:
        with pager():
            _show_aligned(first, rows, names)


def _show_rich_table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        # In a str, rich would read [/] as markup.
        table.add_row(*(Text(to_text(value)) for value in row))
    Console().print(table)


def _show_aligned(first: Sequence[Sequence[Any]], rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    cells = [[to_text(value) for value in row] for row in first]
    widths = [max(map(_width, column)) for column in zip(names, *cells, strict=True)]
    sys.stdout.write(f"{_aligned(names, widths)}\n")
    for line in cells:
        sys.stdout.write(f"{_aligned(line, widths)}\n")
    for row in rows:
        sys.stdout.write(f"{_aligned([to_text(value) for value in row], widths)}\n")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Return the number of terminal columns of the text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )
