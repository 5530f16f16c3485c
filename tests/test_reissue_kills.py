"""Kill the workers of a run: the run continues, and each client gets a mail whose password signs in."""

import signal
import subprocess
import time
from collections import Counter
from functools import partial

import pytest

from egec_cli.context import open_context
from egec_cli.reissue.settle import Issuer
from egec_cli.settings import load
from egec_cli.settings.types import Database, SqliteFile
from egec_cli.store.models import Credential
from tests import children
from tests.activations import PATIENCE, letters, require_intact, wait_until
from tests.conftest import Egec
from tests.processes import egec_after, replace
from tests.reissue_storm import QUICK, WORKER, storm
from tests.smtp_server import MailServer, Point


def test_a_run_killed_several_times_mails_each_client_or_reports_the_failure(
    location: Database, server: MailServer
) -> None:
    seen = storm(server, people=120, workers=1, kills=3, kept_workers=0, seed=7)
    assert seen.accepted + seen.failed == 120
    assert seen.kills
    require_intact(location)


def test_workers_that_share_a_run_mail_twice_only_what_was_under_way_at_a_kill(
    location: Database, server: MailServer
) -> None:
    several, kept = (2, 1) if isinstance(location, SqliteFile) else (4, 2)
    seen = storm(server, people=120, workers=several, kills=2, kept_workers=kept, seed=8)
    assert seen.accepted + seen.failed == 120
    assert seen.kills


def test_a_mail_that_was_accepted_just_before_a_kill_is_not_sent_again(
    location: Database, server: MailServer, egec: Egec
) -> None:
    for client in range(3):
        egec("client", "create", f"c{client}@example.org")
    start = ("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    command = [*egec_after(*QUICK, replace(Issuer, "settle_jobs", children.wait_before_settling)), *start]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "about to settle\n"
        process.kill()
    server.wait_until_quiet()
    first = {letter.message_id for letter in letters(server)}
    assert first
    ended = egec(*start)
    assert ended.code == 0, ended
    mails = Counter(letter.identifier for letter in letters(server))
    # Only a mail that was under way at the kill, without an answer, may come twice.
    with open_context(load.load_settings()):
        settled = {one.message_id for one in Credential.select().where(Credential.state == "accepted")}
    assert first & settled
    assert (len(mails), sum(mails.values())) == (3, 3 + len(first - settled))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal_mails_under_way_are_settled_and_the_next_command_continues(
    location: Database, server: MailServer, egec: Egec, number: signal.Signals, code: int
) -> None:
    for client in range(40):
        egec("client", "create", f"c{client}@example.org")
    server.at(Point.KEPT, lambda: time.sleep(0.05))
    command = [*WORKER, "reissue", "start", "spring", "--all", "--yes", "--format", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: bool(server.accepted))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    server.wait_until_quiet()
    assert process.returncode == code
    assert "Nothing was lost" in err
    mailed = len(server.accepted)
    assert len(out.splitlines()) == mailed < 40
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert ended.code == 0, ended
    identifiers = [letter.identifier for letter in letters(server)]
    assert len(identifiers) == len(set(identifiers)) == 40


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_run_started_with_a_signal_ignored_keeps_ignoring_it(
    monkeypatch: pytest.MonkeyPatch, server: MailServer, egec: Egec, number: signal.Signals
) -> None:
    for client in range(24):
        egec("client", "create", f"c{client}@example.org")
    server.at(Point.KEPT, lambda: time.sleep(0.05))
    ignoring = egec_after(partial(signal.signal, number, signal.SIG_IGN), *QUICK)
    command = [*ignoring, "reissue", "start", "spring", "--all", "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(server.accepted))
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert len(letters(server)) == 24


def test_a_second_signal_ends_the_program_immediately(location: Database, server: MailServer, egec: Egec) -> None:
    for client in range(5):
        egec("client", "create", f"c{client}@example.org")
    held = []
    server.at(Point.MESSAGE, lambda: held.append(1) or time.sleep(3))  # type: ignore[func-returns-value]
    command = [*WORKER, "reissue", "start", "spring", "--all", "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(held))
        start_time = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert time.monotonic() - start_time < 2
