"""egec installed on a machine as the guide to servers says."""

from pathlib import Path
from typing import NamedTuple

from tests.conftest import Ended
from tests.readme.blocks import CHECKOUT, executed_by
from tests.readme.machine import PATH, Machine
from tests.smtp_server import MailServer

(
    TO_POSTGRESQL,
    INSTALL, SECRET, UNITS,
    UPGRADE, DUMP, RESTORE, RESTORE_DUMP, MOVE, UNINSTALL,
) = executed_by("tests/callers/test_service.py")  # fmt: skip
STATE = "/var/lib/egec"
MAIL_URL = "smtp://egec:secret@smtp.example.org:587"
# The tests' machine has no systemd: this one requires the units that it is given, and writes down what it is asked.
SYSTEMCTL = """#!/bin/sh
for word; do case $word in *.timer|*.service) test -e "/etc/systemd/system/$word" || exit 5 ;; esac; done
echo "systemctl $*" >> /srv/steps
"""
AUTHORITY = "/etc/ssl/egec-test.pem"


class Server(NamedTuple):
    """A machine on which the README's commands were typed; hashes are cheap there."""

    machine: Machine

    @classmethod
    def installed(cls, machine: Machine, mail_server: MailServer) -> "Server":
        """Type the commands, with this mail server instead of the named one."""
        url, authority = mail_server.url.split("&ca=")
        machine.write(AUTHORITY, Path(authority).read_text())
        assert MAIL_URL in INSTALL.text
        commands = INSTALL.text.replace(MAIL_URL, f"{url}&ca={AUTHORITY}")
        machine.must(["bash", "-euo", "pipefail", "-c", commands], folder=str(CHECKOUT))
        machine.must(["sh", "-c", "echo EGEC_BCRYPT_COST=4 >> /etc/egec/egec.env"])
        return cls(machine)

    def egec(self, *arguments: str, typed: str = "") -> Ended:
        """Run `egec` as its account at a shell."""
        return self.machine.run(["/opt/egec/bin/egec", *arguments], user="egec", typed=typed)

    def may_be_worked_at(self) -> None:
        """Give the account the secret, as the guide says for people and cron."""
        self.types(SECRET.text)

    def types(self, commands: str, *, folder: str = "/", **variables: str) -> str:
        """Type these commands as root, require success, and return their output; systemctl is a stand-in."""
        self.machine.write("/srv/bin/systemctl", SYSTEMCTL, mode=0o755)
        variables = {"PATH": f"/srv/bin:{PATH}", **variables}
        # Alone: another test's account may have the same number, and userdel refuses an account that is in use.
        alone = ["unshare", "--pid", "--fork", "--mount-proc"]
        command = [*alone, "bash", "-euo", "pipefail", "-c", commands]
        ended = self.machine.run(command, folder=folder, variables=variables)
        assert ended.code == 0, ended
        return ended.out
