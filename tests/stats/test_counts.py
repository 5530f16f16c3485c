"""The numbers of `egec stats` on both databases: what each act adds, and how much work counting takes."""

import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from egec_cli import clock
from egec_cli.clients import fields
from egec_cli.clients.change import erase_clients
from egec_cli.clients.records import ClientStatus, create_client
from egec_cli.context import Context, open_context
from egec_cli.credentials.validity import LocalMoment
from egec_cli.errors import UsageError
from egec_cli.logins.verify import LoginReason, verify_login
from egec_cli.reissue.runs import HEARTBEAT_LIFETIME
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.stats import counts
from egec_cli.stats.counts import (
    BouncingDomain,
    MailOutcome,
    Statistics,
    Subject,
    count_since,
    count_today,
    list_records,
)
from egec_cli.store import peewee
from egec_cli.store.models import (
    Client,
    Credential,
    CredentialState,
    Event,
    ItemState,
    ReissueItem,
    ReissueRun,
    RunState,
)
from egec_cli.store.sql import insert_many
from tests.conftest import Egec
from tests.delivery_reports import report_of
from tests.smtp_server import Fault, MailServer

NOON = datetime(2026, 7, 11, 12, tzinfo=UTC)


@pytest.fixture
def egec_at_noon(opened: Context) -> Context:
    """Return a context with a fixed clock."""
    return opened._replace(clock=lambda: NOON)


def add_clients(context: Context, number: int, domain: str = "example.org", **columns: object) -> None:
    """Add clients who differ only in their number."""
    first = Client.select().count()
    values = {"created_at": NOON, "updated_at": NOON, **columns}
    stored = {name: clock.to_rfc3339(value) if isinstance(value, datetime) else value for name, value in values.items()}
    defaults = {"civility": "", "first_name": "", "last_name": "", "language": "", "active_sequence": 0,
        "revoked_below": 0, "last_sequence": 0, "failed_logins": 0}  # fmt: skip
    row = defaults | stored
    names = ("identifier", "email", "email_key", *row)
    rows = [
        (str(10**9 + one), f"c{one}@{domain}", f"c{one}@{domain}", *row.values())
        for one in range(first, first + number)
    ]
    insert_many(context.database, "client", names, rows)


def add_events(context: Context, number: int, age: timedelta, action: str, outcome: str, details: str = "{}") -> None:
    """Add events of this age."""
    row = (clock.to_rfc3339(NOON - age), "egec", "host", action, outcome, details)
    insert_many(context.database, "event", ("at", "actor", "host", "action", "outcome", "details"), [row] * number)


def as_dict(found: Statistics, subject: Subject) -> dict[str, int]:
    """Return the numbers of a subject that are not 0."""
    records = [one for one in list_records(found) if one.subject is subject and one.number]
    return {one.reason or one.name: one.number for one in records}


@contextmanager
def counted_queries(context: Context) -> Iterator[list[str]]:
    """Collect the statements that the database executes."""
    executed: list[str] = []
    original: Callable[..., object] = context.database.execute_sql

    def execute_sql(sql: str, *arguments: object) -> object:
        executed.append(sql)
        return original(sql, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.database, "execute_sql", execute_sql)
        yield executed


