"""`egec verify --pam` called by the real pam_exec, through pamtester."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.callers.site import Site
from tests.programs import require_program

SERVICES = Path("/etc/pam.d")


class Pam:
    """A PAM service that asks egec."""

    def __init__(self, pamtester: str, service: str) -> None:
        self._command = [pamtester, service]

    def lets_in(self, user: str, password: str) -> bool:
        """Log in; return whether PAM accepts it."""
        done = subprocess.run(
            [*self._command, user, "authenticate"],
            input=f"{password}\n".encode(),
            capture_output=True,
            # What PAM passes on must do without it.
            env={"PATH": os.environ["PATH"]},
            timeout=60,
        )
        # That is what pam_exec makes of every exit code but 0.
        assert b"successfully authenticated" in done.stdout or b"System error" in done.stderr, done
        return done.returncode == 0


@pytest.fixture
def pam(site: Site) -> Iterator[Pam]:
    """Install a PAM service for this test alone."""
    pamtester = require_program("pamtester", "pamtester")
    if not os.access(SERVICES, os.W_OK):
        pytest.skip(f"a PAM service cannot be made in {SERVICES}: run the tests as root")
    script = site.script("verify-pam", "verify", "--pam")
    service = SERVICES / f"egec-test-{os.getpid()}"
    service.write_text(f"auth required pam_exec.so expose_authtok quiet {script}\naccount required pam_permit.so\n")
    try:
        yield Pam(pamtester, service.name)
    finally:
        service.unlink()


def test_pam_lets_in_who_has_the_right_password(pam: Pam, site: Site) -> None:
    identifier, password = site.account()
    assert pam.lets_in(identifier, password)
    assert not pam.lets_in(identifier, "wrong")
    assert not pam.lets_in("1111111111", password)
    assert site.logins() == ["accepted", "refused", "refused"]


@pytest.mark.parametrize("password", ["", "é" * 9, "x" * 500])
def test_pam_refuses_invalid_input(pam: Pam, site: Site, password: str) -> None:
    assert not pam.lets_in(site.account()[0], password)


def test_pam_refuses_a_blocked_account_and_all_when_the_database_is_unavailable(pam: Pam, site: Site) -> None:
    blocked, other = site.account(), site.account("marc@example.org")
    site.block(blocked[0])
    assert not pam.lets_in(*blocked)
    assert pam.lets_in(*other)
    (site.folder / "egec.db").unlink()
    assert not pam.lets_in(*other)
