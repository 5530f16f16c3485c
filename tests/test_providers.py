"""Runs at mail servers that behave like those of providers: no run fails for many, and every client is mailed once."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import cycle

import pytest

from egec_cli.reissue import backoff
from egec_cli.settings.types import Database, SqliteFile
from tests.activations import PATIENCE, letters
from tests.conftest import Egec, Ended
from tests.processes import egec_after, replace, run_with
from tests.provider_server import (
    BLOCKED,
    OVER_QUOTA,
    TOO_MANY_CONNECTIONS,
    Block,
    ConnectionLimit,
    Greylisting,
    MailLimit,
    ProviderServer,
    RefusedShare,
    Tarpit,
)
from tests.provider_storm import CHANGES, PROFILES, create_clients, storm
from tests.smtp_server import Fault, Point

# Before a run pauses, the server may refuse this many clients.
MOST_TRIED = 10
PEOPLE = 40
# Of a storm: enough for two kills.
STORMED = 24
ENGINES = ("sqlite", "postgresql")


# A run that was slowed down is as fast as before after one accepted mail.
QUICK_AGAIN = (*CHANGES, replace(backoff, "_RISE", 1.0))


def start() -> Ended:
    return run_with(QUICK_AGAIN, "reissue", "start", "spring", "--all", "--yes", "--format", "json")


def status(egec: Egec) -> Mapping[str, object]:
    found: dict[str, object] = json.loads(egec("reissue", "status", "spring", "--format", "json").out)
    return found


def pauses(egec: Egec) -> int:
    """Return how often the run has paused."""
    events = json.loads(egec("audit", "list", "--format", "json").out)
    return Counter(event["action"] for event in events)["reissue.pause"]


def require_each_mailed_once(server: ProviderServer, people: int = PEOPLE) -> None:
    mails = Counter(letter.identifier for letter in letters(server))
    assert (len(mails), mails.total()) == (people, people)


# `python -m tests.provider_storm` takes each profile with both databases.
@pytest.mark.parametrize(("name", "location"), list(zip(PROFILES, cycle(ENGINES))), indirect=["location"])
def test_a_run_killed_at_a_provider_mails_each_client_once_within_its_quotas(location: Database, name: str) -> None:
    workers = 1 if isinstance(location, SqliteFile) else 2
    seen = storm(PROFILES[name](STORMED), people=STORMED, workers=workers, kills=2, seed=1)
    assert seen.accepted + seen.failed == STORMED


@pytest.mark.parametrize(
    ("answer", "location"),
    [(OVER_QUOTA, "sqlite"), (OVER_QUOTA, "postgresql"), ("421 4.7.0 Try again later", "sqlite")],
    indirect=["location"],
)
def test_a_used_up_quota_pauses_the_run_before_it_has_tried_many(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec, answer: str
) -> None:
    create_clients(PEOPLE)
    limit = MailLimit((0, 86_400), answer=answer)
    with ProviderServer(limit) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = start()
        assert ended.code == 75, ended
        assert len({one.recipient for one in server.mails_tried}) <= MOST_TRIED
        found = status(egec)
        assert (found["state"], found["accepted"], found["failed"]) == ("paused", 0, 0)
        limit.limits = ()
        ended = start()
        assert ended.code == 0, ended
    require_each_mailed_once(server)


def test_a_block_pauses_the_run_before_it_has_tried_many(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    create_clients(PEOPLE)
    block = Block(answer=BLOCKED)
    with ProviderServer(block) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        for _ in range(2):
            before = len(server.mails_tried)
            ended = start()
            assert ended.code == 75, ended
            assert len({one.recipient for one in server.mails_tried[before:]}) <= MOST_TRIED
            found = status(egec)
            assert (found["state"], found["accepted"], found["failed"]) == ("paused", 0, 0)
        block.relent()
        ended = start()
        assert ended.code == 0, ended
    require_each_mailed_once(server)


def test_a_quota_that_ends_in_the_middle_of_a_run_fails_nobody(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    create_clients(PEOPLE)
    limit = MailLimit((PEOPLE // 2, 86_400))
    with ProviderServer(limit) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = start()
        assert ended.code == 75, ended
        assert len({one.recipient for one in server.mails_tried}) <= PEOPLE // 2 + MOST_TRIED
        assert (status(egec)["accepted"], status(egec)["failed"]) == (PEOPLE // 2, 0)
        limit.limits = ()
        ended = start()
        assert ended.code == 0, ended
    require_each_mailed_once(server)


def test_a_run_waits_until_a_greylist_opens_and_ends_with_0(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    create_clients(PEOPLE)
    with ProviderServer(Greylisting(1.0)) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = start()
    assert ended.code == 0, ended
    require_each_mailed_once(server)
    assert pauses(egec) == 0
    # At once, after a minute, and after five more.
    assert len(server.mails_tried) <= 3 * PEOPLE


@pytest.mark.parametrize(("percent", "location"), [(60, "sqlite"), (100, "postgresql")], indirect=["location"])
def test_many_refused_recipients_never_pause_a_run(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec, percent: int
) -> None:
    create_clients(PEOPLE)
    share = RefusedShare(percent)
    with ProviderServer(share) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = start()
    assert ended.code == 3, ended
    assert pauses(egec) == 0
    refused = sum(share.refuses(f"c{number}@example.org") for number in range(PEOPLE))
    assert (status(egec)["failed"], status(egec)["accepted"]) == (refused, PEOPLE - refused)
    assert len(server.mails_tried) == PEOPLE


def test_connections_that_the_server_turns_away_are_no_trouble(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    create_clients(PEOPLE)
    monkeypatch.setenv("EGEC_MAIL_CONNECTIONS", "4")
    with ProviderServer(ConnectionLimit(2)) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = start()
    assert ended.code == 0, ended
    require_each_mailed_once(server)
    assert pauses(egec) == 0
    assert len(server.mails_tried) == PEOPLE


def test_workers_that_share_a_run_mail_all_but_the_clients_at_whom_the_server_drops_the_connection(
    location: Database, monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    create_clients(PEOPLE)
    monkeypatch.setenv("EGEC_MAIL_CONNECTIONS", "4")
    with ProviderServer(Tarpit(0.1, [Point.KEPT])) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        for number in range(2):
            server.fail_always(Fault.CUT_AT_RCPT, recipient=f"c{number}@example.org")
        command = [*egec_after(), "reissue", "start", "spring", "--all", "--yes", "--wait", "0", "--format", "json"]
        workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
        assert [worker.wait(timeout=PATIENCE) for worker in workers] == [75, 75]
    found = status(egec)
    assert (found["accepted"], found["failed"], found["deferred"]) == (PEOPLE - 2, 0, 2)
    assert found["next_attempt_at"] is not None
    assert pauses(egec) == 0
    require_each_mailed_once(server, PEOPLE - 2)


def test_workers_share_fewer_connections_than_there_are_workers(
    postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch, egec: Egec
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", postgresql())
    create_clients(PEOPLE)
    # So slow that each worker wants to mail while others do.
    with ProviderServer(ConnectionLimit(1), Tarpit(0.1, [Point.KEPT])) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        command = [*egec_after(*CHANGES), "reissue", "start", "spring", "--all", "--yes", "--format", "jsonl"]
        workers = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(3)
        ]
        told = [worker.communicate(timeout=PATIENCE)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    # Nor is the run slowed down.
    # A worker may fall back to one connection, and says so once; nothing else is worth a word.
    note = r"(egec: one connection to the mail server from now on: 421 4\.7\.0 Too many connections.*\n)?"
    assert [words for words in told if not re.fullmatch(note, words)] == []
    assert server.answers[TOO_MANY_CONNECTIONS]
    require_each_mailed_once(server)
    assert pauses(egec) == 0
    assert len(server.mails_tried) == PEOPLE
