"""A terminal emulator in which a command runs."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyte

from tests.forked import Forked, starts_alike

PROGRAM = [sys.executable, "-m", "egec_cli"]

# Long enough for a busy machine; a command that lets it pass is ended, and its screen shows that.
PATIENCE = 60.0
_LINES_KEPT = 500
# How long nothing is shown before the screen counts as complete once the command has ended, in seconds.
_PAUSE = 0.05

# A date in a mail. Its length decides where its paragraph is broken into lines.
_MONTHS = "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
_MONTHS += " January February March April May June July August September October November December"
_DATE = rf"\d{{1,2}}(?:er)? (?:{_MONTHS.replace(' ', '|')}) \d{{4}}"

# What differs from run to run, and what stands for it; in a table at the same width.
_CHANGING = [
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?!:\d)"), "2026-11-25 05:30"),
    # The last day of a password.
    (re.compile(r"(expire[sd]? +after|expire +après le|expiré après le) \d{4}-\d\d-\d\d"), r"\1 2026-12-25"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:2525"),
    (re.compile(r"\b[3-5]\d min\b"), "44 min"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "2026-11-25T04:30:00.000Z"),
    (re.compile(r"/tmp/egec-\w{8}"), "/srv/egec-12345678"),
    (re.compile(r"SQLite \d\.\d\d\.\d"), "SQLite 3.40.1"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:25"),
    (re.compile(r"\d+ ms"), "50 ms"),
]


class Seen(NamedTuple):
    """What a command showed.

    Attributes:
        code: the exit code.
        lines: all lines, also those that were scrolled away, without blanks at their ends.
        coloured: whether any character has a colour.
        wrapped: whether a line was longer than the screen.
    """

    code: int
    lines: list[str]
    coloured: bool
    wrapped: bool

    @property
    def text(self) -> str:
        """The lines, with a line end behind each."""
        return "".join(f"{line}\n" for line in self.lines)


class _Screen(pyte.HistoryScreen):
    """A screen that notices when a line is longer than it is wide."""

    wrapped = False

    def draw(self, data: str) -> None:
        for character in data:
            if self.cursor.x == self.columns:
                self.wrapped = True
            super().draw(character)


def see(
    command: Sequence[str],
    *,
    columns: int = 80,
    lines: int = 24,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    typed: str = "",
    as_it_is: bool = False,
) -> Seen:
    """Run a command at a terminal until it ends, and return what was shown.

    Args:
        command: the program and its arguments.
        columns: the width of the terminal.
        lines: the height of the terminal.
        variables: what the environment has beside that of the tests.
        folder: where it runs; by default, where the tests do.
        typed: what is typed at the first question, which ends with a colon.
        as_it_is: keep what changes from run to run, such as times.
    """
    keyboard, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PAGER": "cat", **(variables or {})}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process: subprocess.Popen[bytes] | Forked
    if list(command[: len(PROGRAM)]) == PROGRAM and starts_alike(environment):
        arguments = command[len(PROGRAM) :]
        process = Forked(arguments, streams=[follower] * 3, environ=environment, folder=folder, is_session=True)
    else:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            # The terminal is that of the new session, so that passwords are asked for at it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    screen = _Screen(columns, lines, history=_LINES_KEPT, ratio=0.5)
    stream = pyte.ByteStream(screen)
    # The follower stays open here until all is read: Linux may drop what is unread when the last process closes it.
    while True:
        ended = process.poll() is not None
        if select.select([keyboard], [], [], _PAUSE)[0]:
            stream.feed(os.read(keyboard, 65536))
        elif ended:
            break
        if typed and screen.display[screen.cursor.y].rstrip().endswith(":"):
            os.write(keyboard, typed.encode())
            typed = ""
    code = process.wait()
    os.close(follower)
    watchdog.cancel()
    os.close(keyboard)
    rows = [*screen.history.top, *(screen.buffer[row] for row in range(screen.lines))]
    shown = ["".join(row[column].data for column in range(columns)).rstrip() for row in rows]
    if not as_it_is:
        shown = [_keep_width(line) for line in shown]
    while shown and not shown[-1]:
        shown.pop()
    cells = [row[column] for row in rows for column in range(columns)]
    coloured = any(cell.fg != "default" for cell in cells)
    return Seen(code, shown if as_it_is else _without_dated_paragraphs(shown), coloured, screen.wrapped)


def _without_dated_paragraphs(lines: Sequence[str]) -> list[str]:
    """Replace each paragraph with a date by a remark, as its lines end elsewhere on another day."""
    kept: list[str] = []
    for is_blank, group in groupby(lines, key=lambda line: not line):
        paragraph = list(group)
        is_dated = not is_blank and re.search(_DATE, " ".join(paragraph))
        kept += ["(a paragraph with a date)"] if is_dated else paragraph
    return kept


def _keep_width(line: str) -> str:
    for changing, fixed in _CHANGING:
        line = changing.sub(fixed, line)
    return line
