"""`egec reissue` as scripts, cron and operators use it."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from egec_cli import clock
from egec_cli.commands import reissue
from egec_cli.context import Context
from egec_cli.output import progress
from egec_cli.reissue import threads
from egec_cli.settings.types import Database, SqliteFile
from tests.activations import PATIENCE, letters, wait_until
from tests.conftest import Egec
from tests.processes import egec_after, replace
from tests.programs import require_program
from tests.smtp_server import Fault, MailServer, Point

PROGRAM = [sys.executable, "-m", "egec_cli"]
# The program, which shows its progress at once, not after a second.
WITH_PROGRESS = egec_after(replace(progress, "PATIENCE", 0.0))


@pytest.fixture
def people(egec: Egec) -> list[str]:
    """Create three clients and return their identifiers."""
    return [
        egec("client", "create", f"c{n}@example.org", "--reference", f"D-{n}", "--format", "ids").out.strip()
        for n in range(3)
    ]


def summary(mailed: int, *, name: str = "spring", unknown: str = "") -> list[str]:
    """Return the lines at the end of a run of which one client is refused."""
    return [
        f"{name}: {mailed} mailed, 1 refused{unknown} (exit 3)",
        "  1 \N{MULTIPLICATION SIGN} 550 No such recipient",
        f"Next: egec reissue status {name} --failed",
    ]


def run_of(out: str) -> dict[str, object]:
    run = json.loads(out)
    assert list(run) == [
        "name", "state", "total", "accepted", "failed", "skipped", "remaining", "deferred", "rate", "throttled_rate",
        "throttled_by", "waits_because", "next_attempt_at", "created_at", "finished_at", "selection",
    ]  # fmt: skip
    return {name: run[name] for name in ("name", "state", "total", "accepted", "failed", "remaining")}


def test_a_run_mails_all_clients_and_prints_a_summary(egec: Egec, server: MailServer, people: list[str]) -> None:
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert ended.code == 0
    assert run_of(ended.out) == {
        "name": "spring", "state": "done", "total": 3, "accepted": 3, "failed": 0, "remaining": 0,
    }  # fmt: skip
    assert ended.err == ""
    again = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert (again.code, again.out) == (0, ended.out)
    assert sorted(letter.identifier for letter in letters(server)) == sorted(people)


def test_jsonl_reports_each_client_once(egec: Egec, server: MailServer, people: list[str], tmp_path: Path) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c1@example.org")
    (tmp_path / "list.txt").write_text(f"\ufeffC0@Example.org\r\n\r\nD-1\r\nnobody@example.org\r\n{people[2]}\r\n")
    ended = egec("reissue", "start", "spring", "--from", "list.txt", "--yes", "--format", "jsonl")
    assert ended.code == 3
    events = sorted(map(json.loads, ended.out.splitlines()), key=lambda event: event["line"])
    assert events == [
        {"identifier": people[0], "email": "c0@example.org", "line": 1, "outcome": "accepted",
         "failure": None, "details": None, "attempts": 1},
        {"identifier": people[1], "email": "c1@example.org", "line": 3, "outcome": "failed",
         "failure": "mail_refused", "details": "550 No such recipient", "attempts": 1},
        {"identifier": people[2], "email": "c2@example.org", "line": 5, "outcome": "accepted",
         "failure": None, "details": None, "attempts": 1},
    ]  # fmt: skip
    assert ended.err.splitlines() == [
        "egec: list.txt:4: unknown client 'nobody@example.org'", *summary(2, unknown=", 1 line unknown"),
    ]  # fmt: skip


def test_the_table_shows_the_failures_and_the_summary_of_the_run(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c1@example.org")
    ended = egec("reissue", "start", "spring", "--all", "--yes")
    assert ended.code == 3
    assert f"egec: client {people[1]} (c1@example.org) failed: mail_refused: 550 No such recipient\n" in ended.err
    assert "egec: spring: 3 of 3 done, 1 failed" in ended.err
    assert run_of(egec("reissue", "status", "spring", "--format", "json").out)["failed"] == 1
    assert "\nfailed           1\nskipped          0\nremaining        0\n" in ended.out
    assert ended.err.splitlines()[-3:] == summary(2)
    listed = egec("reissue", "status", "spring", "--failed", "--format", "jsonl")
    assert [json.loads(line)["identifier"] for line in listed.out.splitlines()] == [people[1]]
    server.work_again()
    assert egec("reissue", "retry", "spring").code == 0


def test_without_a_terminal_and_without_yes_nothing_is_started(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    ended = egec("reissue", "start", "spring", "--all")
    assert ended.code == 2
    assert "Add --yes to skip it; nothing was changed." in ended.err
    assert egec("reissue", "status").out.splitlines()[1:] == []
    assert server.accepted == []


def shown_on(controller: int) -> bytes:
    """Return what a terminal shows until its programs have ended, and close it."""
    shown = b""
    # Linux reports the end of a terminal as an error.
    with suppress(OSError):
        while piece := os.read(controller, 1000):
            shown += piece
    os.close(controller)
    return shown


def shown_until(controller: int, end: bytes) -> bytes:
    """Return what a terminal shows until this."""
    shown = b""
    while end not in shown:
        shown += os.read(controller, 1000)
    return shown


@pytest.mark.parametrize(("answer", "mails"), [(b"n\n", 0), (b"y\n", 3)])
def test_at_a_terminal_the_operator_must_confirm(
    server: MailServer, people: list[str], answer: bytes, mails: int
) -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*WITH_PROGRESS, "reissue", "start", "spring", "--all"], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        assert b"Mail first passwords to 3 clients? [y/N]" in shown_until(controller, b"[y/N]")
        os.write(controller, answer)
        shown = shown_on(controller)
        process.wait(30)
    assert len(server.accepted) == mails
    assert process.returncode == (0 if mails else 1)
    assert (b"3/3" in shown) == bool(mails)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--yes"], 2, "no client is selected"),
        (["--all", "--expect", "4", "--yes"], 65, "3 clients are selected, not 4"),
        (["--from", "nowhere.txt", "--yes"], 74, "nowhere.txt: no such file or folder"),
        (["--from", "-", "--exclude", "-", "--yes"], 2, "standard input can be read only once"),
        (["--all", "--column", "email", "--yes"], 2, "--column needs --from or --exclude"),
        (["--status", "disabled", "--yes"], 2, "disabled clients get no mail"),
        (["--issued-before", "yesterday", "--yes"], 2, "invalid date or age"),
        (["--all", "--limit", "0", "--yes"], 2, "--limit"),
        (["--all", "--rate", "-1", "--yes"], 2, "--rate"),
        (["--all", "--rate", "30/min,40/min", "--yes"], 2, "--rate has two quotas per min"),
        (["--all", "--dry-run", "--expect", "4"], 65, "3 clients are selected, not 4"),
    ],
)
def test_a_start_that_is_refused_is_reported_and_changes_nothing(
    egec: Egec, server: MailServer, people: list[str], arguments: list[str], code: int, told: str
) -> None:
    ended = egec("reissue", "start", "spring", *arguments)
    assert ended.code == code
    assert told in ended.err
    assert egec("reissue", "status", "--format", "jsonl").out == ""
    assert server.accepted == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_an_invalid_name_is_refused(egec: Egec, server: MailServer, people: list[str], name: str) -> None:
    assert egec("reissue", "start", name, "--all", "--yes").code == 65
    assert server.accepted == []


@pytest.mark.parametrize("command", ["resume", "status", "retry", "cancel"])
def test_an_unknown_run_is_reported(egec: Egec, people: list[str], command: str) -> None:
    confirmed = ("--yes",) if command == "cancel" else ()
    ended = egec("reissue", command, "summer", "--format", "json", *confirmed)
    assert ended.code == 65
    assert json.loads(ended.err)["error"]["code"] == "unknown_run"


def test_a_used_name_with_different_selectors_is_refused(egec: Egec, server: MailServer, people: list[str]) -> None:
    egec("reissue", "start", "spring", "--all", "--yes")
    ended = egec("reissue", "start", "spring", "--all", "--limit", "1", "--yes", "--format", "json")
    assert ended.code == 73
    assert json.loads(ended.err)["error"]["code"] == "run_exists"


def test_a_dry_run_shows_the_numbers_and_a_sample_and_changes_nothing(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    ended = egec("reissue", "start", "spring", "--all", "--limit", "2", "--dry-run", "--rate", "1")
    assert (ended.code, ended.err) == (0, "egec: nothing was started\n")
    lines = ended.out.splitlines()
    assert lines[0] == "A client who has never had a password would read, with another password:"
    assert {"Subject: Votre identifiant et votre mot de passe eGEC", "fG69a*6jH"} <= set(lines)
    numbers = lines[lines.index("spring: 2 clients") + 1 :]
    assert [re.sub(r"\d+ ms", "1 ms", line) for line in numbers] == [
        "  First passwords  2",
        "  Replacements     0",
        f"  Mail server      127.0.0.1:{server.port}, answers within 1 ms",
        "  Sender           eGEC <ne-pas-repondre@egec.pro>",
        "  Rate             1/s",
        "  Duration         about 2 s (a hash takes 1 ms)",
    ]
    assert not any(client in ended.out for client in people)
    assert egec("reissue", "status", "--format", "jsonl").out == ""
    assert server.accepted == []


def test_a_dry_run_shows_the_mail_that_most_clients_get(egec: Egec, server: MailServer, people: list[str]) -> None:
    def subjects() -> list[str]:
        shown = egec("reissue", "start", "spring", "--all", "--dry-run").out.splitlines()
        return [line for line in shown if line.startswith("Subject:")]

    egec("activate", people[1])
    assert subjects() == ["Subject: Votre identifiant et votre mot de passe eGEC"]
    egec("activate", people[2])
    assert subjects() == ["Subject: Votre nouveau mot de passe eGEC"]


def test_a_dry_run_lists_the_clients_with_list_or_in_a_machine_format(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    egec("activate", people[1])
    dry_run = ("reissue", "start", "spring", "--all", "--dry-run")
    expected = [(people[0], "credentials"), (people[1], "reissue"), (people[2], "credentials")]
    table = egec(*dry_run, "--list").out.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in table] == [("identifier", "mail"), *expected]
    for options in ([], ["--list"]):
        listed = egec(*dry_run, "--format", "json", *options)
        assert [(one["identifier"], one["mail"]) for one in json.loads(listed.out)] == expected
        assert "  First passwords  2\n  Replacements     1\n" in listed.err
        assert egec(*dry_run, "--format", "ids", *options).out.split() == people
    assert len(server.accepted) == 1


@pytest.mark.parametrize("command", [("start", "--all", "--yes"), ("resume",), ("retry",)])
def test_a_list_without_a_dry_run_is_refused(egec: Egec, people: list[str], command: tuple[str, ...]) -> None:
    ended = egec("reissue", command[0], "spring", *command[1:], "--list")
    assert ended.code == 2
    assert "--list needs --dry-run" in ended.err


def test_a_dry_run_counts_unknown_lines(egec: Egec, server: MailServer, people: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{people[0]}\nnobody@example.org\n")
    ended = egec("reissue", "start", "spring", "--from", "list.txt", "--dry-run")
    assert ended.code == 3
    assert "egec: list.txt:2: unknown client 'nobody@example.org'" in ended.err
    assert "  Unknown lines    1\n" in ended.out


def test_a_dry_run_reports_an_unavailable_mail_server(egec: Egec, server: MailServer, people: list[str]) -> None:
    server.stop()
    ended = egec("reissue", "start", "spring", "--all", "--dry-run")
    assert ended.code == 0
    assert "no mail can be sent at present: the mail server" in ended.out


@pytest.mark.usefixtures("paused")
def test_a_dry_run_of_resume_and_of_retry_shows_whom_they_would_mail(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    dry_run = ("spring", "--dry-run", "--format", "ids")
    assert egec("reissue", "resume", *dry_run).out.split() == people[1:]
    assert egec("reissue", "retry", *dry_run).out.split() == people
    shown = egec("reissue", "retry", "spring", "--dry-run", "--rate", "7")
    assert "spring: 3 clients\n  The run spring already exists. State: paused; clients left: 2 of 3; failed: 1.\n" in (
        shown.out
    )
    assert "  Rate             7/s\n" in shown.out
    assert run_of(egec("reissue", "status", "spring", "--format", "json").out)["failed"] == 1
    assert server.accepted == []


def test_status_lists_all_runs(egec: Egec, server: MailServer, people: list[str]) -> None:
    egec("reissue", "start", "one", "--all", "--yes")
    egec("reissue", "start", "two", "--status", "blocked", "--yes")
    listed = egec("reissue", "status", "--format", "jsonl", "--fields", "name,state,total").out
    assert [json.loads(line) for line in listed.splitlines()] == [
        {"name": "one", "state": "done", "total": 3},
        {"name": "two", "state": "done", "total": 0},
    ]


def test_an_unavailable_server_ends_with_75_and_resume_continues(
    egec: Egec, server: MailServer, people: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.01)
    server.stop()
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert ended.code == 75
    error = json.loads(ended.err)["error"]
    assert error["code"] == "mail_server_unavailable"
    assert error["hint"] == "The run is paused and nothing is lost. Later: egec reissue resume spring"
    assert run_of(egec("reissue", "status", "spring", "--format", "json").out)["state"] == "paused"
    server.start()
    assert run_of(egec("reissue", "resume", "spring", "--format", "json").out)["accepted"] == 3


def test_a_format_for_lists_is_refused_before_a_run_is_cancelled(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    server.fail_always(Fault.RCPT_451, recipient="c1@example.org")
    egec("reissue", "start", "spring", "--all", "--yes", "--wait", "0")
    assert egec("reissue", "cancel", "spring", "--yes", "--format", "count").code == 2
    assert run_of(egec("reissue", "status", "spring", "--format", "json").out)["state"] == "paused"


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_what_a_run_has_come_to_is_left_out_if_the_database_is_gone(opened: Context) -> None:
    assert isinstance(opened.settings.database, SqliteFile)
    opened.database.close()
    opened.settings.database.path.unlink()
    opened.settings.database.path.mkdir()
    shown: list[str] = []
    reissue._show_if_possible(opened, lambda: shown.append("shown"))
    assert shown == []


@pytest.mark.usefixtures("paused")
def test_a_run_is_cancelled_only_if_that_is_confirmed(egec: Egec) -> None:
    ended = egec("reissue", "cancel", "spring")
    assert ended.code == 2
    assert "Add --yes to skip it; nothing was changed." in ended.err
    for answer, code, state in ((b"n\n", 1, "paused"), (b"y\n", 0, "cancelled")):
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*PROGRAM, "reissue", "cancel", "spring"], stdin=terminal, stdout=subprocess.DEVNULL, stderr=terminal
        ) as process:
            os.close(terminal)
            asked = shown_until(controller, b"[y/N]")
            os.write(controller, answer)
            shown_on(controller)
            process.wait(PATIENCE)
        assert b"Permanently cancel the run spring, with 2 clients not mailed yet?" in asked
        assert process.returncode == code
        assert run_of(egec("reissue", "status", "spring", "--format", "json").out)["state"] == state


def test_in_french_zero_takes_the_singular(egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    egec("client", "create", "c0@example.org")
    server.fail_always(Fault.RCPT_550)
    ended = egec("reissue", "start", "spring", "--all", "--yes")
    assert "\nspring\u00a0: 0 envoyé, 1 refusé (code 3)\n" in ended.err
    shown = egec("reissue", "start", "summer", "--all", "--never-logged-in", "--limit", "1", "--expect", "0", "--yes")
    assert "1 client sélectionné, et non 0 comme prévu" in shown.err


def test_a_run_that_was_cancelled_is_not_resumed(egec: Egec, server: MailServer, people: list[str]) -> None:
    egec("reissue", "start", "spring", "--all", "--yes", "--limit", "1")
    assert egec("reissue", "cancel", "spring", "--yes").code == 77
    server.stop()
    egec("reissue", "start", "summer", "--from", "nowhere", "--yes")
    assert egec("reissue", "cancel", "summer").code == 65
    assert egec("reissue", "cancel", "summer", "--yes").code == 65


def test_a_reader_that_ends_stops_the_run_in_good_order(egec: Egec, server: MailServer, people: list[str]) -> None:
    command = f"{' '.join(PROGRAM)} reissue start spring --all --yes --format jsonl | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run([require_program("bash"), "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["141"]
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 0
    assert len({letter.identifier for letter in letters(server)}) == len(server.accepted) == 3


@pytest.fixture
def paused(egec: Egec, server: MailServer, people: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the run `spring` paused, with one of three clients failed and two remaining."""
    monkeypatch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.1)
    # The clients are mailed in their order.
    monkeypatch.setenv("EGEC_WORKERS", "1")
    server.fail_always(Fault.RCPT_550, recipient="c0@example.org")
    has_begun = Event()

    def shut_down() -> None:
        if not has_begun.is_set():
            has_begun.set()
            server.fail_always(Fault.MAIL_421)

    server.at(Point.RCPT, shut_down)
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 75
    assert run_of(egec("reissue", "status", "spring", "--format", "json").out) == {
        "name": "spring", "state": "paused", "total": 3, "accepted": 0, "failed": 1, "remaining": 2,
    }  # fmt: skip
    server.work_again()


