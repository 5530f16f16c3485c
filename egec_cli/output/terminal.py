"""What people see: tables (rich ones on a terminal), a pager for long ones, and progress on stderr."""

import os
import signal
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from itertools import islice
from typing import Any, Self

from egec_cli.output.messages import is_quiet, note, to_text
from egec_cli.translation import Words, translate

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


_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """The progress of a command: a bar on a terminal, otherwise, with `has_lines`, a line every 30 seconds."""

    def __init__(self, name: str, total: int, done: int, failed: int, *, has_lines: bool) -> None:
        """Start from the numbers of earlier commands; `done` includes `failed`."""
        self._name = name
        self._total = total
        self._done = done
        self._failed = failed
        self._done_here = 0
        self._started = self._shown_at = time.monotonic()
        self._has_lines = has_lines and not is_quiet()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not is_quiet():
            self._bar = _progress_bar()
            self._task = self._bar.add_task(
                to_text(self._name), total=self._total, completed=self._done, failed=self._failed
            )
            self._bar.start()
        return self

    def advance(self, *, failed: bool) -> None:
        """Count one more as done."""
        self._done_here += 1
        self.correct(self._done + 1, self._failed + failed)
        if self._has_lines and self._bar is None and time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._show_line()

    def correct(self, done: int, failed: int) -> None:
        """Show these numbers, which include the work of other processes."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=failed)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._has_lines:
            self._show_line()

    def _show_line(self) -> None:
        self._shown_at = time.monotonic()
        rate = self._done_here / max(self._shown_at - self._started, 0.001)
        remaining = self._total - self._done
        is_known = rate and remaining
        left = Words(", about {time} left", time=timedelta(seconds=round(remaining / rate))) if is_known else ""
        note(
            "egec: {name}: {done} of {total} done, {failed} failed, {rate:.1f}/s{left}",
            name=self._name,
            done=self._done,
            total=self._total,
            failed=self._failed,
            rate=rate,
            left=left,
        )


def _progress_bar() -> Any:
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(translate(Words("{number} failed", number="{task.fields[failed]}"))),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
