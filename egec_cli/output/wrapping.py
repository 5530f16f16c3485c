"""Sentences at a terminal: wrapped at words, in colours, with commands to type in bold."""

import os
import re
import sys
from collections.abc import Mapping

from egec_cli.output import columns
from egec_cli.output.pager import pager, size_of_the_terminal

_TYPED = r"`[^`\n]+`"
# A command to type stays on one line. A no-break space belongs to its word.
_WORD = re.compile(rf"([ \n]*)((?:{_TYPED}|[^ \n])+)")
_NAME = "egec: "
_USUAL_WIDTH = 80
# The severity of a finding, as `egec --quiet doctor` writes it.
_SEVERITIES = {r"(?<=: )error(?=: )": "bold red", r"(?<=: )warning(?=: )": "bold yellow"}


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Break a text between words into lines of this width; a longer word stays whole.

    Args:
        first: what the first line begins with.
        rest: what the others begin with (default: blanks below `first`).
    """
    rest = " " * columns.width(first) if rest is None else rest
    lines, line = [], first
    is_empty = True
    for gap, word in _WORD.findall(text):
        if not is_empty and columns.width(line) + len(gap) + columns.width(word) > width:
            lines.append(line)
            line, is_empty = rest, True
        line += word if is_empty else gap.replace("\n", " ") + word
        is_empty = False
    return [*lines, line]


def with_styles(text: str, styles: Mapping[str, str], *, on_stderr: bool = False) -> str:
    """Return a text for the terminal with the parts that match patterns in their styles, such as `green`.

    What stands between backticks is bold. A terminal without colours gets the text alone.
    """
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.text import Text

    from egec_cli.output.terminal import open_console

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
    width = _width_of_stderr()
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


def _width_of_stderr() -> int:
    if sys.stdout.isatty():
        return size_of_the_terminal()[0]
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def wrap_to_terminal(text: str, first: str = "", rest: str | None = None) -> list[str]:
    """Return the lines of a text for stdout at a terminal; arguments as for `wrap`."""
    return wrap(text, size_of_the_terminal()[0], first, rest)


def show_text(text: str, styles: Mapping[str, str]) -> None:
    """Show a text on stdout at a terminal, in the pager if it is long; styles as for `with_styles`."""
    shown = with_styles(text, styles)
    if text.count("\n") < size_of_the_terminal()[1]:
        sys.stdout.write(shown)
        return
    with pager(cuts_lines=False):
        sys.stdout.write(shown)
