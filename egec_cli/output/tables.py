"""Tables for people: aligned rows, rich tables on a terminal, and a pager for long ones."""

import os
import signal
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import islice
from typing import Any

from egec_cli.output.messages import to_text

# The first rows, kept in memory to set the width of the columns.
_ROWS_FOR_WIDTHS = 200
# The header and the borders of a table.
_LINES_AROUND_ROWS = 5


def show_table(rows: Iterator[Sequence[Any]], names: Sequence[str]) -> None:
    """Show rows on stdout below the names of their columns."""
    first = list(islice(rows, _ROWS_FOR_WIDTHS))
    if not sys.stdout.isatty():
        _show_aligned(first, rows, names)
    elif len(first) + _LINES_AROUND_ROWS <= _lines_of_the_terminal():
        _show_rich_table(first, names)
    else:
        with _pager():
            _show_aligned(first, rows, names)


def _lines_of_the_terminal() -> int:
    # Imported here: only for a terminal.
    from shutil import get_terminal_size

    return get_terminal_size().lines


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


@contextmanager
def _pager() -> Iterator[None]:
    """Send what the block writes to a pager, if there is one and standard input is a terminal.

    PAGER names a program other than `less`; `cat`, or an empty value, disables paging.
    """
    import subprocess
    from shutil import which

    command = os.environ.get("PAGER", "less").split()
    if command in ([], ["cat"]) or which(command[0]) is None or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    # Cut long lines and keep the text on the screen. LESSSECURE stops users of sudo from starting a shell.
    environment = {"LESS": "FRSX", "LESSCHARSET": "utf-8"} | dict(os.environ) | {"LESSSECURE": "1"}
    # In the pager, Ctrl-C stops a search.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pager = subprocess.Popen(  # noqa: S603 - the operator's choice
        command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
    )
    assert pager.stdin is not None
    try:
        with suppress(BrokenPipeError), pager.stdin, redirect_stdout(pager.stdin):
            yield
    finally:
        pager.wait()
        signal.signal(signal.SIGINT, previous)
