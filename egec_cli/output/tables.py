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
    # Imported here, as below: only for people at a terminal.
    from shutil import get_terminal_size

    return get_terminal_size().lines


def _show_rich_table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
    # Costs as much as all the rest of a command: only for people at a terminal.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        # As Text: in a str, rich would take [/] for markup.
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
    """Return how many columns a terminal needs for the text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )


@contextmanager
def _pager() -> Iterator[None]:
    """Let what is written to the terminal in this block be read page by page, if there is `less` and somebody to turn.

    PAGER names another one; `cat`, or nothing, is none.
    """
    import subprocess
    from shutil import which

    command = os.environ.get("PAGER", "less").split()
    if command in ([], ["cat"]) or which(command[0]) is None or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    # Long lines are cut, and what was read stays on the screen. Under sudo, nobody gets a shell by it.
    environment = {"LESS": "FRSX", "LESSCHARSET": "utf-8"} | dict(os.environ) | {"LESSSECURE": "1"}
    # Ctrl-C is for the pager, which stops a search; to leave the pager ends what is written.
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pager = subprocess.Popen(  # noqa: S603 - the operator's own
        command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
    )
    assert pager.stdin is not None
    try:
        with suppress(BrokenPipeError), pager.stdin, redirect_stdout(pager.stdin):
            yield
    finally:
        pager.wait()
        signal.signal(signal.SIGINT, former)
