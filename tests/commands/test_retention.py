"""The guide to retention: its script and its lines of cron, night after night, with the clock set forward."""

import os
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli import clock, context
from egec_cli.clients import fields
from egec_cli.clients.records import create_client
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.store.models import Client
from tests import children
from tests.conftest import Ended
from tests.manual.blocks import executed_by
from tests.manual.office import program
from tests.manual.terminal import type_in
from tests.processes import egec_after, replace
from tests.smtp_server import Fault, MailServer

SCRIPT, CRONTAB = executed_by("tests/commands/test_retention.py")
FIRST_NIGHT = datetime(2027, 1, 4, 5, tzinfo=UTC)
YEAR = timedelta(days=366)


class House(NamedTuple):
    """A machine with the script, the lines of cron, and a clock that each night sets."""

    folder: Path
    lines: list[str]
    variables: dict[str, str]

    def at_home(self, text: str) -> str:
        """Return a text of the guide with the paths of this machine."""
        return text.replace("/etc/egec", f"{self.folder}/etc").replace("/opt/egec", str(self.folder))

    def run(self, line: str, at: datetime) -> Ended:
        variables = {**self.variables, "TEST_NOW": clock.to_rfc3339(at)}
        ended = type_in(["sh", "-c", self.at_home(line)], folder=self.folder, variables=variables, answers={})
        return Ended(ended.code, ended.out, ended.err)

    def night(self, at: datetime, lines: slice = slice(4)) -> list[Ended]:
        return [self.run(line, at + timedelta(minutes=10 * number)) for number, line in enumerate(self.lines[lines])]


@pytest.fixture
def house(tmp_path: Path, location: Database, server: MailServer) -> House:
    """Install the script and read the crontab of the guide."""
    command = egec_after(replace(context, "choose_clock", children.clock_of_a_test))
    program(tmp_path / "bin/egec", f'exec {shlex.join(command)} "$@"')
    lines = []
    for line in CRONTAB.text.splitlines():
        if not re.match("[A-Z_]+=", line):
            timed = re.fullmatch(r"([0-9]+ [0-9]+ \* \* \*) +(.+)", line)
            assert timed, line
            assert "%" not in timed[2], "cron ends the command there"
            lines.append(timed[2])
    found = House(tmp_path, lines, {"EGEC_MAIL_URL": server.url, "PATH": os.environ["PATH"]})
    script = Path(found.at_home(SCRIPT.path))
    script.parent.mkdir()
    script.write_text(found.at_home(SCRIPT.text))
    script.chmod(SCRIPT.permissions)
    (script.parent / "exempt.txt").write_text("")
    return found


def exempt(house: House, *names: str) -> None:
    (house.folder / "etc/exempt.txt").write_text("".join(f"{name}\n" for name in names))


def populate(clients: dict[str, tuple[timedelta, timedelta | None]]) -> None:
    """Create clients by name, each with the age and the age of the last login in the first night, if any."""
    with context.open_context(load.load_settings()) as opened:
        for name, (created, login) in clients.items():
            client = create_client(opened, fields.parse_fields(f"{name}@example.org", reference=f"R-{name}"))
            Client.update(
                created_at=FIRST_NIGHT - created, last_login_at=None if login is None else FIRST_NIGHT - login
            ).where(Client.id == client.id).execute()


def change(name: str, **values: object) -> None:
    with context.open_context(load.load_settings()):
        Client.update(**values).where(Client.reference == f"R-{name}").execute()


def disabled() -> set[str]:
    with context.open_context(load.load_settings()):
        query = Client.select().where(Client.disabled_at.is_null(False) & Client.email.is_null(False))
        return {str(client.email).partition("@")[0] for client in query}


def present() -> set[str]:
    with context.open_context(load.load_settings()):
        return {str(client.email).partition("@")[0] for client in Client.select().where(Client.email.is_null(False))}


def mailed(server: MailServer) -> list[str]:
    return sorted(mail.recipient.partition("@")[0] for mail in server.accepted)


