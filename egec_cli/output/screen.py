"""A terminal's size, texts that fit its width, and a console of rich with colours that can be read."""

import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_USUAL_WIDTH = 80
# Of the colours of 256, those that can be read on white and on black alike. A terminal of 16 shows its own instead.
READABLE = {"green": "color(28)", "yellow": "color(130)", "red": "color(160)"}
_TYPED = r"`[^`\n]+`"
# A command to type stays on one line. A no-break space belongs to its word.
_WORD = rf"([ \n]*)((?:{_TYPED}|[^ \n])+)"
_NAME = "egec: "
# Behind an indent or a label, on a very narrow terminal.
NARROWEST_TEXT = 8
# The severity of a finding, as `egec --quiet doctor` writes it.
_SEVERITIES = {r"(?<=: )error(?=: )": "bold red", r"(?<=: )warning(?=: )": "bold yellow"}


def size_of_the_terminal() -> tuple[int, int]:
    """Return the width and the height of the terminal, in characters."""
    # Imported here: only for a terminal.
    from shutil import get_terminal_size

    return get_terminal_size()


def width_of(stream: TextIO) -> int:
    """Return the width of the terminal of a stream."""
    if stream is not sys.stderr or sys.stdout.isatty():
        return size_of_the_terminal()[0]
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def open_console(stream: TextIO | None = None) -> "Console":
    """Return a console of rich for stdout or another stream, with a green, a yellow and a red that can be read."""
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console
    from rich.theme import Theme

    styles = {f"{bold}{name}": f"{bold}{colour}" for bold in ("", "bold ") for name, colour in READABLE.items()}
    # A width, as rich shows nothing if COLUMNS is 0.
    width = width_of(stream or sys.stdout)
    return Console(file=stream, width=width, theme=Theme(styles), highlight=False, soft_wrap=True)


def text_width(text: str) -> int:
    """Return the number of terminal columns of the text."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cut(text: str, columns: int) -> str:
    """Return the beginning of a text and `…`, padded to this number of columns."""
    kept, left = "", columns - 1
    for character in text:
        left -= _width_of_character(character)
        if left < 0:
            break
        kept += character
    return f"{kept}…{' ' * (columns - 1 - text_width(kept))}"


def cut_if_longer(text: str, columns: int) -> str:
    """Return a text that fits this number of columns as it is, and a longer one cut."""
    return cut(text, columns) if text_width(text) > columns else text


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Break a text between words into lines of this width; a longer word is cut into pieces.

    A command between backticks stays whole, even if it is longer. A no-break space is a part of its word.

    Args:
        first: what the first line begins with.
        rest: what the others begin with (default: blanks below `first`).
    """
    rest = " " * text_width(first) if rest is None else rest
    lines, line = [], first
    is_empty = True
    for number, (blanks, word) in enumerate(re.findall(_WORD, text)):
        # Blanks at the beginning of the text are an indent.
        gap = blanks.replace("\n", " ") if number == 0 or not is_empty else ""
        if text_width(line) + len(gap) + text_width(word) <= width:
            line, is_empty = line + gap + word, False
            continue
        if not is_empty:
            lines.append(line)
            line = rest
        *pieces, last = [word] if re.search(_TYPED, word) else _cut(word, width, line, rest)
        for piece in pieces:
            lines.append(line + piece)
            line = rest
        line, is_empty = line + last, False
    return [*lines, line]


def _cut(word: str, width: int, first: str, rest: str) -> list[str]:
    """Return the pieces of a word that fit this width behind `first` and `rest`; each has at least one character."""
    pieces = [""]
    room = width - text_width(first)
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character) > room:
            pieces.append("")
            room = width - text_width(rest)
        pieces[-1] += character
    return pieces


def with_styles(text: str, styles: Mapping[str, str], *, on_stderr: bool = False) -> str:
    """Return a text for the terminal with the parts that match patterns in their styles, such as `green`.

    What stands between backticks is bold. A terminal without colours gets the text alone.
    """
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.text import Text

    console = open_console(sys.stderr if on_stderr else sys.stdout)
    shown = Text(text)
    for pattern, style in {_TYPED: "bold", **styles}.items():
        shown.highlight_regex(pattern, style)
    with console.capture() as captured:
        console.print(shown, end="")
    return captured.get()


def message_for_people(text: str, colour: str | None) -> str:
    """Return a message for stderr at a terminal, wrapped at words.

    Args:
        colour: that of `egec:`; empty for none, None for no bold words either.
    """
    width = width_of(sys.stderr)
    lines: list[str] = []
    for line in text.split("\n"):
        if text_width(line) <= width:
            lines.append(line)
            continue
        words = line.lstrip(" ")
        indent = " " * (len(line) - len(words))
        if words.startswith(_NAME):
            rest = indent + " " * len(_NAME)
        else:
            # Hints stand below the message; lines with less indent are items of a list.
            rest = indent + "  " if 0 < len(indent) < len(_NAME) else indent
        lines += wrap(words, width, indent, rest)
    wrapped = "\n".join(lines)
    if colour is None or not (colour or "`" in wrapped):
        return wrapped
    return with_styles(wrapped, {"(?m)^egec:": f"bold {colour}", **_SEVERITIES} if colour else {}, on_stderr=True)


def wrap_for(stream: TextIO, text: str, first: str = "", rest: str | None = None) -> list[str]:
    """Return the lines of a text for a terminal, or one line for another stream; arguments as for `wrap`.

    On a very narrow terminal, lines are longer than the screen rather than a few characters each.
    """
    if not stream.isatty():
        return [first + text]
    beginning = max(text_width(first), text_width(rest or ""))
    return wrap(text, max(width_of(stream), beginning + NARROWEST_TEXT), first, rest)
