"""A real Dovecot asks egec: its checkpassword database runs `egec verify --checkpassword`."""

import os
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.callers.service_account import PATIENCE, folder_of_service_account
from tests.callers.site import Site
from tests.programs import require_program

CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols =
ssl = no
auth_failure_delay = 0
service auth {{
  user = root
}}
passdb {{
  driver = checkpassword
  args = {script}
}}
userdb {{
  driver = static
  args = uid=5000 gid=5000 home={folder}
}}
"""


class Dovecot(NamedTuple):
    """A mail server whose logins are those of clients."""

    site: Site
    doveadm: str

    def says(self, user: str, password: str) -> str:
        """Log in; return the result of Dovecot's own test."""
        command = [self.doveadm, "-c", str(self.site.folder / "dovecot.conf"), "auth", "test", "--", user, password]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert f"user={user}" in done.stdout, done
        return (
            "accepted"
            if done.returncode == 0
            else "temporary failure"
            if "code=temp_fail" in done.stdout
            else "refused"
        )


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    """Start a mail server for this test alone."""
    binary, doveadm = require_program("dovecot", "dovecot-core"), require_program("doveadm", "dovecot-core")
    if os.geteuid() != 0:
        pytest.skip("Dovecot gives its parts accounts of their own: run the tests as root")
    with folder_of_service_account() as folder:
        folder.chmod(0o755)
        site = Site.made_in(folder)
        script = site.script("checkpassword", "verify", "--checkpassword")
        (folder / "dovecot.conf").write_text(CONFIGURATION.format(folder=folder, script=script))
        server = subprocess.Popen([binary, "-F", "-c", str(folder / "dovecot.conf")], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (folder / "run" / "auth-client").exists():
                assert server.poll() is None, server.communicate()
                assert time.monotonic() < deadline, "Dovecot does not come up"
                time.sleep(0.02)
            yield Dovecot(site, doveadm)
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE)


def test_dovecot_lets_in_who_has_the_right_password(dovecot: Dovecot) -> None:
    identifier, password = dovecot.site.account()
    assert dovecot.says(identifier, password) == "accepted"
    assert dovecot.says(identifier, "wrong") == "refused"
    assert dovecot.says("1111111111", password) == "refused"


def test_dovecot_takes_a_password_that_begins_with_a_hyphen(dovecot: Dovecot) -> None:
    identifier, _ = dovecot.site.account()
    assert dovecot.says(identifier, "-Kn*R=V7?") == "refused"


def test_dovecot_gets_a_temporary_failure_when_the_database_is_unavailable(dovecot: Dovecot) -> None:
    login = dovecot.site.account()
    (dovecot.site.folder / "egec.db").unlink()
    assert dovecot.says(*login) == "temporary failure"
