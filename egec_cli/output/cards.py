"""Lines and cards for people: in colour at a terminal and no longer than the screen, elsewhere as they are."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import NamedTuple, TextIO

from egec_cli.output import screen
from egec_cli.output.messages import to_text
from egec_cli.output.pager import pager
from egec_cli.output.screen import NARROWEST_TEXT, open_console, size_of_the_terminal, width_of, with_styles, wrap
from egec_cli.translation import Words

_GAP = "  "


class Part(NamedTuple):
    """A part of a line, and its style at a terminal, such as `green`, `bold` or `dim`."""

    text: str
    style: str = ""


class Line(NamedTuple):
    """A line for people.

    Attributes:
        parts: what it says, in order.
        indent: the blanks before the further lines of the screen that a long line takes.
        is_whole: whether a terminal cuts a long line, which `…` marks, rather than showing it on several lines.
        label: what stands before the parts, such as the name of a value.
    """

    parts: Sequence[Part]
    indent: int = 0
    is_whole: bool = False
    label: Part = Part("")


def make_line(*parts: Part | str, indent: int = 0, is_whole: bool = False, label: Part | str = "") -> Line:
    """Return a line of these parts; a text is a part without a style."""
    return Line([_make_part(one) for one in parts], indent, is_whole, _make_part(label))


def _make_part(part: Part | str) -> Part:
    text, style = (part, "") if isinstance(part, str) else part
    return Part(to_text(text), style)


def card_lines(rows: Iterable[tuple[str, Part | str]], *, indent: int = len(_GAP)) -> list[Line]:
    """Return a line for each row: its label behind this indent, then its value in a column."""
    labelled = [(to_text(label), value) for label, value in rows]
    column = max((screen.text_width(label) for label, _ in labelled), default=0) + indent + len(_GAP)
    return [labelled_line(Part(" " * indent + label, "dim"), value, column) for label, value in labelled]


def labelled_line(label: Part | str, value: Part | str, column: int) -> Line:
    """Return a line with a label, and a value from this column on."""
    text, style = _make_part(label)
    padded = text + " " * (column - screen.text_width(text))
    return make_line(value, indent=column, label=Part(padded, style))


def show_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Write lines to stdout or stderr: at a terminal in colour and no longer than the screen, elsewhere as they are."""
    if not stream.isatty():
        # As every message, those on stderr do not stop the command if they cannot be written.
        with suppress(OSError) if stream is sys.stderr else nullcontext():
            for line in lines:
                stream.write(f"{line.label.text}{_text_of(line.parts)}".rstrip() + "\n")
        return
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.text import Text

    console = open_console(stream)
    width = width_of(stream)
    for line in lines:
        for row in _rows_of(line, width):
            console.print(Text.assemble(*row))


def show_paged(lines: Sequence[Line]) -> None:
    """Show lines on stdout at a terminal, in the pager if they do not fit the screen."""
    width, height = size_of_the_terminal()
    if count_rows(lines) < height:
        show_lines(lines, sys.stdout)
        return
    with pager():
        for line in lines:
            for row in _rows_of(line, width):
                sys.stdout.write(f"{_text_of(row)}\n")


def show_text(text: str, styles: Mapping[str, str]) -> None:
    """Show a text on stdout at a terminal, in the pager if it is long; styles as for `with_styles`."""
    shown = with_styles(text, styles)
    if text.count("\n") < size_of_the_terminal()[1]:
        sys.stdout.write(shown)
        return
    with pager(cuts_lines=False):
        sys.stdout.write(shown)


def count_rows(lines: Iterable[Line]) -> int:
    """Return how many lines of the screen these lines take at the terminal of stdout."""
    width, _ = size_of_the_terminal()
    return sum(len(_rows_of(line, width)) for line in lines)


def _rows_of(line: Line, width: int) -> list[list[Part]]:
    """Return a line as the lines of the screen that it takes."""
    text, label = _text_of(line.parts), line.label.text
    if line.is_whole:
        space = width - screen.text_width(label)
        is_cut = screen.text_width(text) > space
        kept = screen.cut(text, space).rstrip() if is_cut else text
        # The mark has the style of the part that it ends.
        shown = _between(line.parts, 0, len(kept) - is_cut)
        return [[line.label, *shown, *([Part(kept[-1], shown[-1].style if shown else "")] if is_cut else [])]]
    rest = " " * line.indent
    width = max(width, max(screen.text_width(label), line.indent) + NARROWEST_TEXT)
    rows: list[list[Part]] = []
    end = 0
    for number, wrapped in enumerate(wrap(text, width, label, rest)):
        words = wrapped[len(rest if number else label) :]
        start = text.index(words, end)
        end = start + len(words)
        rows.append([Part(rest) if number else line.label, *_between(line.parts, start, end)])
    return rows


def _between(parts: Iterable[Part], start: int, end: int) -> list[Part]:
    """Return what stands between two places of the text of the parts."""
    found = []
    for text, style in parts:
        if kept := text[max(start, 0) : max(end, 0)]:
            found.append(Part(kept, style))
        start, end = start - len(text), end - len(text)
    return found


def _text_of(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts)


def describe_duration(seconds: float) -> Words:
    """Return a duration in words, such as `40 s`, `12 min` or `3 h 5 min`."""
    if seconds < 1:
        return Words("less than a second")
    if round(seconds) < _SECONDS_OF_A_MINUTE:
        return Words("{seconds} s", seconds=round(seconds))
    minutes = round(seconds / _SECONDS_OF_A_MINUTE)
    if minutes < _MINUTES_OF_AN_HOUR:
        return Words("{minutes} min", minutes=minutes)
    hours, minutes = divmod(minutes, _MINUTES_OF_AN_HOUR)
    return Words("{hours} h {minutes} min", hours=hours, minutes=minutes)


_SECONDS_OF_A_MINUTE = 60
_MINUTES_OF_AN_HOUR = 60
