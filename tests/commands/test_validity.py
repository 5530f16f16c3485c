"""Validity dates on the command line: set, shown, exported, and enforced by every command that checks an account."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from egec_cli import api
from egec_cli.errors import InvalidInput
from tests.conftest import Egec
from tests.screens.emulator import PROGRAM, see
from tests.smtp_server import MailServer

PAST, FUTURE = ("--valid-until", "2020-12-31"), ("--valid-from", "2099-01-01")
REFUSED = "Identifiant et/ou m-d-p non reconnu(s)"


@pytest.fixture
def account(egec: Egec) -> tuple[str, str]:
    """Return the identifier and the password of a client."""
    egec("client", "create", "jeanne@example.org", "--identifier", "5079512743", "--last-name", "Dupont")
    shown = egec("activate", "5079512743", "--no-mail", "--show-password", "--format", "json")
    return "5079512743", str(json.loads(shown.out)["password"])


def error_of(ended: object) -> str:
    return str(json.loads(ended.err)["error"]["code"])  # type: ignore[attr-defined] # what a command printed


def test_dates_are_set_changed_and_cleared(egec: Egec) -> None:
    made = egec("client", "create", "a@example.org", "--valid-from", "2026-01-31", "--format", "json")
    record = json.loads(made.out)
    assert (record["valid_from"], record["valid_until"]) == ("2026-01-31", None)
    identifier = record["identifier"]
    for given, expected in (
        (("--valid-until", " 2027-06-30"), ("2026-01-31", "2027-06-30")),
        (("--last-name", "Petit"), ("2026-01-31", "2027-06-30")),
        (("--valid-from", ""), (None, "2027-06-30")),
        (("--valid-from", "2027-06-30"), ("2027-06-30", "2027-06-30")),
        (("--valid-from", "", "--valid-until", ""), (None, None)),
    ):
        record = json.loads(egec("client", "update", identifier, *given, "--format", "json").out)
        assert (record["valid_from"], record["valid_until"]) == expected
    events = json.loads(egec("audit", "list", "--action", "client.update", "--format", "json").out)
    assert [event["details"]["fields"] for event in events] == [
        ["valid_until"], ["last_name"], ["valid_from"], ["valid_from"], ["valid_from", "valid_until"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--valid-from", "2026-02-30"), "invalid date: '2026-02-30'"),
        (("--valid-until", "31/12/2026"), "invalid date: '31/12/2026'"),
        (("--valid-from", "2026-02-01", "--valid-until", "2026-01-31"), "the validity ends on 2026-01-31, before it"),
    ],
)
def test_impossible_dates_are_refused_and_nothing_changes(egec: Egec, given: tuple[str, ...], words: str) -> None:
    egec("init")
    created = egec("client", "create", "a@example.org", *given)
    assert (created.code, words in created.err) == (65, True)
    assert egec("client", "show", "a@example.org").code == 67
    egec("client", "create", "a@example.org", "--valid-from", "2026-03-01", "--valid-until", "2026-04-30")
    before = egec("client", "show", "a@example.org", "--format", "json").out
    for wrong in (given, ("--valid-from", "2026-05-01"), ("--valid-until", "2026-02-28")):
        assert egec("client", "update", "a@example.org", *wrong).code == 65
    assert egec("client", "show", "a@example.org", "--format", "json").out == before


def test_an_existing_client_with_other_dates_is_reported(egec: Egec) -> None:
    egec("client", "create", "a@example.org", "--valid-until", "2026-12-31")
    ended = egec("client", "create", "a@example.org", "--if-missing", "--valid-until", "2027-12-31")
    assert ended.code == 0
    assert "a different valid_until: '2027-12-31' given, '2026-12-31' stored" in ended.err


@pytest.mark.parametrize("outside", [PAST, FUTURE])
def test_every_form_of_verify_refuses_an_inactive_account_like_a_wrong_password(
    egec: Egec, egec_process: Egec, account: tuple[str, str], tmp_path: Path, outside: tuple[str, str]
) -> None:
    identifier, password = account
    logins = tmp_path / "logins.csv"
    logins.write_text(f"{identifier};{password}\n")

    def forms(clear: str) -> list[tuple[int, str, str]]:
        # A failure counts, so the account must not begin to wait.
        egec("client", "unblock", identifier)
        logins.write_text(f"{identifier};{clear}\n")
        return [
            egec_process("verify", "--stdin", stdin=f"{identifier}\n{clear}\n"),
            egec_process("verify", identifier, "--password-stdin", stdin=f"{clear}\n"),
            egec_process("verify", "--pam", stdin=clear, env={"PAM_USER": identifier}),
            egec_process("verify", "--batch", str(logins), "--format", "json"),
        ]

    assert [ended[0] for ended in forms(password)] == [0, 0, 0, 0]
    egec("client", "update", identifier, *outside)
    refused = forms(password)
    assert [ended[0] for ended in refused] == [1, 1, 1, 3]
    assert REFUSED in refused[0][1]
    assert refused == forms("wrong")
    egec("client", "unblock", identifier)
    read, write = os.pipe()
    os.write(write, f"{identifier}\0{password}\0x\0".encode())
    os.close(write)
    assert checkpassword(read) == 1
    with api.open_context() as context:
        assert not api.verify_login(context, identifier, password)
        assert api.find_client(context, identifier).status == "inactive"
    assert egec("client", "export", "--format", "htpasswd").out == ""
    egec("client", "update", identifier, "--valid-from", "", "--valid-until", "")
    assert egec("client", "export", "--format", "htpasswd").out.startswith(f"{identifier}:$2b$")
    assert [ended[0] for ended in forms(password)] == [0, 0, 0, 0]


def checkpassword(read: int) -> int:
    """Run `egec verify --checkpassword true` with this descriptor as number 3, and return its exit code."""
    child = os.fork()
    if not child:
        os.dup2(read, 3)
        os.execv(sys.executable, [sys.executable, "-m", "egec_cli", "verify", "--checkpassword", "/bin/true"])
    os.close(read)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("outside", "reason"), [(PAST, "no_longer_valid"), (FUTURE, "not_yet_valid")])
def test_explain_and_show_say_why_and_which_command_helps(
    egec: Egec, egec_process: Egec, account: tuple[str, str], outside: tuple[str, str], reason: str
) -> None:
    identifier, password = account
    egec("client", "update", identifier, *outside)
    ended = egec_process("verify", "--stdin", "--explain", "--format", "json", stdin=f"{identifier}\n{password}\n")
    explained = json.loads(ended.out)
    assert (ended.code, explained["reason"]) == (1, reason)
    assert outside[1] in explained["hint"]
    record = json.loads(egec("client", "show", identifier, "--format", "json").out)
    assert (record["status"], record[outside[0][2:].replace("-", "_")]) == ("inactive", outside[1])
    seen = see([*PROGRAM, "client", "show", identifier])
    assert f"{outside[0][2:].replace('-', ' ')}  {outside[1]}" in " ".join(seen.text.split()).replace(
        f" {outside[1]}", f"  {outside[1]}"
    )
    assert f"inactive: not valid {'after' if outside == PAST else 'before'} {outside[1]}" in seen.text
    assert seen.lines[-1] == f"Next: egec client update {identifier} {outside[0]} DATE"
    changed = see([*PROGRAM, "client", "update", identifier, outside[0], ""])
    assert f"{outside[1]} → (empty)" in changed.text


@pytest.mark.parametrize("outside", [PAST, FUTURE])
def test_every_way_to_activate_declines_an_inactive_client(
    egec: Egec, egec_process: Egec, server: MailServer, account: tuple[str, str], outside: tuple[str, str]
) -> None:
    identifier, _ = account
    egec("client", "update", identifier, *outside)
    for arguments in (
        (identifier,), (identifier, "--revoke"), (identifier, "--no-mail", "--show-password"), ("jeanne@example.org",)
    ):  # fmt: skip
        ended = egec("activate", *arguments, "--format", "json")
        assert (ended.code, error_of(ended), ended.out) == (77, "client_inactive", "")
    asked = egec_process("activate", "--stdin", "--format", "json", stdin="jeanne@example.org\n")
    answer = json.loads(asked.out)
    assert (asked.code, answer["answer"], answer["reason"]) == (77, "not_recognised", "client_inactive")
    unknown = egec_process("activate", "--stdin", stdin="nobody@example.org\n")
    assert egec_process("activate", "--stdin", stdin="jeanne@example.org\n").out == unknown.out
    assert REFUSED in unknown.out
    with api.open_context() as context, pytest.raises(api.PermissionDenied, match="inactive") as refused:
        api.issue_by_mail(context, identifier)
    assert refused.value.code == "client_inactive"
    assert server.accepted == []


def test_a_run_leaves_inactive_clients_out_and_reports_those_that_a_file_names(
    egec: Egec, server: MailServer, tmp_path: Path
) -> None:
    for email, outside in (("a@example.org", PAST), ("b@example.org", FUTURE), ("c@example.org", ())):
        egec("client", "create", email, *outside)
    assert egec("reissue", "start", "all", "--all", "--yes").code == 0
    assert [letter.recipient for letter in server.accepted] == ["c@example.org"]
    names = tmp_path / "names.txt"
    names.write_text("a@example.org\nb@example.org\n")
    assert egec("reissue", "start", "named", "--from", str(names), "--yes").code == 3
    failed = json.loads(egec("reissue", "status", "named", "--failed", "--format", "json").out)
    assert [one["failure"] for one in failed] == ["client_inactive"] * 2
    assert egec("reissue", "start", "x", "--status", "inactive", "--yes").code == 2
    assert len(server.accepted) == 1


def test_a_client_is_not_created_with_a_password_that_would_be_refused_today(egec: Egec, server: MailServer) -> None:
    egec("init")
    for outside in (PAST, FUTURE):
        ended = egec("client", "create", "a@example.org", *outside, "--activate")
        assert (ended.code, "the account is not valid today" in ended.err) == (2, True)
    assert egec("client", "show", "a@example.org").code == 67
    valid = ("--valid-from", "2020-01-01", "--valid-until", "2099-12-31")
    assert egec("client", "create", "a@example.org", *valid, "--activate").code == 0
    assert len(server.accepted) == 1


def test_an_export_is_imported_with_its_dates(egec: Egec, tmp_path: Path) -> None:
    egec("client", "create", "a@example.org", "--valid-from", "2026-01-31", "--valid-until", "2027-06-30")
    egec("client", "create", "b@example.org", "--valid-until", "2020-12-31")
    for format_name in ("csv", "jsonl"):
        exported = tmp_path / f"clients.{format_name}"
        assert egec("client", "export", "--output", str(exported), "--format", format_name).code == 0
        os.environ["EGEC_DATABASE_URL"] = f"sqlite:///{tmp_path}/{format_name}.db"
        try:
            egec("init")
            assert egec("client", "import", str(exported)).code == 0
            rows = list(csv.DictReader(io.StringIO(egec("client", "export").out)))
            assert [(row["valid_from"], row["valid_until"]) for row in rows] == [
                ("2026-01-31", "2027-06-30"), ("", "2020-12-31")
            ]  # fmt: skip
        finally:
            del os.environ["EGEC_DATABASE_URL"]


def test_lists_and_statistics_know_the_status(egec: Egec) -> None:
    egec("client", "create", "a@example.org", *PAST)
    egec("client", "create", "b@example.org", *FUTURE)
    egec("client", "create", "c@example.org")
    listed = json.loads(egec("client", "list", "--format", "json").out)
    assert [one["status"] for one in listed] == ["inactive", "inactive", "new"]
    found = json.loads(egec("client", "list", "--status", "inactive", "--format", "json").out)
    assert found == listed[:2]
    metrics = egec("stats", "--format", "openmetrics").out
    assert 'egec_clients{status="inactive"} 2' in metrics
    assert 'egec_clients{status="new"} 1' in metrics


def test_a_program_creates_clients_with_dates(egec: Egec) -> None:
    with api.open_context(create=True) as context:
        made = api.create_client(context, "a@example.org", valid_from="2020-01-01", valid_until="2020-12-31")
        assert (made.status, made.valid_from, made.valid_until) == ("inactive", "2020-01-01", "2020-12-31")
        with pytest.raises(InvalidInput):
            api.create_client(context, "b@example.org", valid_from="soon")


def test_the_zone_of_the_settings_decides_which_day_it_is(
    egec: Egec, egec_process: Egec, account: tuple[str, str], day_of: Callable[[str], str]
) -> None:
    """The first zone is always a day ahead of the last one."""
    identifier, password = account
    ahead, behind = "Pacific/Kiritimati", "Pacific/Pago_Pago"
    egec("client", "update", identifier, "--valid-from", day_of(ahead), "--valid-until", day_of(ahead))
    codes = [
        egec_process("verify", "--stdin", stdin=f"{identifier}\n{password}\n", env={"EGEC_TIMEZONE": zone}).code
        for zone in (ahead, behind)
    ]
    assert codes == [0, 1]


@pytest.fixture
def day_of() -> Callable[[str], str]:
    """Return a function that returns the present day in a time zone."""
    return lambda zone: datetime.now(ZoneInfo(zone)).date().isoformat()
