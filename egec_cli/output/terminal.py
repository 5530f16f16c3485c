"""What people see: tables that fit the terminal, long ones in the pager, and progress on stderr."""

import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any, NamedTuple, Self

from egec_cli.output.messages import is_quiet, note, to_text
from egec_cli.output.pager import pager, size_of_the_terminal
from egec_cli.translation import Words, translate

# The first rows, kept in memory to set the width of the columns.
_ROWS_FOR_WIDTHS = 200
# The header of a table, and the prompt behind it.
_LINES_AROUND_ROWS = 3
_GAP = "  "
_NARROWEST_COLUMN = 8
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

# Values of a table that are never cut: numbers and local times.
_WHOLE = re.compile(r"[\d :-]*")

# The colours of words for states and outcomes, on light and dark backgrounds alike; others have none.
_COLOURS = {
    "green": "accepted active created done enabled erased ok sent unblocked updated",
    "yellow": "deferred expired in_doubt new paused running sending superseded unchanged waiting warning",
    "red": "blocked bounced cancelled disabled error failed in_vain refused rejected revoked",
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words.split()}


def show_table(
    rows: Iterator[Sequence[Any]], names: Sequence[str], *, optional: Sequence[str] = (), empty: str = ""
) -> None:
    """Show rows on stdout below the names of their columns.

    At a terminal no line is longer than the screen: columns are left out or values are cut, which `…` marks. Times are
    local. Elsewhere all is written as it is.

    Args:
        rows: the values, read one row at a time.
        names: the names of the columns.
        optional: the columns that a narrow terminal leaves out, the least important first.
        empty: what a terminal shows if there is no row.
    """
    first = list(islice(rows, _ROWS_FOR_WIDTHS))
    if not sys.stdout.isatty():
        table = _Table(names, [[to_text(value) for value in row] for row in first])
        _write_lines(table, ([to_text(value) for value in row] for row in rows))
    elif not first and empty:
        sys.stdout.write(f"{translate(empty)}\n")
    else:
        columns, lines = size_of_the_terminal()
        table = _Table(names, [[text_for_people(value) for value in row] for row in first])
        table.fit(columns, optional)
        if len(first) + _LINES_AROUND_ROWS <= lines:
            _print_in_colour(table)
        else:
            with pager():
                _write_lines(table, ([text_for_people(value) for value in row] for row in rows))


class _Table:
    """Aligned columns: their names, their widths, and the first rows."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.names = names
        self.rows = rows
        self.shown = list(range(len(names)))
        self.is_fitted = False
        self.widths = [max(map(_width, column)) for column in zip(names, *rows, strict=True)]

    def fit(self, width: int, optional: Sequence[str]) -> None:
        """Leave out columns, then cut the widest ones, until a line has this width; later rows are cut as well."""
        self.is_fitted = True
        for name in optional:
            if self._line_width() <= width:
                return
            self.shown = [place for place in self.shown if self.names[place] != name]
        # Half a time or half an identifier is of no use.
        texts = [place for place in self.shown if not all(_WHOLE.fullmatch(row[place]) for row in self.rows)]
        while texts and (excess := self._line_width() - width) > 0:
            widest = max(texts, key=self.widths.__getitem__)
            others = [self.widths[place] for place in texts if place != widest]
            target = max(max(others, default=0) - 1, self.widths[widest] - excess, _NARROWEST_COLUMN)
            if target >= self.widths[widest]:
                return
            self.widths[widest] = target

    def _line_width(self) -> int:
        return sum(self.widths[place] for place in self.shown) + len(_GAP) * (len(self.shown) - 1)

    def cells(self, row: Sequence[str]) -> list[str]:
        """Return the cells of a row as they are shown, padded but for the last one."""
        found = []
        for place in self.shown:
            cell, width = row[place], self.widths[place]
            missing = width - _width(cell)
            found.append(_cut(cell, width) if self.is_fitted and missing < 0 else cell + " " * missing)
        # Nothing but blanks may stand at the end of a line.
        while found and not found[-1].strip():
            found.pop()
        if found:
            found[-1] = found[-1].rstrip()
        return found


def text_for_people(value: Any) -> str:
    """Return a value as `to_text` does, with times in the local time zone: `2026-11-25 05:30`."""
    text = to_text(value)
    if _MOMENT.fullmatch(text):
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    return text


def _print_in_colour(table: _Table) -> None:
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(_GAP.join(table.cells(table.names)), style="bold"))
    for row in table.rows:
        line = Text(_GAP).join(Text(cell, style=_COLOUR_OF.get(cell.strip(), "")) for cell in table.cells(row))
        console.print(line)


def _write_lines(table: _Table, further: Iterator[Sequence[str]]) -> None:
    for row in chain([table.names], table.rows, further):
        sys.stdout.write(f"{_GAP.join(table.cells(row))}\n")


def _width(text: str) -> int:
    """Return the number of terminal columns of the text."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _cut(text: str, width: int) -> str:
    """Return the beginning of a text and `…`, padded to this width."""
    kept, left = "", width - 1
    for character in text:
        left -= _width_of_character(character)
        if left < 0:
            break
        kept += character
    return f"{kept}…{' ' * (width - 1 - _width(kept))}"


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
        # rich prints redirected output to the console of the bar, which is stderr: in a pipe the data would be lost.
        redirect_stdout=sys.stdout.isatty(),
    )


