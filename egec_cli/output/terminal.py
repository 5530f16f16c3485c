"""What people see: tables that fit the terminal, long ones in the pager, and bars."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from itertools import chain, islice
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.output import screen
from egec_cli.output.messages import to_text
from egec_cli.output.pager import pager
from egec_cli.output.screen import open_console, size_of_the_terminal
from egec_cli.translation import Words, format_number, translate

# The first rows, kept in memory to set the width of the columns.
_ROWS_FOR_WIDTHS = 200
# The header of a table, and the prompt behind it.
_LINES_AROUND_ROWS = 3
_GAP = "  "
_NARROWEST_COLUMN = 8
_CUT_MARK = "…"
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")

# Values of a table that are never cut: numbers and local times.
_WHOLE = re.compile(r"[0-9 :-]*")

# The colours of words for states and outcomes; others have none.
_COLOURS = {
    "green": "accepted active created done enabled erased ok sent unblocked updated",
    "yellow": "deferred expired in_doubt new paused running sending superseded unchanged waiting warning",
    "red": "blocked bounced cancelled disabled error failed in_vain inactive refused rejected revoked",
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words.split()}


def show_table(
    rows: Iterator[Sequence[Any]],
    names: Sequence[str],
    *,
    optional: Sequence[str] = (),
    empty: str = "",
    may_page: bool = True,
) -> None:
    """Show rows on stdout below the names of their columns.

    At a terminal no line is longer than the screen: columns are left out or values are cut, which `…` marks. Times are
    local. Elsewhere all is written as it is.

    Args:
        rows: the values, read one row at a time.
        names: the names of the columns.
        optional: the columns that a narrow terminal leaves out, the least important first.
        empty: what a terminal shows instead of an empty table.
        may_page: show a long table in the pager.
    """
    first = list(islice(rows, _ROWS_FOR_WIDTHS))
    if not sys.stdout.isatty():
        table = _Table(names, [[to_text(value) for value in row] for row in first])
        _write_lines(table, ([to_text(value) for value in row] for row in rows))
    elif not first:
        sys.stdout.write(f"{translate(empty)}\n" if empty else "")
    else:
        screen_width, lines = size_of_the_terminal()
        table = _Table(names, [[text_for_people(value) for value in row] for row in first])
        table.fit(screen_width, optional)
        if len(first) + _LINES_AROUND_ROWS <= lines:
            _print_in_colour(table)
        else:
            with pager() if may_page else nullcontext():
                _write_lines(table, ([text_for_people(value) for value in row] for row in rows))


class _Table:
    """Aligned columns: their names, their widths, and the first rows."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.names = names
        self.rows = rows
        self.shown = list(range(len(names)))
        self.is_cut = False
        self._screen: int | None = None
        # Half a time or half an identifier is of no use.
        self._whole = {place for place in self.shown if all(_WHOLE.fullmatch(row[place]) for row in rows)}
        self.widths = [max(map(screen.text_width, column)) for column in zip(names, *rows, strict=True)]

    def fit(self, width: int, optional: Sequence[str]) -> None:
        """Leave out columns, then cut texts, until a line has this width of four or more; later rows are cut as well.

        If texts are short and lines are still longer, the last columns are left out too, and `…` ends every line.
        """
        self._screen = width
        for name in optional:
            if self._excess() <= 0:
                return
            self.shown = [place for place in self.shown if self.names[place] != name]
        self._narrow()

    def _narrow(self) -> None:
        """Cut texts, the longest first, then leave out the last columns, until a line fits the screen."""
        widths = list(self.widths)
        while (excess := self._excess()) > 0:
            texts = sorted((self.widths[place], place) for place in self.shown if place not in self._whole)
            longest = [width for width, _ in texts[-2:]]
            if texts and longest[-1] > _NARROWEST_COLUMN:
                target = max(longest[0] - 1 if len(longest) > 1 else 0, longest[-1] - excess, _NARROWEST_COLUMN)
                self.widths[texts[-1][1]] = target
            elif len(self.shown) > 1:
                self.shown.pop()
                self.is_cut = True
                self.widths = list(widths)
            else:
                self.widths[self.shown[0]] -= excess

    def _excess(self) -> int:
        """Return by how much a line is longer than the screen."""
        assert self._screen is not None
        return self._line_width() - self._screen

    def _line_width(self) -> int:
        end = len(_GAP) + len(_CUT_MARK) if self.is_cut else 0
        return sum(self.widths[place] for place in self.shown) + len(_GAP) * (len(self.shown) - 1) + end

    def _make_room(self, row: Sequence[str]) -> None:
        """Widen the columns whose values are longer in this row than in the first rows, as far as the screen allows."""
        for place in tuple(self.shown):
            missing = screen.text_width(row[place]) - self.widths[place]
            if missing <= 0 or place not in self.shown:
                continue
            if place not in self._whole:
                self.widths[place] += min(missing, -self._excess())
                continue
            if not _WHOLE.fullmatch(row[place]):
                self._whole.discard(place)
            self.widths[place] += missing
            self._narrow()

    def cells(self, row: Sequence[str]) -> list[str]:
        """Return the cells of a row as they are shown, padded but for the last one."""
        if self._screen is not None and row is not self.names:
            self._make_room(row)
        found = []
        for place in self.shown:
            cell, width = row[place], self.widths[place]
            missing = width - screen.text_width(cell)
            found.append(screen.cut(cell, width) if self._screen is not None and missing < 0 else cell + " " * missing)
        if self.is_cut:
            found.append(_CUT_MARK)
        # Nothing but blanks may stand at the end of a line.
        while found and not found[-1].strip():
            found.pop()
        if found:
            found[-1] = found[-1].rstrip()
        return found


