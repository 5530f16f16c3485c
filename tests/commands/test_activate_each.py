"""`egec activate EMAIL` for an e-mail that several clients share, and what else the commands say of it."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from egec_cli.commands import activate_request
from egec_cli.settings.types import Database
from tests import children
from tests.activations import letters, opens, wait_until
from tests.commands.test_activate_request import JEANNE, SENT
from tests.conftest import Egec
from tests.processes import replace, run_with
from tests.shared_emails import OFFICE
from tests.smtp_server import Fault, MailServer


@pytest.fixture
def office(location: Database, egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the identifiers of three clients with one e-mail."""
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    return [create(egec, reference=f"D-{number}") for number in (1, 2, 3)]


def create(egec: Egec, *arguments: str, reference: str) -> str:
    created = egec("client", "create", OFFICE, "--reference", reference, *arguments, "--format", "ids")
    assert created.code == 0, created
    return created.out.strip()


def test_each_client_gets_a_mail_and_a_result(office: list[str], egec: Egec, server: MailServer) -> None:
    ended = egec("activate", OFFICE, "--format", "jsonl")
    results = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, ended.err) == (0, "egec: 3 of 3 mails accepted\n")
    assert [(one["identifier"], one["reference"], one["sequence"], one["failure"]) for one in results] == [
        (identifier, f"D-{number}", 1, None) for number, identifier in enumerate(office, 1)
    ]
    received = letters(server)
    assert [one.identifier for one in received] == office
    assert all(map(opens, received))
    assert [one["message_id"] for one in results] == [one.message_id for one in received]
    assert len(json.loads(egec("activate", OFFICE, "--format", "json").out)) == 3
    # One client alone: the same keys as ever.
    assert json.loads(egec("activate", office[0], "--format", "json").out)["sequence"] == 3


def test_a_script_gets_the_text_of_the_memo_once(office: list[str], egec: Egec, server: MailServer) -> None:
    ended = egec("activate", OFFICE)
    assert (ended.code, ended.out) == (0, SENT)
    assert len(server.accepted) == 3


def test_a_failure_leaves_the_others_their_mail(office: list[str], egec: Egec, server: MailServer) -> None:
    server.fail_next(Fault.RCPT_451)
    ended = egec("activate", OFFICE, "--format", "json")
    assert ended.code == 3
    failures = [one["failure"] for one in json.loads(ended.out)]
    assert (failures[0] is not None, failures[1:]) == (True, [None, None])
    assert [one.identifier for one in letters(server)] == office[1:]
    server.fail_next(Fault.RCPT_451)
    ended = egec("activate", OFFICE)
    assert (ended.code, ended.out) == (3, SENT)
    assert f"egec: client {office[0]}: " in ended.err
    assert "2 of 3 mails accepted" in ended.err


def test_if_every_mail_fails_the_first_error_ends_the_command(
    office: list[str], egec: Egec, server: MailServer
) -> None:
    server.fail_always(Fault.RCPT_550_USER_UNKNOWN)
    ended = egec("activate", OFFICE)
    assert (ended.code, ended.out) == (65, "")
    assert all(identifier in ended.err for identifier in office)
    assert "0 of 3 mails accepted" in ended.err