def show_table_on_stderr(rows: Sequence[Sequence[Any]], names: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Show a few rows on stderr below the names of their columns, as `show_table` does, without colours."""
    is_terminal = sys.stderr.isatty()
    table = _Table(names, [[text_for_people(value) for value in row] for row in rows])
    if is_terminal:
        table.fit(size_of_the_terminal()[0], optional)
    for row in [names, *table.rows]:
        sys.stderr.write(f"{_GAP.join(table.cells(row))}\n")


class Line(NamedTuple):
    """A line for a terminal: a text, and a word such as `accepted` or `refused` whose colour it has, or a style."""

    text: str
    colour_of: str = ""
    style: str = ""


def show_lines(lines: Iterable[Line]) -> None:
    """Show lines on stdout at a terminal, in colour if it has any."""
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(line.text, style=line.style or _COLOUR_OF.get(line.colour_of, "")))


def wrap(text: str, width: int) -> list[str]:
    """Return a text as lines of at most this many columns, broken between words; longer words are cut into pieces."""
    lines = [""]
    for word in text.split(" "):
        rest = word
        while rest:
            joined = f"{lines[-1]} {rest}" if lines[-1] else rest
            if _width(joined) <= width:
                lines[-1], rest = joined, ""
            elif lines[-1]:
                lines.append("")
            else:
                piece = _beginning(rest, width)
                lines[-1], rest = piece, rest[len(piece) :]
                lines.append("")
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]


def _beginning(text: str, width: int) -> str:
    """Return as much of a text as fits this width, and at least one character."""
    kept = text[:1]
    for character in text[1:]:
        if _width(kept + character) > width:
            break
        kept += character
    return kept


def wrap_for_stderr(text: str) -> list[str]:
    """Return a text as lines that fit the terminal of stderr."""
    return wrap(text, size_of_the_terminal()[0])


class Labelled(NamedTuple):
    """A value and its label, and a word such as `refused` whose colour the value has."""

    label: str
    value: str
    colour_of: str = ""


def label_lines(values: Iterable[Labelled]) -> list[Line]:
    """Return lines with a label and a value each, aligned, and wrapped at words to fit the terminal."""
    shown = [one._replace(label=translate(one.label), value=to_text(one.value)) for one in values]
    margin = max((_width(one.label) for one in shown), default=0) + len(_GAP)
    width = max(size_of_the_terminal()[0] - margin, _NARROWEST_COLUMN)
    lines = []
    for one in shown:
        for number, part in enumerate(wrap(one.value, width)):
            head = "" if number else one.label
            lines.append(Line(f"{head}{' ' * (margin - _width(head))}{part}".rstrip(), one.colour_of))
    return lines


def bold_lines(text: str) -> list[Line]:
    """Return a text as bold lines, wrapped at words to fit the terminal."""
    return [Line(line, style="bold") for line in wrap(to_text(text), size_of_the_terminal()[0])]


def show_paged(lines: Sequence[Line]) -> None:
    """Show lines on stdout at a terminal, in the pager if they do not fit the screen."""
    if len(lines) < size_of_the_terminal()[1]:
        show_lines(lines)
    else:
        with pager():
            for line in lines:
                sys.stdout.write(f"{line.text}\n")
