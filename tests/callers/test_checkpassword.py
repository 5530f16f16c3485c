"""`egec verify --checkpassword` called as qmail and Dovecot call it: the login on descriptor 3, then a program."""

import os
import subprocess
import sys

import pytest

from tests.callers.site import Site
from tests.programs import require_program

# Passes on what it reads as descriptor 3, or closes it.
CALLER = """
import os, sys
if sys.argv[1] == "closed":
    data = None
else:
    data = sys.stdin.buffer.read()
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(reading)
    if data:
        os.write(writing, data)
    os._exit(0)
os.close(writing)
if data is None:
    os.closerange(3, 20)
elif reading != 3:
    os.dup2(reading, 3)
    os.close(reading)
os.set_inheritable(3, True) if data is not None else None
os.execv(sys.argv[2], sys.argv[2:])
"""
SHOW_USER = ("--", "sh", "-c", 'printf "%s in %s" "$USER" "$HOME"')


class Checker:
    """A script that calls `egec verify --checkpassword`, and what it is given."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.script = site.script("checkpassword", "verify", "--checkpassword")

    def __call__(
        self, data: bytes, *program: str, descriptor: str = "open", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", CALLER, descriptor, str(self.script), *program]
        return subprocess.run(
            command, input=data, capture_output=True, env={**os.environ, **(environment or {})}, timeout=60
        )


@pytest.fixture
def check(site: Site) -> Checker:
    return Checker(site)


def login(identifier: str, password: str) -> bytes:
    return f"{identifier}\0{password}\0Y123456\0".encode()


def test_the_right_password_runs_the_program_as_the_user(check: Checker, site: Site) -> None:
    identifier, password = site.account()
    done = check(login(identifier, password), *SHOW_USER)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{identifier} in {os.environ['HOME']}"


def test_the_user_is_the_identifier_without_what_was_pasted_along(check: Checker, site: Site) -> None:
    identifier, password = site.account()
    done = check(login(f" {identifier}\u00a0", password), *SHOW_USER)
    assert done.stdout.decode().startswith(f"{identifier} in")


def test_the_program_takes_its_exit_code_its_options_and_the_signals_along(check: Checker, site: Site) -> None:
    identifier, password = site.account()
    assert check(login(identifier, password), "--", "sh", "-c", "exit 42").returncode == 42
    # `yes` ends by the signal of a closed pipe, which Python ignores: else it complains of a write error.
    done = check(login(identifier, password), "--", require_program("bash"), "-c", "yes | head -n 1")
    assert (done.stdout, done.stderr) == (b"y\n", b"")


def test_a_wrong_password_ends_with_1_and_runs_nothing(check: Checker, site: Site) -> None:
    identifier, password = site.account()
    for data in (login(identifier, "wrong"), login("1111111111", password), login(identifier, "é")):
        done = check(data, *SHOW_USER)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


BAD = {
    "empty": b"",
    "no NUL": b"1234567890",
    "an empty login": b"\0\0\0",
    "NULs": b"\0" * 512,
    "no text": b"\xff\xfe\0\xff\0",
    "513 bytes": b"1234567890\0" + b"x" * 502,
    "many bytes": b"1234567890\0" + b"x" * 50_000,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_invalid_input_is_refused_and_never_crashes(check: Checker, data: bytes) -> None:
    done = check(data, *SHOW_USER)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_login_of_512_bytes_is_looked_at(check: Checker, site: Site) -> None:
    identifier, password = site.account()
    data = login(identifier, password).ljust(512, b"x")
    assert check(data, *SHOW_USER).returncode == 0
    assert check(data + b"x", *SHOW_USER).returncode == 1


def test_without_descriptor_3_it_is_called_in_the_wrong_way(check: Checker) -> None:
    done = check(b"", *SHOW_USER, descriptor="closed")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"cannot read descriptor 3" in done.stderr


def test_without_a_program_it_is_called_in_the_wrong_way(check: Checker, site: Site) -> None:
    assert check(login(*site.account())).returncode == 2
    assert site.logins() == []


def test_an_unavailable_database_ends_with_111(check: Checker, site: Site) -> None:
    data = login(*site.account())
    (site.folder / "egec.db").rename(site.folder / "elsewhere.db")
    done = check(data, *SHOW_USER)
    assert (done.returncode, done.stdout) == (111, b"")
    assert b"egec.db" in done.stderr
    url = "postgresql://egec@127.0.0.1:1/egec"
    assert check(data, *SHOW_USER, environment={"EGEC_DATABASE_URL": url}).returncode == 111


def test_wrong_settings_end_with_111(check: Checker, site: Site) -> None:
    data = login(*site.account())
    assert check(data, *SHOW_USER, environment={"EGEC_BCRYPT_COST": "much"}).returncode == 111
    site.env_file.unlink()
    assert check(data, *SHOW_USER).returncode == 111


def test_a_program_that_cannot_be_run_ends_with_111(check: Checker, site: Site) -> None:
    done = check(login(*site.account()), "/no/such/program")
    assert (done.returncode, done.stdout) == (111, b"")
    assert b"cannot run /no/such/program" in done.stderr
