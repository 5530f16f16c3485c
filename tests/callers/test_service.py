"""The README's installation on a server, followed exactly: the account, its files, the nightly work."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from egec_cli.errors import ExitCode
from egec_cli.settings.schema import Tls
from tests.activations import letters
from tests.conftest import Ended
from tests.programs import require_program, require_programs_in
from tests.readme.machine import machine
from tests.readme.server import INSTALL, STATE, UNITS, Server
from tests.readme.units import Unit
from tests.smtp_server import MailServer

SERVICE, TIMER = UNITS.files()
NIGHT = Unit.read(UNITS.files()[SERVICE])
# The folder in which systemd would place the files of LoadCredential=.
CREDENTIALS = "/srv/credentials"


class Installation(NamedTuple):
    """A server and its mail server."""

    server: Server
    mail_server: MailServer

    def works_through_the_night(self) -> list[Ended]:
        """Run the commands of the service as systemd does, with only its own folder writable."""
        name, _, secret = NIGHT.one("LoadCredential").partition(":")
        user = NIGHT.one("User")
        machine = self.server.machine
        machine.must(["install", "-D", "-o", user, "-m", "400", secret, f"{CREDENTIALS}/{name}"])
        variables = {**NIGHT.variables(CREDENTIALS), "CREDENTIALS_DIRECTORY": CREDENTIALS, "HOME": STATE}
        ends: list[Ended] = []
        for command in NIGHT.commands():
            ends.append(machine.run(command, user=user, variables=variables, writable=STATE))
            if ends[-1].code not in {0, int(NIGHT.one("SuccessExitStatus"))}:
                break
        return ends


@pytest.fixture
def installation() -> Iterator[Installation]:
    require_programs_in(INSTALL.text)
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as mail_server, machine() as made:
        server = Server.installed(made, mail_server)
        for path, text in UNITS.files().items():
            made.write(path, text)
        yield Installation(server, mail_server)


def test_the_account_can_read_its_settings_and_change_none(installation: Installation) -> None:
    for command, code in {
        "cat /etc/egec/egec.env": 0,
        "cat /etc/egec/mail_url": 1,
        "echo >> /etc/egec/egec.env": 2,
        "touch /etc/egec/x": 1,
    }.items():
        assert installation.server.machine.run(["sh", "-c", command], user="egec").code == code, command
    assert installation.server.machine.run(["ls", STATE], user="www-data").code == 2
    assert installation.server.machine.must(["sh", "-c", f"stat -c '%a %U' {STATE}/egec.db"]) == "600 egec\n"
    assert installation.server.egec("client", "list").code == 0


def test_systemd_takes_the_units_as_they_are(installation: Installation) -> None:
    require_program("systemd-analyze", "systemd")
    for unit in (SERVICE, TIMER):
        ended = installation.server.machine.run(["systemd-analyze", "verify", "--man=no", unit])
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_systemd_finds_little_that_the_service_is_exposed_to(installation: Installation) -> None:
    require_program("systemd-analyze", "systemd")
    ended = installation.server.machine.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", SERVICE])
    assert ended.code == 0, ended.out


def test_the_nights_work_mails_who_is_new_with_the_secret_that_systemd_hands_over(installation: Installation) -> None:
    assert installation.server.egec("client", "create", "jeanne@example.org").code == 0
    before = len(installation.mail_server.accepted)
    ends = installation.works_through_the_night()
    assert [ended.code for ended in ends] == [0, 0, 0], ends
    assert [mail.recipient for mail in installation.mail_server.accepted[before:]] == ["jeanne@example.org"]
    received = letters(installation.mail_server)[-1]
    typed = f"{received.identifier}\n{received.password}\n"
    assert installation.server.egec("verify", "--stdin", typed=typed).code == 0
    again = installation.works_through_the_night()
    assert [ended.code for ended in again] == [0, 0, 0], again
    assert len(installation.mail_server.accepted) == before + 1
    listed = installation.server.egec(
        "audit", "list", "--action", "reissue.start", "--format", "ids", "--fields", "actor"
    )
    assert listed.out.split()[0] == "egec"


def test_systemd_tries_again_after_what_is_a_temporary_failure_and_after_nothing_else() -> None:
    assert NIGHT.one("Restart") == "on-failure"
    given_up_after = {int(code) for code in NIGHT.one("RestartPreventExitStatus").split()}
    ends_by_itself = {code for code in ExitCode if code < ExitCode.INTERRUPTED}
    done = {ExitCode.OK, ExitCode.PARTLY_DONE}
    assert ends_by_itself - done - given_up_after == {ExitCode.TEMPORARY_FAILURE}


def test_a_night_without_the_mail_server_ends_with_75(installation: Installation) -> None:
    assert installation.server.egec("client", "create", "late@example.org").code == 0
    installation.mail_server.stop()
    try:
        (ended,) = installation.works_through_the_night()
    finally:
        installation.mail_server.start()
    assert ended.code == ExitCode.TEMPORARY_FAILURE, ended
