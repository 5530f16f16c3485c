"""Sentences at a terminal: wrapped at words, in colours, with commands to type in bold."""

import re
import sys
from collections.abc import Mapping
from typing import TextIO

from egec_cli.output import columns
from egec_cli.output.screen import open_console, width_of

_TYPED = r"`[^`\n]+`"
# A command to type stays on one line. A no-break space belongs to its word.
_WORD = re.compile(rf"([ \n]*)((?:{_TYPED}|[^ \n])+)")
_NAME = "egec: "
# Behind an indent or a label, on a very narrow terminal.
NARROWEST_TEXT = 8
# The severity of a finding, as `egec --quiet doctor` writes it.
_SEVERITIES = {r"(?<=: )error(?=: )": "bold red", r"(?<=: )warning(?=: )": "bold yellow"}


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Break a text between words into lines of this width; a longer word is cut into pieces.

    A command between backticks stays whole, even if it is longer. A no-break space is a part of its word.

    Args:
        first: what the first line begins with.
        rest: what the others begin with (default: blanks below `first`).
    """
    rest = " " * columns.width(first) if rest is None else rest
    lines, line = [], first
    is_empty = True
    for number, (blanks, word) in enumerate(_WORD.findall(text)):
        # Blanks at the beginning of the text are an indent.
        gap = blanks.replace("\n", " ") if number == 0 or not is_empty else ""
        if columns.width(line) + len(gap) + columns.width(word) <= width:
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
    room = width - columns.width(first)
    for character in word:
        if pieces[-1] and columns.width(pieces[-1] + character) > room:
            pieces.append("")
            room = width - columns.width(rest)
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
        if columns.width(line) <= width:
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
    beginning = max(columns.width(first), columns.width(rest or ""))
    return wrap(text, max(width_of(stream), beginning + NARROWEST_TEXT), first, rest)
