"""List events with filters, and delete old ones, on both databases."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from egec_cli import clock
from egec_cli.audit.events import EventFilter, count_events_before, list_events, prune_events, retention_limit
from egec_cli.audit.record import record_event
from egec_cli.clients import fields, history, records
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.settings import load
from egec_cli.settings.schema import SqliteFile
from egec_cli.store.models import Client, Event, ReissueRun
from egec_cli.store.sql import insert_many, truncate_log

NOON = clock.parse_time("2026-07-10T12:00:00Z")


class Days:
    """A clock that tests set forward."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client with events on five days."""
    days = Days()
    egec = opened._replace(clock=days)
    client = records.create_client(egec, fields.parse_fields("jeanne@example.org"))
    run = ReissueRun.create(name="spring", selection="{}", state="done", options="{}", created_at=NOON)
    for action, outcome, user, about, within in (
        ("login", "refused", "www-data (for Élouard)", client, None),
        ("login.explain", "wrong_password", "www-data (for Élouard)", client, None),
        ("credential.issue", "accepted", "egec", client, run),
        ("client.export", "started", "egec", None, None),
    ):
        days.moment += timedelta(days=1)
        record_event(egec._replace(actor=egec.actor._replace(user=user)), action, outcome, client=about, run=within)
    return client


def actions(egec: Context, wanted: EventFilter) -> list[str]:
    now = egec._replace(clock=lambda: NOON + timedelta(days=4))
    return [event.action for event in list_events(now, wanted)]


ALL = ["client.create", "login", "login.explain", "credential.issue", "client.export"]


def test_everything_is_listed_with_the_newest_last(opened: Context, client: Client) -> None:
    events = list(list_events(opened))
    assert [event.action for event in events] == ALL
    issue = events[3]
    assert issue[1:] == (
        "2026-07-13T12:00:00.000Z", "credential.issue", "accepted", client.identifier, "spring", "egec",
        opened.actor.host, {},
    )  # fmt: skip
    assert (events[4].client, events[4].run) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(action="login"), ["login", "login.explain"]),
        (EventFilter(action="login.explain"), ["login.explain"]),
        (EventFilter(action="client"), ["client.create", "client.export"]),
        (EventFilter(action="log"), []),
        (EventFilter(action="%"), []),
        (EventFilter(outcome="refused"), ["login"]),
        (EventFilter(actor="élouard"), ["login", "login.explain"]),
        (EventFilter(since="2026-07-12"), ALL[2:]),
        (EventFilter(until="2026-07-12"), ALL[:3]),
        (EventFilter(since="2026-07-12", until="2026-07-12"), ["login.explain"]),
        (EventFilter(since="1d"), ALL[3:]),
        (EventFilter(until="1d"), ALL[:3]),
        (EventFilter(limit=2), ALL[3:]),
        (EventFilter(limit=2, action="login"), ["login", "login.explain"]),
        (EventFilter(limit=1, action="login"), ["login.explain"]),
        (EventFilter(since="2027-01-01"), []),
    ],
    ids=str,
)
def test_filters_must_all_hold(opened: Context, client: Client, wanted: EventFilter, expected: list[str]) -> None:
    assert actions(opened, wanted) == expected


def test_events_are_found_by_client_and_by_run(opened: Context, client: Client) -> None:
    assert actions(opened, EventFilter(client=client)) == ALL[:4]
    assert actions(opened, EventFilter(run=ReissueRun.get())) == ["credential.issue"]


def test_events_are_listed_page_by_page(opened: Context, client: Client) -> None:
    found: list[str] = []
    after = 0
    while page := list(list_events(opened, EventFilter(after=after, limit=2))):
        found += [event.action for event in page]
        after = page[-1].id
    assert found == ALL


@pytest.mark.parametrize(
    "wanted", [EventFilter(limit=0), EventFilter(since="yesterday"), EventFilter(until="2026-02-30")]
)
def test_invalid_filters_are_usage_errors(opened: Context, wanted: EventFilter) -> None:
    with pytest.raises(UsageError):
        list(list_events(opened, wanted))


MARK = "a-word-that-stands-nowhere-else"


@pytest.fixture
def egec(opened: Context) -> Context:
    """Return a context with a fixed clock."""
    return opened._replace(clock=lambda: NOON)


def record(egec: Context, days: int, number: int, word: str = "x") -> None:
    """Record a number of events of some days ago."""
    at = clock.to_rfc3339(NOON - timedelta(days=days))
    rows = [(at, "egec", "host", "login", "refused", json.dumps({"reason": word}))] * number
    insert_many(egec.database, "event", ("at", "actor", "host", "action", "outcome", "details"), rows)


def test_older_events_are_deleted_whatever_their_order(egec: Context) -> None:
    record(egec, 10, 3)
    record(egec, 400, 2500)
    record(egec, 5, 2)
    record(egec, 366, 1)
    before = retention_limit(egec)
    assert before == NOON - timedelta(days=365)
    assert count_events_before(before).events == 2501
    assert prune_events(egec, before) == (2501, "2025-07-10T12:00:00.000Z")
    left = [(event.action, event.outcome) for event in Event.select().order_by(Event.id)]
    assert left == [("login", "refused")] * 5 + [("audit.prune", "started"), ("audit.prune", "done")]
    details = Event.select().where(Event.outcome == "done").get().details
    assert json.loads(details) == {"before": "2025-07-10T12:00:00.000Z", "events": 2501}


def test_without_old_events_nothing_is_recorded(egec: Context) -> None:
    record(egec, 10, 3)
    assert prune_events(egec, NOON - timedelta(days=11)).events == 0
    assert Event.select().count() == 3


def test_the_setting_is_the_default_age(egec: Context) -> None:
    keeps_all = egec._replace(settings=load.load_settings({"EGEC_AUDIT_DAYS": "0"}))
    assert retention_limit(keeps_all) is None
    assert retention_limit(keeps_all, "90d") == NOON - timedelta(days=90)
    assert retention_limit(egec._replace(settings=load.load_settings({"EGEC_AUDIT_DAYS": "30"}))) == NOON - timedelta(
        30
    )
    assert retention_limit(egec, "2099-01-01") == NOON
    with pytest.raises(UsageError):
        retention_limit(egec, "soon")


def test_deleted_events_are_gone_from_the_files_too(egec: Context, tmp_path: Path) -> None:
    location = egec.settings.database
    record(egec, 400, 50, word=MARK)
    truncate_log()
    prune_events(egec, NOON - timedelta(days=365))
    assert truncate_log()
    if isinstance(location, SqliteFile):
        assert not any(MARK.encode() in path.read_bytes() for path in location.path.parent.glob("egec.db*"))
    assert Event.select().where(Event.details.contains(MARK)).count() == 0


def test_a_history_keeps_the_creation_of_the_client(egec: Context) -> None:
    client = records.create_client(egec, fields.parse_fields("jeanne@example.org"))
    record_event(egec, "login", "refused", client=client)
    prune_events(egec, NOON + timedelta(days=1))
    entries = [(entry.action, entry.actor) for entry in history.load_history(egec, client).entries]
    assert entries == [("client.create", None)]
