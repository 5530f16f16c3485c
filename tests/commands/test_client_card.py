"""A client at a terminal: what the kept screens do not show."""

import re
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.conftest import Egec
from tests.delivery_reports import report_of
from tests.screens.cases import prepare
from tests.screens.emulator import PROGRAM, Seen, see
from tests.smtp_server import Fault, MailServer


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables with which commands find the database of the screens."""
    return prepare(tmp_path_factory.mktemp("cards"))


def typed(*arguments: str, columns: int = 80, lines: int = 24) -> Seen:
    return see([*PROGRAM, *arguments], columns=columns, lines=lines)


@pytest.mark.parametrize("lines", [16, 24, 40])
def test_the_card_and_the_command_that_helps_fit_the_screen_with_the_last_events(
    database: dict[str, str], lines: int
) -> None:
    seen = see([*PROGRAM, "client", "show", "1000000035"], lines=lines, variables=database)
    assert lines - 3 <= len(seen.lines) < lines
    assert seen.lines[0].startswith("Mme Marie-Christine")
    assert "mail 30 accepted" in seen.text
    assert seen.lines[-1].startswith("Next: egec ")


def test_full_shows_every_event_below_the_card(database: dict[str, str]) -> None:
    seen = see([*PROGRAM, "client", "show", "1000000035", "--full"], variables=database)
    assert seen.lines[0].startswith("Mme Marie-Christine")
    assert [number for number in range(1, 31) if f"mail {number} accepted" not in seen.text] == []
    assert not seen.wrapped


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_no_line_is_longer_than_the_screen(database: dict[str, str], columns: int) -> None:
    for identifier in ("1000000030", "1000000033", "1000000034"):
        seen = see([*PROGRAM, "client", "show", identifier], columns=columns, variables=database)
        assert not seen.wrapped
        assert "Mme Marie-Christine" in seen.text


def test_machine_formats_at_a_terminal_are_those_of_a_pipe(egec_process: Egec, database: dict[str, str]) -> None:
    fields = "identifier,email,reference,status,failed_logins,last_sequence"
    for output in ("json", "jsonl", "csv", "ids", "table"):
        command = ("client", "show", "1000000035", "--full", "--format", output, "--fields", fields)
        seen = see([*PROGRAM, *command], columns=200, lines=40, variables=database)
        assert seen.text == egec_process(*command, env=database).out


def test_what_a_failed_activation_means_is_not_the_text_for_the_client(egec: Egec, server: MailServer) -> None:
    egec("client", "create", "jeanne@example.org")
    server.fail_always(Fault.RCPT_550)
    seen = typed("activate", "jeanne@example.org", columns=300)
    assert seen.code == 65
    assert seen.lines[0].startswith("egec: the mail server ")
    assert typed("activate", "unknown@example.org").lines[0].startswith("egec: no client has ")
    relayed = typed("activate", "unknown@example.org", "--relay")
    assert (relayed.code, relayed.lines[0]) == (67, "Identifiant et/ou m-d-p non reconnu(s)")


def test_the_events_of_a_client_at_a_terminal_are_those_that_were_done(
    egec: Egec, server: MailServer, tmp_path: Path
) -> None:
    egec("client", "create", "jeanne@example.org", "--last-name", "Dupont")
    for arguments in (
        ("activate", "jeanne@example.org"),
        ("activate", "jeanne@example.org", "--revoke"),
        ("client", "update", "jeanne@example.org", "--reference", "D-1"),
        ("client", "update", "jeanne@example.org", "--email", "new@example.org"),
        ("client", "disable", "D-1", "--reason", "left"),
        ("client", "enable", "D-1"),
        ("activate", "D-1", "--no-mail", "--show-password"),
    ):
        assert egec(*arguments).code == 0
    seen = typed("client", "show", "D-1", "--full", columns=200, lines=60)
    events = [re.sub(r", by .*?(:|$)|: 250 .*", r"\1", line[18:]) for line in seen.lines if re.match(r"\d{4}-", line)]
    assert events == [
        "client created",
        "mail 1 since revoked: 250 OK",
        "earlier passwords revoked",
        "mail 2 accepted, since replaced: 250 OK",
        "changed: reference",
        "changed: e-mail",
        "previous address notified",
        "disabled: left",
        "enabled",
        "password 3 shown",
    ]
    assert typed("client", "erase", "D-1", "--yes").lines[-1].endswith(": erased")


def test_the_mark_of_an_address_is_shown_without_the_bounce_of_an_earlier_one(
    egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    for number, name in enumerate(("jeanne", "marc")):
        assert egec("client", "create", f"{name}@example.org", "--activate").code == 0
        mail = message_from_bytes(server.accepted[number].content)
        (tmp_path / "report.eml").write_bytes(report_of(mail["Message-ID"], words=f"550 5.1.1 {name} is unknown"))
        assert egec("mail", "bounces", str(tmp_path / "report.eml")).code == 0
    marc = egec("client", "list", "--search", "marc", "--format", "ids").out.strip()
    assert bounce_in(typed("client", "show", marc)).endswith("550 5.1.1 marc is unknown")
    assert egec("client", "update", marc, "--email", "jeanne@example.org", "--no-mail").code == 0
    assert re.fullmatch(r"bounced +[0-9 :-]+", bounce_in(typed("client", "show", marc)))
    assert re.fullmatch(r"bounced +[0-9 :-]+", bounce_in(typed("client", "create", "jeanne@example.org")))


def bounce_in(card: Seen) -> str:
    [line] = [line for line in card.lines if line.startswith("bounced ")]
    return line.rstrip()