def test_disabled_clients_are_left_out_and_named(office: list[str], egec: Egec, server: MailServer) -> None:
    egec("client", "disable", office[1], "--reason", "left")
    ended = egec("activate", OFFICE)
    assert (ended.code, ended.out) == (0, SENT)
    assert f"egec: no mail: client {office[1]} is disabled" in ended.err
    assert [one.identifier for one in letters(server)] == [office[0], office[2]]
    for identifier in (office[0], office[2]):
        egec("client", "disable", identifier, "--reason", "left")
    assert egec("activate", OFFICE).code == 77
    assert len(server.accepted) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "show", OFFICE),
        ("client", "update", OFFICE, "--last-name", "Petit"),
        ("client", "disable", OFFICE, "--reason", "left"),
        ("client", "erase", OFFICE, "--yes"),
        ("client", "create", OFFICE, "--if-missing"),
        ("activate", OFFICE, "--no-mail", "--show-password"),
        ("audit", "list", "--client", OFFICE),
        ("mail", "preview", OFFICE),
        ("verify", OFFICE, "--password-stdin", "--explain"),
    ],
    ids=" ".join,
)
def test_another_command_lists_the_clients_and_does_nothing(
    office: list[str], egec: Egec, server: MailServer, arguments: tuple[str, ...]
) -> None:
    ended = egec(*arguments)
    assert ended.code == 67, ended
    assert f"3 clients have the e-mail {OFFICE}" in ended.err
    assert all(identifier in ended.err for identifier in office)
    assert "D-2" in ended.err
    assert egec("client", "list", "--format", "count").out == "3\n"
    assert server.accepted == []


def test_the_error_for_programs_names_the_identifiers(office: list[str], egec: Egec) -> None:
    error = json.loads(egec("client", "show", OFFICE, "--format", "json").err)["error"]
    assert error["code"] == "ambiguous_client"
    assert all(identifier in error["hint"] for identifier in office)


def test_a_new_client_with_the_email_of_others_is_noted(office: list[str], egec: Egec) -> None:
    ended = egec("client", "create", OFFICE, "--reference", "D-4")
    assert ended.code == 0
    assert ended.err == f"egec: other clients have this e-mail too: {', '.join(office)}\n"


def test_a_run_mails_each_client_and_names_it(office: list[str], egec: Egec, server: MailServer) -> None:
    ended = egec("reissue", "start", "all", "--all", "--yes")
    assert ended.code == 0, ended
    received = letters(server)
    assert {one.identifier for one in received} == set(office)
    assert all(map(opens, received))
    by_identifier = {one.identifier: mail.content for one, mail in zip(received, server.accepted, strict=True)}
    for number, identifier in enumerate(office, 1):
        assert f"D-{number}".encode() in by_identifier[identifier]


def test_switched_off_again_only_what_resolves_it_works(
    office: list[str], egec: Egec, egec_process: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = egec("activate", office[0], "--no-mail", "--show-password").out.split()
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "no")
    table = "clients.csv"
    with open(table, "w", encoding="utf-8") as file:
        file.write("email\nnew@example.org\n")
    refused = [
        ("client", "create", "new@example.org"),
        ("client", "import", table),
        ("activate", office[0]),
        ("activate", OFFICE),
        ("activate", office[0], "--no-mail", "--show-password"),
        ("reissue", "start", "all", "--all", "--yes"),
        ("reissue", "start", "all", "--all", "--dry-run"),
        ("doctor",),
    ]
    for arguments in refused:
        ended = egec(*arguments)
        assert ended.code == 78, (arguments, ended)
        said = ended.out + ended.err
        assert all(word in said for word in (OFFICE, *office)), (arguments, ended)
    for disclosed in ("yes", "no"):
        ended = egec_process("activate", "--stdin", stdin=OFFICE, env={"EGEC_REQUEST_DISCLOSES": disclosed})
        assert ended.code == 78
        assert OFFICE not in ended.err
    assert server.accepted == []
    assert egec_process("verify", shown[0], "--password-stdin", stdin=shown[1]).code == 0
    for allowed in (
        ("client", "list"),
        ("client", "export"),
        ("client", "show", office[0]),
        ("client", "disable", office[0], "--reason", "left"),
        ("client", "update", office[1], "--email", "second@example.org", "--no-mail"),
        ("client", "erase", office[2], "--yes"),
    ):
        assert egec(*allowed).code == 0, allowed
    assert egec("activate", office[1]).code == 0


def test_a_portal_answers_after_the_first_mail_and_the_others_follow(
    office: list[str], egec_process: Egec, server: MailServer
) -> None:
    ended = egec_process("activate", "--stdin", stdin=OFFICE)
    assert (ended.code, ended.out, ended.err) == (0, SENT, "")
    wait_until(lambda: len(server.accepted) == 3)
    again = egec_process("activate", "--stdin", stdin=OFFICE)
    assert (again.code, again.out) == (0, SENT)
    received = letters(server)
    assert [one.identifier for one in received] == office
    assert all(map(opens, received))


