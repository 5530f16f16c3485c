"""Trials: the tests of a module run against a copy of the project, with a mutant in it or without."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.targets import PACKAGE, ROOT, TARGETS, TESTS

# The time limit for the tests of a mutant: this multiple of the time without a mutant, at least this many seconds.
_TIMES_AS_LONG = 4.0
_SHORTEST_LIMIT = 60.0
# How long tests that are stopped may take to stop the servers that they have started, in seconds.
_TIME_TO_CLEAN_UP = 15.0
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".mutation", ".*_cache", ".hypothesis", "__pycache__", "build", "dist"
)
# First without a PostgreSQL server, whose start takes longer than most tests.
STAGES = ("not postgresql", "postgresql")
_PASSED, _NONE_SELECTED = 0, 5


class Outcome(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    INVALID = "invalid"


class Trial(NamedTuple):
    """How the tests of a module ended.

    Attributes:
        outcome: killed where a test failed.
        by: the test that failed first.
        seconds: how long they took.
    """

    outcome: Outcome
    by: str
    seconds: float


class Stopped(Exception):
    """A trial was stopped, and has no outcome."""


class Copy:
    """A copy of the project, in which mutants are tried one after the other."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "project"
        self._temporary = folder / "tmp"
        shutil.copytree(ROOT, self._root, ignore=_NOT_COPIED, symlinks=True)
        self._package = self._root / PACKAGE.relative_to(ROOT)
        self._tests = self._root / TESTS.relative_to(ROOT)
        # Tests start the program from other folders: it has to be that of the copy there, too.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        self._environment |= {"PYTHONPATH": str(self._root), "TMPDIR": str(self._temporary)}
        self._temporary.mkdir()
        self._check_import(folder)
        self._running: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def _check_import(self, folder: Path) -> None:
        command = [sys.executable, "-c", f"import {PACKAGE.name} as package; print(package.__file__)"]
        found = subprocess.run(
            command, env=self._environment, cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        if Path(found.strip()).parent != self._package:
            raise RuntimeError(f"processes import {found.strip()} instead of the copy in {self._package}")

    def stop(self) -> None:
        """Stop the trial that is running, if any; its call raises `Stopped`."""
        self._is_stopped = True
        if self._running is not None:
            _end(self._running)

    def try_without(self, path: str, stage: str) -> Trial:
        """Run a stage of the tests of a module without a mutant.

        Args:
            path: of the module, within the package.
            stage: one of `STAGES`.
        """
        return self._run(path, stage, None)

    def try_with(self, mutant: Mutant, stage: str, seconds_without: float) -> Trial:
        """Run a stage of the tests of a module with a mutant in it.

        Args:
            mutant: the change.
            stage: one of `STAGES`.
            seconds_without: how long the stage takes without it.
        """
        module = self._package / mutant.path
        source = module.read_bytes()
        try:
            mutated = mutant.applied(source)
            compile(mutated, str(module), "exec")
        except SyntaxError:
            return Trial(Outcome.INVALID, "", 0.0)
        try:
            _write(module, mutated)
            return self._run(mutant.path, stage, max(_SHORTEST_LIMIT, _TIMES_AS_LONG * seconds_without))
        finally:
            _write(module, source)

    def _run(self, path: str, stage: str, limit: float | None) -> Trial:
        began = time.monotonic()
        code, out = self._pytest(["-k", stage, *(str(self._tests / test) for test in TARGETS[path])], limit)
        if code is None:
            outcome = Outcome.TIMED_OUT
        else:
            outcome = Outcome.SURVIVED if code in {_PASSED, _NONE_SELECTED} else Outcome.KILLED
        return Trial(outcome, "" if outcome is Outcome.SURVIVED else _test_of(out), time.monotonic() - began)

    def _pytest(self, arguments: Sequence[str], limit: float | None) -> tuple[int | None, str]:
        """Return the exit code, which is None if the time was up, and what was printed."""
        options = ["-o", "addopts=--strict-markers --strict-config", "-p", "no:cacheprovider", "-x", "-v", "--tb=line"]
        if self._is_stopped:
            raise Stopped
        # Into a file: a server that was left behind would keep a pipe open.
        out = self._temporary.with_name("out")
        with out.open("w") as file:
            process = self._running = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *arguments],
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        code = None
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            _end(process)
        finally:
            _kill_group(process.pid)
            process.wait()
            self._clean_up()
        if self._is_stopped:
            raise Stopped
        return code, out.read_text(errors="replace")

    def _clean_up(self) -> None:
        """Stop database servers that were left behind, and delete what the tests have written."""
        for file in self._temporary.rglob("postmaster.pid"):
            with suppress(ProcessLookupError, ValueError, IndexError, FileNotFoundError):
                os.kill(int(file.read_text().splitlines()[0]), signal.SIGQUIT)
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(exist_ok=True)


@contextmanager
def copies(number: int) -> Iterator[list[Copy]]:
    """Make this number of copies of the project, and delete them at the end."""
    # A short path: those of sockets have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="egec-mutation-", ignore_cleanup_errors=True) as folder:
        # A PostgreSQL server that is started by root runs as another user.
        os.chmod(folder, 0o755)
        made = []
        for name in range(number):
            (place := Path(folder) / str(name)).mkdir()
            made.append(Copy(place))
        yield made


def _write(module: Path, source: bytes) -> None:
    """Write a module; what was compiled of it is deleted, as two versions within a second may look alike to Python."""
    module.write_bytes(source)
    for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
        compiled.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pytest by an interrupt, so that it ends its fixtures, and with them the servers that they have started."""
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _TIME_TO_CLEAN_UP
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    _kill_group(process.pid)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _test_of(out: str) -> str:
    """Return the test that failed, or else the one that ran last."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
    started = re.findall(r"^(\S+::\S+)", out, re.MULTILINE)
    return next(iter((*failed, *reversed(started))), "")
