"""The office: it runs `egec` as scripts do, keeps all output, and checks the exit codes."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from tests.forked import Forked
from tests.week.books import Books

KILLED = -9
# Long enough for a busy machine; a week that needs it has failed.
PATIENCE = 600.0
_PAUSE = 0.002


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Return the objects of its `--format jsonl`; a killed one may have left half a line behind."""
        return [json.loads(line) for line in self.out.splitlines() if line.endswith("}")]


class Running:
    """A started command."""

    def __init__(self, office: "Office", command: str, process: Forked, out: Path) -> None:
        self._office = office
        self._command = command
        self._process = process
        self._out = out

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def kill_when(self, condition: Callable[[], bool]) -> Ended:
        """Kill it at once, as `kill -9` does, when the condition holds; it may have ended before."""
        while not (condition() or self.is_over):
            time.sleep(_PAUSE)
        self._process.kill()
        return self.ended(0, 3, KILLED)

    def terminate(self) -> None:
        """Ask it to stop cleanly."""
        self._process.terminate()

    def ended(self, *codes: int) -> Ended:
        """Wait for its end, and require that it ends with one of these exit codes and no traceback."""
        self._process.wait(PATIENCE)
        ended = Ended(self._process.wait(), self._out.read_text(), self._out.with_suffix(".err").read_text())
        self._office.check(self._command, ended, codes or (0,))
        return ended


class Office:
    """Runs commands. Their output goes to two files of a folder, like the logs of a server."""

    def __init__(self, folder: Path, settings: Mapping[str, str], books: Books) -> None:
        """Run commands in this folder, as a user whose home it is, with these settings."""
        self._folder = folder
        self._books = books
        self._numbers = count(1)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
        self._environment |= {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        self._environment |= settings
        self.outputs = folder / "outputs"
        self.outputs.mkdir()
        self.codes: Counter[int] = Counter()

    def begin(self, *arguments: str, stdin: str = "", actor: str = "") -> Running:
        """Start a command, for an actor if given, with this input."""
        out = self.outputs / f"{next(self._numbers):06}.out"
        its_input, keyboard = os.pipe()
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            process = Forked(
                arguments,
                streams=(its_input, stdout.fileno(), stderr.fileno()),
                environ=self._environment | ({"EGEC_ACTOR": actor} if actor else {}),
                folder=self._folder,
            )
        os.close(its_input)
        # One that ends without reading all of it says why.
        with suppress(BrokenPipeError), open(keyboard, "wb") as file:
            file.write(stdin.encode())
        return Running(self, " ".join(arguments), process, out)

    def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,), stdin: str = "", actor: str = "") -> Ended:
        """Run a command and require one of these exit codes."""
        return self.begin(*arguments, stdin=stdin, actor=actor).ended(*codes)

    def hand_over(self, *arguments: str, actor: str) -> Ended:
        """Run a command that shows a password, and delete its output."""
        running = self.begin(*arguments, actor=actor)
        ended = running.ended()
        running._out.unlink()
        return ended

    def check(self, command: str, ended: Ended, codes: tuple[int, ...]) -> None:
        """Count a command, and require that it ended with one of these exit codes and no traceback."""
        self.codes[ended.code] += 1
        self._books.require(
            ended.code in codes, f"egec {command}: exit code {ended.code}, not one of {codes}: {ended.err[-400:]}"
        )
        self._books.require("Traceback" not in ended.err, f"egec {command}: a traceback: {ended.err[-800:]}")