NO_PROCESS = replace(os, "fork", partial(children.fail_with_system_error, 11, "no room", ""))


def test_a_portal_that_cannot_start_a_process_still_mails_each_client(office: list[str], server: MailServer) -> None:
    ended = run_with([NO_PROCESS], "activate", "--stdin", stdin=OFFICE)
    assert (ended.code, ended.out) == (0, SENT)
    assert [one.identifier for one in letters(server)] == office


def test_a_failure_after_the_first_mail_does_not_change_the_answer(office: list[str], server: MailServer) -> None:
    failing = replace(activate_request, "_mail_rest", partial(children.fail_with, "no database"))
    ended = run_with([NO_PROCESS, failing], "activate", "--stdin", stdin=OFFICE)
    assert (ended.code, ended.out) == (0, SENT)
    assert [one.identifier for one in letters(server)] == office[:1]


def test_a_portal_that_hides_clients_gets_one_answer_for_any_number_of_them(
    office: list[str], egec: Egec, egec_process: Egec, server: MailServer
) -> None:
    egec("client", "create", JEANNE)
    answers = {
        egec_process("activate", "--stdin", stdin=email, env={"EGEC_REQUEST_DISCLOSES": "no"})
        for email in (OFFICE, JEANNE, "nobody@example.org")
    }
    assert answers == {(0, SENT, "")}
    wait_until(lambda: len(server.accepted) == 4)
    assert {one.identifier for one in letters(server)} > set(office)


def test_the_doctor_counts_shared_emails(office: list[str], egec: Egec) -> None:
    ended = egec("doctor", "--format", "json")
    found = {one["check"]: one for one in json.loads(ended.out)}
    assert found["shared_emails"]["verdict"] == "ok"


def test_of_many_clients_with_one_email_ten_are_named(
    location: Database, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    rows = "".join(f"{OFFICE},{1_000_000_000 + number}\n" for number in range(1200))
    Path("office.csv").write_text(f"email,identifier\n{rows}")
    assert egec("client", "import", "office.csv").code == 0
    first_ten = ", ".join(str(1_000_000_000 + number) for number in range(10))
    created = egec("client", "create", OFFICE, "--reference", "D-1")
    assert created.err == f"egec: other clients have this e-mail too: {first_ten} and 1,190 more\n"
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "no")
    named = f"{first_ten} and 1,191 more"
    [found] = [
        one["details"] for one in json.loads(egec("doctor", "--format", "json").out) if one["check"] == "shared_emails"
    ]
    assert found == f"clients share the e-mail {OFFICE} although EGEC_SHARED_EMAIL is no: {named}"
    assert f"  {OFFICE}: {named}\n" in egec("client", "create", "new@example.org").err


def test_the_doctor_names_each_shared_email_on_a_line_of_its_own(
    office: list[str], egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails = [f"team{number:02}@example.org" for number in range(11)]
    for email in emails:
        for one in range(2):
            assert egec("client", "create", email, "--reference", f"{email}-{one}").code == 0
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "no")
    ended = egec("doctor", "--fields", "check,details")
    assert ended.code == 78
    details = [line.split(None, 1)[1] for line in ended.out.splitlines() if line.startswith("shared_emails")]
    assert len(details) == 11
    assert details[0] == f"clients share the e-mail {OFFICE} although EGEC_SHARED_EMAIL is no: {', '.join(office)}"
    assert [line.split()[4] for line in details[1:10]] == emails[:9]
    assert details[10] == "2 more e-mails are shared"
    assert "?" not in "".join(details)
    found = [one for one in json.loads(egec("doctor", "--format", "json").out) if one["check"] == "shared_emails"]
    assert {one["verdict"] for one in found} == {"error"}
    assert not any("\n" in one["details"] for one in found)
