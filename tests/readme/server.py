"""egec installed on a machine as the README's section « On a server » says."""

from pathlib import Path
from typing import NamedTuple

from tests.conftest import Ended
from tests.readme.blocks import CHECKOUT, executed_by
from tests.readme.machine import Machine
from tests.smtp_server import MailServer

INSTALL, UNITS = executed_by("tests/callers/test_service.py")
STATE = "/var/lib/egec"
MAIL_URL = "smtp://egec:secret@smtp.example.org:587"
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
        """Give the account the secret, as the README says for operators and crontabs."""
        self.machine.must(
            ["sh", "-c", "cd /etc/egec && chgrp egec mail_url && chmod 640 mail_url"
             " && echo EGEC_MAIL_URL_FILE=mail_url >> egec.env"]
        )  # fmt: skip
