"""The suite itself: hanging tests fail, a leak is reported by its test, and ignored signals change nothing."""

import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.conftest import LONG, REAL_PROGRAMS

CHECKOUT = Path(__file__).parent.parent
IGNORING_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def suite_of(folder: Path, tests: str, *options: str, started_by: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run tests with the settings and fixtures of this suite; return the exit code and the report."""
    (folder / "test_inner.py").write_text(textwrap.dedent(tests), encoding="utf-8")
    done = subprocess.run(
        [
            *started_by, sys.executable, "-m", "pytest", "-n", "0", "-p", "tests.conftest", "-p", "no:cacheprovider",
            "-c", str(CHECKOUT / "pyproject.toml"), f"--rootdir={CHECKOUT}", f"--basetemp={folder}/inner",
            *options, str(folder / "test_inner.py"),
        ],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def outcomes(report: str) -> list[tuple[str, str]]:
    """Return the outcome and the name of each test in the summary that did not pass."""
    return re.findall(r"^(FAILED|ERROR) \S*::(\w+)", report, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted({*LONG, *REAL_PROGRAMS}))
def test_the_tests_that_the_suite_names_exist(path: str) -> None:
    assert (CHECKOUT / path).exists()


def test_a_leak_is_reported_by_the_test_that_leaked(tmp_path: Path) -> None:
    tests = """
    import pytest

    class Loop:
        def __init__(self):
            self.itself = self
            self.file = open(__file__)

    @pytest.fixture
    def opened():
        return Loop()

    def test_before(): pass
    def test_that_leaks_in_a_loop(): Loop()
    def test_between(): pass
    def test_with_a_fixture_that_leaks(opened): pass
    def test_that_leaks_behind_a_command(egec):
        Loop()
        egec("password", "--count", "1")
        egec("password", "--count", "1")
    def test_after(): pass
    """
    code, report = suite_of(tmp_path, tests)
    assert code == 1, report
    assert {name for _, name in outcomes(report)} == {
        "test_that_leaks_in_a_loop",
        "test_with_a_fixture_that_leaks",
        "test_that_leaks_behind_a_command",
    }, report
    assert "unclosed file" in report


def test_a_hanging_test_fails_and_the_others_run(tmp_path: Path) -> None:
    tests = """
    import pytest, threading

    @pytest.mark.timeout(1, func_only=True)
    def test_that_hangs(): threading.Event().wait()
    def test_after(): pass
    """
    code, report = suite_of(tmp_path, tests)
    assert (code, outcomes(report)) == (1, [("FAILED", "test_that_hangs")]), report
    assert "1 passed" in report


def test_a_process_that_hangs_ends_the_tests_that_wait_for_it(tmp_path: Path) -> None:
    tests = """
    import subprocess

    def test_that_waits_for_a_process_without_an_end():
        with subprocess.Popen(["sleep", "50"]):
            raise ValueError
    """
    began = time.monotonic()
    code, report = suite_of(tmp_path, tests, "--timeout=0", "-o", "faulthandler_timeout=1")
    assert code == 1
    assert "test_that_waits_for_a_process_without_an_end" in report
    assert time.monotonic() - began < 30


def test_every_test_has_a_time_limit(request: pytest.FixtureRequest) -> None:
    assert 0 < float(request.config.getini("timeout")) < float(request.config.getini("faulthandler_timeout"))
    assert request.config.getini("faulthandler_exit_on_timeout") is True


def test_signals_reach_processes_although_the_suite_was_started_with_sigint_ignored(tmp_path: Path) -> None:
    tests = """
    import signal, subprocess, sys

    def test_interrupted(egec_process):
        with subprocess.Popen(["sleep", "50"]) as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == -signal.SIGINT
    """
    code, report = suite_of(tmp_path, tests, started_by=(sys.executable, "-c", IGNORING_SIGINT))
    assert code == 0, report


def test_the_tests_run_with_sigint_as_a_terminal_gives_it() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