def test_the_lines_of_cron_notify_close_and_erase_and_spare_who_signs_in_or_is_exempt(
    house: House, server: MailServer
) -> None:
    populate(
        {
            "dormant": (5 * YEAR, 2 * YEAR + timedelta(days=3)),
            "returns": (5 * YEAR, 2 * YEAR + timedelta(days=3)),
            "exempt": (9 * YEAR, 8 * YEAR),
            "never": (2 * YEAR + timedelta(days=3), None),
            "new": (timedelta(days=2), None),
            "active": (5 * YEAR, timedelta(days=1)),
            "long-closed": (9 * YEAR, 3 * YEAR + timedelta(days=3)),
        }
    )
    change("long-closed", disabled_at=FIRST_NIGHT - YEAR)
    exempt(house, "ref:R-exempt")
    quiet = [Ended(0, "", "")] * 4
    assert house.night(FIRST_NIGHT) == quiet
    assert mailed(server) == ["dormant", "never", "returns"]
    assert disabled() == set()
    assert "long-closed" not in present()

    change("returns", last_login_at=FIRST_NIGHT + timedelta(days=12))
    assert house.night(FIRST_NIGHT + timedelta(days=30), slice(1)) == quiet[:1]
    assert disabled() == set()
    assert house.night(FIRST_NIGHT + timedelta(days=31), slice(2)) == quiet[:2]
    assert disabled() == {"dormant", "never"}

    change("active", last_login_at=FIRST_NIGHT + YEAR)
    assert house.night(FIRST_NIGHT + YEAR + timedelta(days=1)) == quiet
    assert present() == {"returns", "exempt", "new", "active"}
    assert mailed(server) == ["dormant", "never", "returns"]


def test_the_script_stops_above_its_limit_and_at_an_unknown_exemption(house: House, server: MailServer) -> None:
    populate(dict.fromkeys(("one", "two", "three"), (5 * YEAR, 3 * YEAR)))
    line = house.lines[0].replace(" 200 ", " 2 ").replace("unused", "d'office: \\n")
    ended = house.run(line, FIRST_NIGHT)
    assert ended.code == 65
    _, found, typed = ended.err.partition("retention: 3 clients, more than 2; nothing was changed. Look at: egec ")
    assert found
    words = [*shlex.split(house.at_home(line))[2:], "--exclude", house.at_home("/etc/egec/exempt.txt"), "--dry-run"]
    assert shlex.split(typed) == words
    exempt(house, "R-typo")
    ended = house.run(house.lines[0], FIRST_NIGHT)
    assert ended.code == 3
    assert "exempt.txt:1: unknown client 'R-typo'" in ended.err
    assert (server.accepted, disabled()) == ([], set())
    exempt(house, "R-three")
    assert house.run(line, FIRST_NIGHT).code == 0
    assert mailed(server) == ["one", "two"]


def test_a_night_without_a_mail_server_tells_the_operator_and_the_next_one_goes_on(
    house: House, server: MailServer
) -> None:
    populate({"one": (5 * YEAR, 3 * YEAR)})
    server.fail_always(Fault.CUT_AT_MAIL)
    ended = house.run(house.lines[0], FIRST_NIGHT)
    assert ended.code == 75
    assert "clients not notified yet: 1" in ended.err
    assert "Later, run the same command again" in ended.err
    server.work_again()
    assert house.run(house.lines[0], FIRST_NIGHT + timedelta(days=1)) == Ended(0, "", "")
    assert mailed(server) == ["one"]


def test_the_mail_of_cron_names_each_client_whose_notice_may_not_have_arrived(house: House, server: MailServer) -> None:
    populate(dict.fromkeys(("one", "two", "three", "full"), (5 * YEAR, 3 * YEAR)))
    server.fail_always(Fault.RCPT_550_USER_UNKNOWN, recipient="two@example.org")
    server.fail_always(Fault.RCPT_451, recipient="full@example.org")
    with context.open_context(load.load_settings()):
        two, full = (Client.get(Client.reference == f"R-{name}").identifier for name in ("two", "full"))
    ended = house.run(house.lines[0], FIRST_NIGHT)
    assert (ended.code, ended.out) == (3, "")
    lines = ended.err.splitlines()
    assert f"egec: the notice to client {two} may not have arrived: " in ended.err
    assert "two@example.org" in ended.err
    assert f"egec: client {full}: " in ended.err
    assert "egec: the notices of 1 client may not have arrived; they count nevertheless" in lines
    assert "      See `egec audit list --action client.closing`." in lines
    assert mailed(server) == ["one", "three"]
    # No client is notified twice.
    server.work_again()
    assert house.run(house.lines[0], FIRST_NIGHT + timedelta(days=1)) == Ended(0, "", "")
    assert mailed(server) == ["full", "one", "three"]