def text_for_people(value: Any) -> str:
    """Return a value as text for a terminal: times in EGEC_TIMEZONE (`2026-11-25 05:30`), lists without brackets.

    Everything else is as `to_text` returns it.
    """
    if isinstance(value, bool):
        value = Words("yes") if value else Words("no")
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ", ".join(value)
    text = to_text(value)
    if _MOMENT.fullmatch(text):
        # A reference of a client may look like a time.
        with suppress(ValueError, OverflowError):
            return clock.to_local_text(datetime.fromisoformat(text))
    return text


def colour_of(word: str) -> str:
    """Return the colour of a word for a state or an outcome, such as `accepted` or `refused`; empty for others."""
    return _COLOUR_OF.get(word, "")


def _print_in_colour(table: _Table) -> None:
    from rich.text import Text

    console = open_console()
    console.print(Text(_GAP.join(table.cells(table.names)), style="bold"))
    for row in table.rows:
        line = Text(_GAP).join(Text(cell, style=colour_of(cell.strip())) for cell in table.cells(row))
        console.print(line)


def _write_lines(table: _Table, further: Iterator[Sequence[str]]) -> None:
    for row in chain([table.names], table.rows, further):
        sys.stdout.write(f"{_GAP.join(table.cells(row))}\n")


def show_table_on_stderr(rows: Sequence[Sequence[Any]], names: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Show a few rows on stderr below the names of their columns, as `show_table` does, without colours."""
    is_terminal = sys.stderr.isatty()
    table = _Table(names, [[text_for_people(value) for value in row] for row in rows])
    if is_terminal:
        table.fit(size_of_the_terminal()[0], optional)
    for row in [names, *table.rows]:
        sys.stderr.write(f"{_GAP.join(table.cells(row))}\n")


class Bar(NamedTuple):
    """A number below others, with a bar of its size; `colour_of` is the state or outcome that gives the colour."""

    name: str
    number: int
    colour_of: str = ""


class Bars(NamedTuple):
    """Numbers under a title."""

    title: str
    bars: Sequence[Bar]


_NARROWEST_BAR = 5
_WIDEST_BAR = 50


def show_bars(sections: Sequence[Bars]) -> None:
    """Show numbers at a terminal, each with a bar that is as long as its share of the largest number of its section.

    No line is longer than the screen. What does not fit on it goes through the pager.
    """
    screen_width, lines = size_of_the_terminal()
    every = [bar for section in sections for bar in section.bars]
    widths = _bar_widths(every, screen_width)
    shown = list(chain.from_iterable(_bar_lines(section, screen_width, widths) for section in sections))
    if len(shown) >= lines:
        with pager():
            sys.stdout.writelines(f"{''.join(text for text, _ in line).rstrip()}\n" for line in shown)
        return
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.text import Text

    console = open_console()
    for line in shown:
        text = Text.assemble(*line)
        text.rstrip()
        console.print(text)


class _BarWidths(NamedTuple):
    """The widths of the columns of names, numbers and bars; the last is 0 on a screen too narrow for bars."""

    name: int
    number: int
    bar: int


def _bar_widths(bars: Sequence[Bar], screen_width: int) -> _BarWidths:
    number = max((len(format_number(bar.number)) for bar in bars), default=0)
    around = len(_GAP) * 3 + number
    name = max((screen.text_width(to_text(bar.name)) for bar in bars), default=0)
    name = max(min(name, screen_width - around - _NARROWEST_BAR, screen_width // 2), _NARROWEST_COLUMN)
    bar = min(screen_width - around - name, _WIDEST_BAR)
    return _BarWidths(name, number, bar if bar >= _NARROWEST_BAR else 0)


def _bar_lines(section: Bars, screen_width: int, widths: _BarWidths) -> Iterator[list[tuple[str, str]]]:
    """Yield the lines of a section as texts with their styles."""
    yield [(screen.cut_if_longer(to_text(section.title), screen_width), "bold")]
    largest = max((bar.number for bar in section.bars), default=0)
    for bar in section.bars:
        name = to_text(bar.name)
        missing = widths.name - screen.text_width(name)
        padded = name + " " * missing if missing >= 0 else screen.cut(name, widths.name)
        # In halves of a character, at least one: these two blocks are in every font.
        halves = max(round(2 * widths.bar * bar.number / largest), 1) if widths.bar else 0
        style = colour_of(bar.colour_of)
        number = format_number(bar.number).rjust(widths.number)
        yield [(f"{_GAP}{padded}{_GAP}{number}{_GAP}", ""), ("█" * (halves // 2) + "▌" * (halves % 2), style)]
