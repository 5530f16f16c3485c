"""Trials: the tests of a module run against a copy of the project, with a mutant in it or without."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutation.mutants import Mutant
from tests.mutation.targets import PACKAGE, ROOT, TARGETS, TESTS

# The time limits with a mutant, for each test and for all: multiples of the time without, and at least some seconds.
_TIMES_AS_LONG = 8.0
_SHORTEST_LIMIT = 30.0
_ALL_TIMES_AS_LONG = 4.0
_SHORTEST_LIMIT_OF_ALL = 120.0
# How long tests that are stopped may take to stop the servers that they have started, in seconds.
_TIME_TO_CLEAN_UP = 15.0
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".mutation", ".*_cache", ".hypothesis", "__pycache__", "build", "dist"
)
_PASSED, _NONE_SELECTED = 0, 5
# pytest-timeout ends a test with these words.
_TIME_WAS_UP = "Failed: Timeout ("


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
        by: the test that failed; empty if not even the start succeeded.
        seconds: how long they took.
    """

    outcome: Outcome
    by: str
    seconds: float


class Stopped(Exception):
    """A trial was stopped, and has no outcome."""


class FailsWithoutMutant(Exception):
    """Tests fail without a mutant, so that nothing can be tried."""


class Copy:
    """A copy of the project, in which mutants are tried one after the other."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "project"
        self._temporary = folder / "t"
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

    def learn(self, file: str) -> Any:
        """Run the tests of a file without a mutant, and return what the plugin learns of them.

        Raises:
            FailsWithoutMutant: if one fails, also where nothing slows it down.
        """
        learned = self._temporary.with_name("learned")
        code, _ = self._pytest(["--learn", str(learned), str(self._tests / file)], None)
        if code not in {_PASSED, _NONE_SELECTED}:
            self.require_pass(f"{self._tests.name}/{file}")
        return json.loads(learned.read_text())

    def require_pass(self, *tests: str) -> None:
        """Run tests, or those of files, without a mutant.

        Raises:
            FailsWithoutMutant: if one fails.
        """
        code, out = self._pytest(tests, None)
        if code != _PASSED:
            raise FailsWithoutMutant(f"{' '.join(tests)} fails without a mutant:\n{out[-2000:]}")

    def read(self, module: str) -> str:
        """Return the text of a module, without a mutant."""
        return (self._package / module).read_text()

    def list_passed(self, changed: Mapping[str, str], tests: Sequence[str]) -> list[str]:
        """Return which tests pass although modules have been changed; the modules are restored.

        Args:
            changed: the new text of each changed module.
        """
        kept = {module: self.read(module) for module in changed}
        try:
            for module, text in changed.items():
                _write(self._package / module, text.encode())
            return [test for test in tests if self._pytest(["-x", test], None)[0] == _PASSED]
        finally:
            for module, text in kept.items():
                _write(self._package / module, text.encode())

    def try_with(self, mutant: Mutant, order: Mapping[str, float]) -> Trial:
        """Run the tests of a module with a mutant in it, until one fails.

        Args:
            mutant: the change.
            order: the tests in the order in which they run, with the seconds that each takes without it.
        """
        module = self._package / mutant.path
        source = module.read_bytes()
        try:
            mutated = mutant.applied(source)
            compile(mutated, str(module), "exec")
        except SyntaxError:
            return Trial(Outcome.INVALID, "", 0.0)
        file = self._temporary.with_name("order")
        limits = {name: max(_SHORTEST_LIMIT, _TIMES_AS_LONG * seconds) for name, seconds in order.items()}
        file.write_text(json.dumps(limits))
        (last := file.with_name("order.last")).write_text("")
        began = time.monotonic()
        try:
            _write(module, mutated)
            code, out = self._pytest(
                ["-x", "--order", str(file), *(str(self._tests / test) for test in TARGETS[mutant.path])],
                max(_SHORTEST_LIMIT_OF_ALL, _ALL_TIMES_AS_LONG * sum(order.values())),
            )
        finally:
            _write(module, source)
        seconds = time.monotonic() - began
        if code == _PASSED:
            return Trial(Outcome.SURVIVED, "", seconds)
        was_too_long = code is None or _TIME_WAS_UP in out
        return Trial(Outcome.TIMED_OUT if was_too_long else Outcome.KILLED, last.read_text(), seconds)

    def _pytest(self, arguments: Sequence[str], limit: float | None) -> tuple[int | None, str]:
        """Return the exit code, which is None if the time was up, and what was printed."""
        options = ["-o", "addopts=--strict-markers --strict-config", "-p", "no:cacheprovider", "-p", "no:faker"]
        options += ["-p", "tests.mutation.plugin", "-q", "--tb=line"]
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
    with tempfile.TemporaryDirectory(prefix="egec-m-", ignore_cleanup_errors=True) as folder:
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
