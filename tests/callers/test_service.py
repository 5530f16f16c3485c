"""The README's installation on a server, carried out to the letter: the account, its files, the night's work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli.errors import ExitCode
from egec_cli.settings import Tls
from tests.activations import letters
from tests.callers.site import CHECKOUT, require_program
from tests.conftest import Ended
from tests.readme.blocks import executed_by
from tests.readme.machine import Machine, machine
from tests.readme.units import Unit
from tests.smtp_server import MailServer

INSTALL, UNITS = executed_by("tests/callers/test_service.py")
SERVICE, TIMER = UNITS.files()
# Where systemd would lay down what LoadCredential= names.
CREDENTIALS = "/srv/credentials"
STATE = "/var/lib/egec"
MAIL_URL = "smtp://egec:secret@smtp.example.org:587"


class Installation(NamedTuple):
    """A machine on which the README's commands were typed, and the mail server that it names."""

    machine: Machine
    server: MailServer

    def egec(self, *arguments: str) -> Ended:
        """Run `egec` as its account at a shell, where no secret is handed over."""
        return self.machine.run(["/opt/egec/bin/egec", *arguments], user="egec", variables={"EGEC_BCRYPT_COST": "4"})

    def works_through_the_night(self) -> list[Ended]:
        """Run the commands of the service as systemd does, on a disk of which only its own folder may be written to."""
        unit = Unit.read(UNITS.files()[SERVICE])
        name, _, secret = unit.one("LoadCredential").partition(":")
        user = unit.one("User")
        self.machine.must(["install", "-D", "-o", user, "-m", "400", secret, f"{CREDENTIALS}/{name}"])
        variables = {**unit.variables(CREDENTIALS), "CREDENTIALS_DIRECTORY": CREDENTIALS, "HOME": STATE}
        ends: list[Ended] = []
        for command in unit.commands():
            ends.append(
                self.machine.run(
                    command, user=user, variables={**variables, "EGEC_BCRYPT_COST": "4"}, writable=STATE
                )
            )
            if ends[-1].code not in {0, int(unit.one("SuccessExitStatus"))}:
                break
        return ends


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as running:
        yield running


@pytest.fixture
def installation(mail_server: MailServer) -> Iterator[Installation]:
    require_program("sudo", "sudo")
    with machine() as made:
        assert MAIL_URL in INSTALL.text
        # Its authority is known to the tests alone; the service may read it.
        url, _, authority = mail_server.url.partition("&ca=")
        made.write("/etc/ssl/egec-test.pem", Path(authority).read_text())
        commands = INSTALL.text.replace(MAIL_URL, f"{url}&ca=/etc/ssl/egec-test.pem")
        made.must(["bash", "-euo", "pipefail", "-c", commands], folder=str(CHECKOUT))
        for path, text in UNITS.files().items():
            made.write(path, text)
        yield Installation(made, mail_server)


def test_the_account_can_read_its_settings_and_change_none(installation: Installation) -> None:
    for command, code in {
        "cat /etc/egec/egec.env": 0,
        "cat /etc/egec/mail_url": 1,
        "echo >> /etc/egec/egec.env": 2,
        "touch /etc/egec/x": 1,
    }.items():
        assert installation.machine.run(["sh", "-c", command], user="egec").code == code, command
    assert installation.machine.run(["ls", STATE], user="www-data").code == 2
    assert installation.machine.must(["sh", "-c", f"stat -c '%a %U' {STATE}/egec.db"]) == "600 egec\n"
    assert installation.egec("client", "list").code == 0


def test_systemd_takes_the_units_as_they_are(installation: Installation) -> None:
    require_program("systemd-analyze", "systemd")
    for unit in (SERVICE, TIMER):
        ended = installation.machine.run(["systemd-analyze", "verify", "--man=no", unit])
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_systemd_finds_little_that_the_service_is_exposed_to(installation: Installation) -> None:
    require_program("systemd-analyze", "systemd")
    ended = installation.machine.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", SERVICE])
    assert ended.code == 0, ended.out


def test_the_nights_work_mails_who_is_new_with_the_secret_that_systemd_hands_over(installation: Installation) -> None:
    assert installation.egec("client", "create", "jeanne@example.org").code == 0
    before = len(installation.server.accepted)
    ends = installation.works_through_the_night()
    assert [ended.code for ended in ends] == [0, 0, 0], ends
    assert [mail.recipient for mail in installation.server.accepted[before:]] == ["jeanne@example.org"]
    received = letters(installation.server)[-1]
    verdict = installation.machine.run(
        ["/opt/egec/bin/egec", "verify", "--stdin"],
        user="egec",
        typed=f"{received.identifier}\n{received.password}\n",
    )
    assert verdict.code == 0
    again = installation.works_through_the_night()
    assert [ended.code for ended in again] == [0, 0, 0], again
    assert len(installation.server.accepted) == before + 1
    (event,) = installation.egec("audit", "list", "--action", "reissue.start", "--format", "jsonl").out.splitlines()
    assert json.loads(event)["actor"].split()[0] == "egec"


def test_systemd_tries_again_after_what_is_not_now_and_after_nothing_else() -> None:
    unit = Unit.read(UNITS.files()[SERVICE])
    assert unit.one("Restart") == "on-failure"
    given_up_after = {int(code) for code in unit.one("RestartPreventExitStatus").split()}
    ends_by_itself = {code for code in ExitCode if code < ExitCode.INTERRUPTED}
    done = {ExitCode.OK, ExitCode.PARTLY_DONE}
    assert ends_by_itself - done - given_up_after == {ExitCode.NOT_NOW}


def test_a_night_without_the_mail_server_ends_with_75(installation: Installation) -> None:
    assert installation.egec("client", "create", "late@example.org").code == 0
    installation.server.stop()
    try:
        (ended,) = installation.works_through_the_night()
    finally:
        installation.server.start()
    assert ended.code == ExitCode.NOT_NOW, ended
