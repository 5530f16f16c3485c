"""The terminal: its size, and a console of rich with colours that can be read."""

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_USUAL_WIDTH = 80
# Of the colours of 256, those that can be read on white and on black alike. A terminal of 16 shows its own instead.
READABLE = {"green": "color(28)", "yellow": "color(130)", "red": "color(160)"}


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
    return Console(file=stream, theme=Theme(styles), highlight=False, soft_wrap=True)