@pytest.mark.usefixtures("paused")
def test_the_last_line_of_a_resumed_run_agrees_with_its_summary(egec: Egec) -> None:
    ended = egec("reissue", "resume", "spring")
    assert ended.code == 3
    assert "egec: spring: 3 of 3 done, 1 failed, " in ended.err
    assert "\naccepted         2\nfailed           1\nskipped          0\nremaining        0\n" in ended.out


@pytest.mark.usefixtures("paused")
def test_the_progress_bar_of_a_resumed_run_agrees_with_its_summary() -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*WITH_PROGRESS, "reissue", "resume", "spring"], stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = shown_on(controller)
        out, _ = process.communicate(timeout=PATIENCE)
    assert b"failed           1\n" in out
    assert b"3/3" in shown
    assert b"1 failed" in shown
    assert b"0 failed" not in shown


def test_workers_that_share_a_run_print_the_summary_of_the_whole_run(
    location: Database, egec: Egec, server: MailServer
) -> None:
    for number in range(30):
        egec("client", "create", f"c{number}@example.org")
    server.fail_always(Fault.RCPT_550, recipient="c7@example.org")
    server.at(Point.KEPT, lambda: time.sleep(0.2))
    command = [*PROGRAM, "reissue", "start", "spring", "--all", "--yes"]
    workers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [worker.communicate(timeout=PATIENCE)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [3, 3]
    assert all(err.splitlines()[-3:] == summary(29) for err in errors)


ODD_NAME = "odd name; rm -rf /"


def test_a_hint_quotes_the_name_of_a_run_for_a_shell(egec: Egec, server: MailServer, people: list[str]) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c1@example.org")
    ended = egec("reissue", "start", ODD_NAME, "--all", "--yes", "--format", "jsonl")
    assert ended.err.endswith("Next: egec reissue status 'odd name; rm -rf /' --failed\n")
    other = egec("reissue", "start", ODD_NAME, "--all", "--limit", "1", "--yes")
    assert "type `egec reissue resume 'odd name; rm -rf /'` to continue" in other.err


@pytest.mark.usefixtures("paused")
def test_an_existing_run_is_reported_with_the_selectors_that_started_it(egec: Egec, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("nom;courriel\nx;c0@example.org\n")
    told = egec("reissue", "start", "spring", "--all", "--limit", "1", "--yes").err
    assert "the run spring was started with different selectors: --all\n" in told
    egec("reissue", "start", "listed", "--from", "list.csv", "--column", "courriel", "--never-logged-in", "--yes")
    told = egec("reissue", "start", "listed", "--all", "--yes").err
    assert "different selectors: --from FILE --never-logged-in --column courriel\n" in told


@pytest.mark.usefixtures("paused")
def test_a_dry_run_of_an_existing_run_shows_its_remaining_clients(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    ended = egec("reissue", "start", "spring", "--all", "--dry-run", "--expect", "3", "--format", "ids")
    assert ended.code == 0
    assert ended.out.split() == people[1:]
    assert "spring: 2 clients\n  The run spring already exists. State: paused; clients left: 2 of 3; failed: 1.\n" in (
        ended.err
    )
    assert "  Duration         less than a second (a hash takes " in ended.err
    assert egec("reissue", "resume", "spring").code == 3
    again = egec("reissue", "start", "spring", "--all", "--dry-run", "--format", "ids")
    assert (again.code, again.out) == (0, "")
    assert "State: done; clients left: 0 of 3; failed: 1." in again.err
    assert egec("reissue", "start", "spring", "--all", "--limit", "1", "--dry-run").code == 73


@pytest.mark.usefixtures("paused")
def test_an_expected_number_is_compared_with_the_clients_of_an_existing_run(egec: Egec, server: MailServer) -> None:
    for options in (["--yes"], ["--dry-run"]):
        ended = egec("reissue", "start", "spring", "--all", "--expect", "2", *options)
        assert ended.code == 65
        assert "the run spring already exists with 3 clients, not 2 as expected" in ended.err
    assert server.accepted == []
    # The same cron line continues the run, although fewer clients are selected now, and more have failed.
    egec("client", "create", "later@example.org")
    assert egec("reissue", "start", "spring", "--all", "--expect", "3", "--yes").code == 3
    assert len(server.accepted) == 2
    assert egec("reissue", "start", "spring", "--all", "--expect", "3", "--yes").code == 3


def test_start_and_dry_run_of_a_cancelled_run_are_refused(egec: Egec, server: MailServer, paused: None) -> None:
    egec("reissue", "cancel", "spring", "--yes")
    for options in (["--yes"], ["--dry-run"]):
        assert egec("reissue", "start", "spring", "--all", *options).code == 77


@pytest.mark.usefixtures("paused")
def test_all_clients_of_a_run_are_listed_with_their_outcome(egec: Egec, people: list[str]) -> None:
    def items() -> list[tuple[object, ...]]:
        listed = egec("reissue", "status", "spring", "--items", "--format", "jsonl").out
        fields = ("identifier", "outcome", "failure", "attempts")
        return [tuple(json.loads(line)[field] for field in fields) for line in listed.splitlines()]

    failed = (people[0], "failed", "mail_refused", 1)
    assert items() == [failed, (people[1], "waiting", None, 0), (people[2], "waiting", None, 0)]
    egec("reissue", "resume", "spring")
    assert items() == [failed, (people[1], "accepted", None, 1), (people[2], "accepted", None, 1)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--items"], "--items needs the name of a run"), (["spring", "--items", "--failed"], "contradict each other")],
)
def test_contradicting_options_of_status_are_refused(egec: Egec, arguments: list[str], told: str) -> None:
    ended = egec("reissue", "status", *arguments)
    assert ended.code == 2
    assert told in ended.err


@pytest.mark.usefixtures("paused")
def test_a_run_that_is_paused_under_quiet_prints_its_numbers_and_how_to_continue(
    egec: Egec, server: MailServer
) -> None:
    server.stop()
    ended = egec("--quiet", "reissue", "resume", "spring")
    assert (ended.code, ended.out) == (75, "")
    first, reason, *rest = ended.err.splitlines()
    assert first == "spring: 0 mailed, 1 refused, 2 left (exit 75)"
    assert reason.endswith(" 550 No such recipient")
    assert rest[-2] == "      The run is paused and nothing is lost. Later: egec reissue resume spring"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_after_an_interruption_the_bar_and_the_summary_of_the_resumed_run_agree(
    server: MailServer, people: list[str], number: int, code: int
) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c0@example.org")
    command = [*PROGRAM, "reissue", "start", "spring", "--all", "--yes", "--rate", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: bool(server.accepted))
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    if number != signal.SIGKILL:
        # The client who is refused may be the first or the second one.
        assert re.search(rf"(?m)^spring: 1 mailed, (1 refused, 1|2) left \(exit {code}\)$", err)
        assert "\nNext: egec reissue resume spring\n" in err
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*WITH_PROGRESS, "reissue", "resume", "spring", "--rate", "0"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as resumed:
        os.close(terminal)
        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown_on(controller).decode())
    assert resumed.returncode == 3
    assert re.search(r"3/3.* 1 failed", shown)
    assert "spring: 2 mailed, 1 refused (exit 3)" in shown


@pytest.mark.parametrize("options", [[], ["--format", "jsonl"]])
@pytest.mark.parametrize("log", ["/dev/tty", "run.log"])
def test_a_run_whose_terminal_is_closed_settles_its_mails_and_can_be_resumed(
    server: MailServer, egec: Egec, people: list[str], options: list[str], log: str, tmp_path: Path
) -> None:
    arrived, is_closed = Event(), Event()
    server.at(Point.KEPT, lambda: arrived.set() or is_closed.wait(PATIENCE))  # type: ignore[func-returns-value]
    command = shlex.join([*WITH_PROGRESS, "reissue", "start", "spring", "--all", "--yes", "--rate", "1", *options])
    pid, controller = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", f"exec {command} 2> {log}"])
    assert arrived.wait(PATIENCE)
    os.close(controller)
    # As the shell of a closed terminal does, too.
    os.kill(pid, signal.SIGHUP)
    # Once it has arrived, the program ignores any further one.
    ignored = re.compile(r"^SigIgn:.*[13579bdf]$", re.MULTILINE)
    wait_until(lambda: ignored.search(Path(f"/proc/{pid}/status").read_text()) is not None)
    is_closed.set()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    left = run_of(egec("reissue", "status", "spring", "--format", "json").out)
    assert (left["state"], left["accepted"]) == ("paused", len(server.accepted))
    states = egec("reissue", "status", "spring", "--items", "--format", "ids", "--fields", "outcome").out.split()
    assert set(states) == {"accepted", "waiting"}
    if log == "run.log":
        told = (tmp_path / log).read_text()
        assert "Traceback" not in told
        assert "egec: the terminal was closed." in told
        assert ("\nNext: egec reissue resume spring\n" in told) is (not options)
    assert egec("reissue", "resume", "spring", "--rate", "0").code == 0
    assert sorted(mail.recipient for mail in server.accepted) == [f"c{number}@example.org" for number in range(3)]


def test_retry_takes_a_rate(egec: Egec, server: MailServer, people: list[str]) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c1@example.org")
    egec("reissue", "start", "spring", "--all", "--yes")
    egec("reissue", "retry", "spring", "--rate", "7")
    assert "  Rate             7/s\n" in egec("reissue", "retry", "spring", "--dry-run").out


def test_a_run_whose_mails_were_deferred_ends_with_75_and_says_when_they_are_due(
    egec: Egec, server: MailServer, people: list[str]
) -> None:
    server.fail_always(Fault.RCPT_451, recipient="c1@example.org")
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--wait", "0")
    assert ended.code == 75
    assert "spring: 2 mailed, 1 left, of which 1 deferred (exit 75)" in ended.err
    again = egec("reissue", "start", "spring", "--all", "--yes", "--wait", "0", "--format", "json")
    assert (again.code, json.loads(again.out)["deferred"]) == (75, 1)
    assert json.loads(again.err)["error"]["code"] == "run_deferred"
    due = json.loads(egec("reissue", "status", "spring", "--format", "json").out)["next_attempt_at"]
    moment = clock.to_zoned_text(clock.parse_time(due))
    assert f"the rest of the run spring is due at {moment}" in ended.err
    server.work_again()
    assert egec("reissue", "start", "spring", "--all", "--yes", "--now").code == 0
    assert Counter(mail.recipient for mail in server.accepted).most_common(1)[0][1] == 1


def test_a_run_without_failures_but_with_unknown_lines_says_what_to_do(
    egec: Egec, server: MailServer, people: list[str], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{people[0]}\nnobody@example.org\n")
    ended = egec("--quiet", "reissue", "start", "spring", "--from", "list.txt", "--yes")
    assert ended.err.splitlines()[1:] == [
        "spring: 1 mailed, 1 line unknown (exit 3)",
        "Next: correct the unknown lines in a new list, and start a run of it under another name",
    ]


def test_a_run_that_is_done_says_that_nothing_is_left(egec: Egec, server: MailServer, people: list[str]) -> None:
    for told in ([], ["egec: nothing left to do in the run spring"]):
        ended = egec("reissue", "start", "spring", "--all", "--yes")
        assert [line for line in ended.err.splitlines() if "left to do" in line] == told
        assert ended.err.splitlines()[-1] == "spring: 3 mailed"


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_each_start_of_a_run_with_failures_prints_the_next_step(egec: Egec, options: list[str]) -> None:
    for _ in range(2):
        ended = egec(*options, "reissue", "start", "spring", "--all", "--yes")
        assert ended.code == 3
        assert ended.err.splitlines()[-3:] == summary(2)


def test_a_rate_of_0_removes_the_limit_of_the_settings(
    egec: Egec, server: MailServer, people: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RATE", "1")
    began = time.monotonic()
    assert egec("reissue", "start", "spring", "--all", "--rate", "0", "--yes").code == 0
    # At one a second, the third mail would leave after two seconds.
    assert time.monotonic() - began < 2
    assert len(server.accepted) == 3


def test_the_question_counts_first_and_new_passwords(egec: Egec, server: MailServer, people: list[str]) -> None:
    def asked() -> bytes:
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*WITH_PROGRESS, "reissue", "start", "spring", "--all"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
        ) as process:
            os.close(terminal)
            question = shown_until(controller, b"[y/N]")
            os.write(controller, b"n\n")
            shown_on(controller)
            process.wait(30)
        return question

    egec("activate", people[0])
    assert b"Mail first passwords to 2 clients and new passwords to 1?" in asked()
    egec("activate", people[1])
    assert b"Mail first passwords to 1 client and new passwords to 2?" in asked()
    egec("activate", people[2])
    assert b"Mail new passwords to 3 clients?" in asked()


def test_a_dry_run_uses_the_singular_for_one_client(egec: Egec, server: MailServer, people: list[str]) -> None:
    ended = egec("reissue", "start", "spring", "--all", "--limit", "1", "--dry-run")
    assert "spring: 1 client\n" in ended.out


@pytest.mark.usefixtures("paused")
def test_a_client_erased_or_disabled_meanwhile_is_reported_once(egec: Egec, people: list[str]) -> None:
    egec("client", "erase", people[1], "--yes")
    egec("client", "disable", people[2], "--reason", "left")
    told = egec("reissue", "resume", "spring").err
    assert f"egec: client {people[1]} was erased (client_erased)\n" in told
    assert f"egec: client {people[2]} is disabled (client_disabled)\n" in told


@pytest.mark.usefixtures("paused")
def test_status_of_a_paused_run_says_that_it_has_no_worker_and_how_to_continue(egec: Egec) -> None:
    shown = egec("reissue", "status", "spring")
    assert shown.err == (
        "egec: no worker is active on the run spring. To continue it, type: egec reissue resume spring\n"
    )
    assert egec("reissue", "status", "spring", "--format", "json").err == ""
    egec("reissue", "resume", "spring")
    assert egec("reissue", "status", "spring").err == ""


def test_status_says_immediately_that_a_run_lost_its_worker(
    location: Database, egec: Egec, server: MailServer, people: list[str]
) -> None:
    server.at(Point.KEPT, lambda: time.sleep(0.5))
    with subprocess.Popen([*PROGRAM, "reissue", "start", "spring", "--all", "--yes"], stdout=subprocess.DEVNULL) as one:
        wait_until(lambda: bool(server.accepted))
        at_work = egec("reissue", "status", "spring")
        one.kill()
    assert at_work.err == ""
    killed = egec("reissue", "status", "spring")
    assert "running" in killed.out
    assert "egec: no worker is active on the run spring. " in killed.err
