"""Start-up time of whole commands, as ratios to a bare process, pair by pair in one run.

    python tests/benchmarks/startup.py [PAIRS]

Each row runs a command of egec and its baseline in turn; the ratio of each pair is taken, then the median.
The targets are those of the first release. Django's `manage.py check` represents a common
alternative.
"""

import os
import pty
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiosmtpd.controller import Controller

PYTHON = sys.executable
EGEC = str(Path(PYTHON).with_name("egec"))
HASH_ONCE = "import bcrypt; bcrypt.hashpw(b'fG69a*6jH', bcrypt.gensalt(12))"
CHECK_ONCE = (
    "import bcrypt; bcrypt.checkpw(b'fG69a*6jH', b'$2b$12$abcdefghijklmnopqrstuuKm7DjkwlCQ9mHd4lYBlEZRGsI5vcRk2')"
)

MILLISECONDS_OF_A_TAB = 150


class Row(NamedTuple):
    """One comparison: the median ratio of `command` to `baseline` must be at most `target`."""

    name: str
    command: Sequence[str]
    baseline: Sequence[str]
    target: float
    stdin: bytes = b""
    at_terminal: bool = False


class Sink:
    """An SMTP server's handler that takes everything."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802 - aiosmtpd's
        """Accept the message."""
        return "250 taken"


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wall(command: Sequence[str], stdin: bytes, environment: dict[str, str], folder: Path) -> float:
    """Run a command and return how long it took, in seconds."""
    begin = time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, cwd=folder)
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    return taken


def wall_at_terminal(command: Sequence[str], environment: dict[str, str], folder: Path) -> float:
    """Run a command at a terminal and return how long it took, in seconds."""
    keyboard, terminal = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**environment, "TERM": "xterm-256color"},
        cwd=folder,
    )
    os.close(terminal)
    try:
        while os.read(keyboard, 65536):
            pass
    except OSError:  # Linux's sign that no process has the terminal open any more
        pass
    os.close(keyboard)
    code = process.wait()
    taken = time.perf_counter() - begin
    if code != 0:
        sys.exit(f"{command} ended with {code} at a terminal")
    return taken


def measure(row: Row, pairs: int, environment: dict[str, str], folder: Path) -> None:
    """Print the row with its median times and the median of the ratios."""
    times = []
    for pair in range(pairs + 1):
        if row.at_terminal:
            ours = wall_at_terminal(row.command, environment, folder)
        else:
            ours = wall(row.command, row.stdin, environment, folder)
        theirs = wall(row.baseline, row.stdin, environment, folder)
        if pair:  # the first pair warms up
            times.append((ours, theirs))
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    ours, theirs = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    verdict = "ok" if ratio <= row.target else "OVER"
    print(f"{row.name:<42} {ours:7.1f} ms {theirs:7.1f} ms  ratio {ratio:5.2f}  target {row.target:.2f}  {verdict}")


def measure_tab(pairs: int, environment: dict[str, str], folder: Path) -> None:
    """Print by how many milliseconds a Tab behind `egec reissue resume` takes longer than `egec --version`."""
    tab = [EGEC, "completion", "bash", "--", "reissue", "resume", "", ""]
    more = []
    for pair in range(pairs + 1):
        taken = wall(tab, b"", environment, folder) - wall([EGEC, "--version"], b"", environment, folder)
        if pair:  # the first pair warms up
            more.append(taken * 1000)
    median = statistics.median(more)
    verdict = "ok" if median <= MILLISECONDS_OF_A_TAB else "OVER"
    print(
        f"{'a Tab for names of runs - egec --version':<42} {median:7.1f} ms  target {MILLISECONDS_OF_A_TAB}  {verdict}"
    )


def main() -> None:
    """Measure every row."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    folder = Path(tempfile.mkdtemp(prefix="egec-startup-"))
    # Compiled once, as pip installs it; who keeps no compiled modules would compile what was edited at each start.
    left_out = ("EGEC_", "PYTHONDONTWRITEBYTECODE")
    home = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    home |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    port = free_port()
    controller = Controller(Sink(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        for number in range(10):
            email = f"client{number}@example.org"
            wall([EGEC, "client", "create", email, "--last-name", "Dupont"], b"", home, folder)
        shown = subprocess.run(
            [EGEC, "activate", "client0@example.org", "--no-mail", "--show-password"],
            capture_output=True, env=home, cwd=folder, check=True, text=True,
        ).stdout.split()  # fmt: skip
        subprocess.run([PYTHON, "-m", "django", "startproject", "site_", "."], cwd=folder, check=True)
        typer = [PYTHON, "-c", "import typer"]
        activate = [EGEC, "activate", "client1@example.org"]
        mailing = home | {"EGEC_MAIL_URL": f"smtp://127.0.0.1:{port}"}
        django = [PYTHON, "manage.py", "check"]
        print(
            f"{sys.version.split()[0]}, {os.cpu_count()} cores, {pairs} pairs: command, baseline, median of the ratios"
        )
        measure(
            Row("egec --version / python -c pass", [EGEC, "--version"], [PYTHON, "-c", "pass"], 1.8),
            pairs,
            home,
            folder,
        )
        measure(Row("egec client list / import typer", [EGEC, "client", "list"], typer, 1.5), pairs, home, folder)
        at_terminal = Row("client list at a terminal / import typer", [EGEC, "client", "list"], typer, 2.2, b"", True)
        measure(at_terminal, pairs, home, folder)
        measure(Row("egec client list / manage.py check", [EGEC, "client", "list"], django, 0.35), pairs, home, folder)
        measure(Row("egec --help / import typer", [EGEC, "--help"], typer, 2.5), pairs, home, folder)
        measure(Row("egec --help / manage.py check", [EGEC, "--help"], django, 0.35), pairs, home, folder)
        measure(Row("egec help / egec --help", [EGEC, "help"], [EGEC, "--help"], 1.2), pairs, home, folder)
        measure_tab(pairs, home, folder)
        verify = [EGEC, "verify", shown[0], "--password-stdin"]
        check = [PYTHON, "-c", CHECK_ONCE]
        measure(Row("egec verify / one bcrypt check", verify, check, 1.25, shown[1].encode()), pairs, home, folder)
        measure(
            Row("egec activate / one bcrypt hash", activate, [PYTHON, "-c", HASH_ONCE], 1.2), pairs, mailing, folder
        )
    finally:
        controller.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
