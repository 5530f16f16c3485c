"""Lines and cards for people: in colour at a terminal and no longer than the screen, elsewhere as they are."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

from egec_cli.output.messages import to_text
from egec_cli.output.pager import size_of_the_terminal
from egec_cli.translation import Words

_GAP = "  "
# Of the value of a card, on a very narrow terminal.
_NARROWEST_COLUMN = 8


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
    """

    parts: Sequence[Part]
    indent: int = 0
    is_whole: bool = False


def make_line(*parts: Part | str, indent: int = 0, is_whole: bool = False) -> Line:
    """Return a line of these parts; a text is a part without a style."""
    styled = [Part(one) if isinstance(one, str) else one for one in parts]
    return Line([Part(to_text(text), style) for text, style in styled], indent, is_whole)


def card_lines(rows: Sequence[tuple[str, Part | str]]) -> list[Line]:
    """Return a line for each row: its label, then its value in a column."""
    labels = [to_text(label) for label, _ in rows]
    column = max(map(len, labels), default=0) + 2 * len(_GAP)
    return [
        make_line(Part(f"{_GAP}{label}{' ' * (column - len(_GAP) - len(label))}", "dim"), value, indent=column)
        for label, (_, value) in zip(labels, rows, strict=True)
    ]


def show_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Write lines to stdout or stderr: at a terminal in colour and no longer than the screen, elsewhere as they are."""
    if stream.isatty():
        _show_lines_at_terminal(lines, stream)
    else:
        for line in lines:
            stream.write(f"{''.join(part.text for part in line.parts).rstrip()}\n")


def _show_lines_at_terminal(lines: Iterable[Line], stream: TextIO) -> None:
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.text import Text

    from egec_cli.output.terminal import open_console

    columns, _ = size_of_the_terminal()
    console = open_console(stream)
    for line in lines:
        text = Text.assemble(*line.parts)
        if line.is_whole:
            text.truncate(columns, overflow="ellipsis")
        # A long line is wrapped twice, as the lines below the first one begin with blanks.
        first, *others = text.wrap(console, columns) or [text]
        console.print(first)
        if others:
            further = text[len(first) :]
            further = further[len(further.plain) - len(further.plain.lstrip()) :]
            for one in further.wrap(console, max(columns - line.indent, _NARROWEST_COLUMN)):
                console.print(Text(" " * line.indent) + one)


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
