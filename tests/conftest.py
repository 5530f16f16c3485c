"""What the tests share: a clean environment, the program run as a process or in this one."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli import main


class Ended(NamedTuple):
    """How a run of `egec` ended."""

    code: int
    out: str
    err: str


Egec = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test start in an empty folder, as a user with an empty home, with cheap hashes."""
    for name in list(os.environ):
        if name.startswith("EGEC_"):
            monkeypatch.delenv(name)
    for name, folder in {"HOME": "", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("EGEC_BCRYPT_COST", "4")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def egec(capfd: pytest.CaptureFixture[str]) -> Egec:
    """Return a function that runs `egec` in this process, as its entry point does."""

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return Ended(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def egec_process() -> Egec:
    """Return a function that runs `egec` as a process of its own."""

    def run(*arguments: str, stdin: str | bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "egec_cli", *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env=None if env is None else {**os.environ, **env},
            timeout=60,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
