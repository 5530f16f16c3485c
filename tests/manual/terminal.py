"""A terminal for the examples: standard input and error are the terminal, standard output is a pipe."""

import fcntl
import os
import pty
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import Ended

# Long enough for a busy machine; an example that lets it pass has failed.
PATIENCE = 60.0


def type_in(
    command: Sequence[str],
    *,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    answers: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command at a terminal of its own until it ends.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        variables: what its environment has beside that of the tests.
        answers: what is typed, by the end of the question that it answers.
    """
    keyboard, screen = pty.openpty()
    # So wide that no message is wrapped: paths of the tests are longer than those of the manual.
    termios.tcsetwinsize(screen, (24, 1000))
    attributes = termios.tcgetattr(screen)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(screen, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TERM": "dumb", **(variables or {})},
        stdin=screen,
        stderr=screen,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # The terminal is that of the new session, so that passwords are asked for at it.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(screen)
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    told = bytearray()
    listener = threading.Thread(target=_converse, args=(keyboard, told, dict(answers or {})), daemon=True)
    listener.start()
    assert process.stdout is not None
    with process.stdout:
        shown = process.stdout.read()
    code = process.wait()
    watchdog.cancel()
    listener.join(PATIENCE)
    os.close(keyboard)
    return Ended(code, shown.decode(), told.decode().replace("\r\n", "\n"))


def _converse(keyboard: int, told: bytearray, answers: Mapping[str, str]) -> None:
    """Read the screen until the last process ends; type the answer to each question."""
    answered = 0
    while True:
        try:
            told += os.read(keyboard, 65536)
        except OSError:  # Linux's sign that no process has the terminal open any more
            return
        for question, answer in answers.items():
            # Not what came before the last answer: a line's end behind it would look like the question again.
            if told[answered:].rstrip().endswith(question.encode()):
                answered = len(told)
                os.write(keyboard, f"{answer}\n".encode())