def test_all_numbers_are_of_one_moment(egec_at_noon: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    add_clients(egec_at_noon, 2)
    original = counts._count_clients

    def add_one_and_count(now: LocalMoment) -> Any:
        with ThreadPoolExecutor(1) as other:
            other.submit(add_on_another_connection).result(10)
        return original(now)

    def add_on_another_connection() -> None:
        with egec_at_noon.database.connection_context():
            add_clients(egec_at_noon, 1)

    monkeypatch.setattr(counts, "_count_clients", add_one_and_count)
    assert as_dict(count_since(egec_at_noon), Subject.CLIENTS) == {"new": 2}
    assert Client.select().count() == 3


def test_an_empty_database_has_every_number_and_all_are_0(egec_at_noon: Context) -> None:
    found = count_since(egec_at_noon)
    assert found.since == NOON - timedelta(days=30)
    assert found.clients == dict.fromkeys(ClientStatus, 0)
    assert found.runs == dict.fromkeys(RunState, 0)
    assert set(found.refusals) == {*LoginReason, counts.NOT_RECORDED} - {"accepted"}
    assert (found.domains, found.paused, found.last_accepted) == ([], [], None)
    assert found.database_bytes > 50_000
    assert {one.number for one in list_records(found) if one.subject is not Subject.DATABASE} == {0}


def test_clients_are_counted_by_their_status_without_erased_ones(egec_at_noon: Context) -> None:
    egec = egec_at_noon
    past, future = NOON - timedelta(days=1), NOON + timedelta(days=1)
    add_clients(egec, 5)
    add_clients(egec, 4, active_sequence=1, last_sequence=1)
    add_clients(egec, 3, blocked_until=future)
    add_clients(egec, 2, disabled_at=past)
    add_clients(egec, 1, disabled_at=past, valid_until="2026-07-10")
    add_clients(egec, 2, active_sequence=1, last_sequence=1, valid_from="2026-07-12")
    add_clients(egec, 3, blocked_until=future, valid_until="2026-07-10")
    add_clients(egec, 1, valid_from="2026-07-11", valid_until="2026-07-11")
    add_clients(egec, 1, active_sequence=1, last_sequence=1)
    Credential.create(
        client=Client.get(Client.id == Client.select(peewee.fn.MAX(Client.id))),
        sequence=1, state=CredentialState.ACCEPTED, created_at=past, expires_at=past, issued_by="egec",
    )  # fmt: skip
    erase_clients(egec, [create_client(egec, fields.parse_fields("erased@example.org")).id])
    found = count_since(egec)
    assert found.clients == {
        ClientStatus.NEW: 6,
        ClientStatus.ACTIVE: 4,
        ClientStatus.EXPIRED: 1,
        ClientStatus.BLOCKED: 3,
        ClientStatus.DISABLED: 3,
        ClientStatus.INACTIVE: 5,
    }


def test_the_period_counts_from_its_first_moment(egec_at_noon: Context) -> None:
    egec = egec_at_noon
    day = timedelta(days=1)
    add_events(egec, 2, 40 * day, "login", "accepted", '{"reason": "accepted"}')
    add_events(egec, 3, 30 * day, "login", "accepted", '{"reason": "accepted"}')
    add_events(egec, 5, day / 2, "login", "refused", '{"reason": "wrong_password"}')
    add_events(egec, 7, day / 4, "login", "refused", '{"reason": "blocked"}')
    add_events(egec, 1, timedelta(), "login", "refused")
    refused = {"wrong_password": 5, "blocked": 7, counts.NOT_RECORDED: 1}
    assert as_dict(count_since(egec), Subject.LOGINS) == {"accepted": 3} | refused
    assert as_dict(count_since(egec, "41d"), Subject.LOGINS) == {"accepted": 5} | refused
    assert as_dict(count_since(egec, "29d"), Subject.LOGINS) == refused
    # It is noon, so the five are from midnight.
    assert as_dict(count_today(egec), Subject.LOGINS) == refused
    with pytest.raises(UsageError):
        count_since(egec, "soon")


def test_the_order_of_events_may_differ_from_that_of_their_times_by_a_day(egec_at_noon: Context) -> None:
    egec = egec_at_noon
    for hours in (50, 20, 40, 10, 30, 1):
        add_events(egec, 10, timedelta(hours=hours), "login", "accepted")
    assert count_since(egec, "1d").logins == 30
    Event.delete().where(Event.id.between(15, 35)).execute()
    wanted = Event.select().where(Event.at >= NOON - timedelta(days=1)).count()
    assert count_since(egec, "1d").logins == wanted < 30


def test_every_act_is_counted_where_it_belongs(
    location: Database, egec: Egec, server: MailServer, tmp_path: Path
) -> None:
    server.fail_always(Fault.RCPT_550, recipient="marc@example.org")
    for name in ("jeanne", "marc", "zoe", "doubt"):
        assert egec("client", "create", f"{name}@example.org").code == 0
    assert egec("activate", "jeanne@example.org").code == 0
    report = tmp_path / "report.eml"
    with open_context(load.load_settings()):
        report.write_bytes(report_of(Credential.get().message_id or ""))
    assert egec("activate", "marc@example.org").code == 65
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    assert egec("activate", "doubt@example.org").code == 75
    assert egec("activate", "zoe@example.org", "--no-mail", "--show-password").code == 0
    assert egec("mail", "bounces", str(report)).code == 0
    assert egec("client", "update", "zoe@example.org", "--email", "zoe.petit@example.org").code == 0
    (tmp_path / "some.txt").write_text("jeanne@example.org\nmarc@example.org\n")
    assert egec("reissue", "start", "all", "--from", "some.txt", "--yes").code == 3
    with open_context(load.load_settings()) as opened:
        verify_login(opened, "1111111111", "wrong")
        found = count_since(opened)
        assert as_dict(found, Subject.ACTIVATIONS) == {"accepted": 2, "refused": 1, "in_doubt": 1}
        # Jeanne's activation, the notice to Zoe, Jeanne's mail of the run; Marc's activation and his mail of the run.
        assert as_dict(found, Subject.MAILS) == {"accepted": 3, "refused": 2, "in_doubt": 1, "bounced": 1}
        assert as_dict(found, Subject.LOGINS) == {"unknown_identifier": 1}
        assert as_dict(found, Subject.RUNS) == {"done": 1}
        assert as_dict(found, Subject.BOUNCING) == {"example.org": 1}
        assert as_dict(found, Subject.IN_DOUBT) == {"deliveries": 1}
        assert found.last_accepted is not None
        assert abs(found.last_accepted - opened.clock()) < timedelta(minutes=5)
        assert count_today(opened)._replace(since=found.since) == found
        # An erasure deletes details of events, not the events.
        erase_clients(opened, [Client.get(Client.email == "marc@example.org").id])
        assert count_since(opened).mails == found.mails


def test_mails_that_were_overtaken_or_revoked_were_accepted(egec_at_noon: Context) -> None:
    for outcome in ("accepted", "superseded", "revoked"):
        add_events(egec_at_noon, 1, timedelta(), "credential.issue", outcome, '{"sequence": 1}')
    add_events(egec_at_noon, 1, timedelta(), "credential.issue", "accepted", '{"mailed": false, "sequence": 1}')
    found = count_since(egec_at_noon)
    assert (found.activations[MailOutcome.ACCEPTED], found.mails[MailOutcome.ACCEPTED]) == (4, 3)


def test_the_ten_most_frequent_domains_are_named(egec_at_noon: Context) -> None:
    for number in range(12):
        add_clients(egec_at_noon, number + 1, f"d{number}.example", email_bounced_at=NOON)
    add_clients(egec_at_noon, 1, "works.example")
    add_clients(egec_at_noon, 1, "d11.example", email_bounced_at=NOON)
    found = count_since(egec_at_noon)
    assert found.domains[0] == BouncingDomain("d11.example", 13)
    assert [one.clients for one in found.domains[1:]] == [11, 10, 9, 8, 7, 6, 5, 4, 3]
    assert found.bouncing == sum(range(1, 13)) + 1
    assert as_dict(found, Subject.BOUNCING)["other"] == 3


def test_paused_runs_are_named_with_the_clients_left(egec_at_noon: Context) -> None:
    add_clients(egec_at_noon, 5)
    runs = {
        "at work": (RunState.RUNNING, NOON + HEARTBEAT_LIFETIME),
        "left": (RunState.RUNNING, NOON - timedelta(minutes=5)),
        "paused": (RunState.PAUSED, None),
        "done": (RunState.DONE, None),
    }
    states = (ItemState.WAITING, ItemState.WORKING, ItemState.SENT, ItemState.ACCEPTED, ItemState.FAILED)
    for name, (state, until) in runs.items():
        run = ReissueRun.create(
            name=name, selection="{}", state=state, options="{}", created_at=NOON, worked_until=until
        )
        for client, item_state in enumerate(states, 1):
            ReissueItem.create(run=run, client=client, state=item_state, not_before=NOON)
    found = count_since(egec_at_noon)
    assert as_dict(found, Subject.RUNS) == {"running": 1, "paused": 2, "done": 1}
    assert as_dict(found, Subject.PAUSED_RUNS) == {"paused": 3, "left": 3}
    for number in range(counts.MOST_RUNS):
        ReissueRun.create(name=f"more {number}", selection="{}", state=RunState.PAUSED, options="{}", created_at=NOON)
    found = count_since(egec_at_noon)
    assert [one.name for one in found.paused] == [f"more {9 - number}" for number in range(10)]
    assert found.runs[RunState.PAUSED] == 12


def test_only_unsettled_passwords_above_the_active_one_are_in_doubt(egec_at_noon: Context) -> None:
    add_clients(egec_at_noon, 1, active_sequence=2, last_sequence=4)
    client = Client.get()
    for sequence, state in enumerate(("superseded", "accepted", "in_doubt", "sending", "refused"), 1):
        Credential.create(client=client, sequence=sequence, state=state, created_at=NOON, issued_by="egec")
    assert count_since(egec_at_noon).in_doubt == 2


def test_queries_and_memory_do_not_grow_with_the_data(egec_at_noon: Context) -> None:
    egec = egec_at_noon
    numbers, peaks = [], []
    for more in (100, 5_000):
        add_clients(egec, more, f"d{more}.example", email_bounced_at=NOON)
        for hours in range(60):
            add_events(egec, more // 10, timedelta(hours=60 - hours), "login", "refused", '{"reason": "blocked"}')
        with counted_queries(egec) as executed:
            tracemalloc.start()
            count_since(egec, "1d")
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        numbers.append(len(executed))
    # The search for the first event takes one more query each time that there are twice as many events.
    assert numbers[1] <= numbers[0] + 8
    assert numbers[1] <= 45
    assert peaks[1] < peaks[0] + 200_000
