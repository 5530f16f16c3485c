"""List events with filters, and delete old ones, on both databases."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as Step

import pytest

from egec_cli import clock
from egec_cli.audit.events import (
    EventFilter,
    EventRecord,
    count_events_before,
    list_events,
    prune_events,
    record_changes,
    record_event,
    retention_limit,
)
from egec_cli.clients import fields, history, records
from egec_cli.context import Context, open_context
from egec_cli.errors import UsageError
from egec_cli.settings import load
from egec_cli.settings.types import SqliteFile
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


class Writer:
    """A second connection, whose transaction records an event and stays open."""

    def __init__(self, context: Context, *, writes_first: bool) -> None:
        """Open the transaction; with `writes_first` it changes a row before it records its event."""
        self._context = context
        self._steps: list[Step] = [Step() for _ in range(4)]
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._work, writes_first)
        self._wait_for(0)

    def _work(self, writes_first: bool) -> None:
        with self._context.database.connection_context(), self._context.database.atomic():
            if writes_first:
                ReissueRun.update(state="paused").where(ReissueRun.name == "of the writer").execute()
            self._steps[0].set()
            assert self._steps[1].wait(20)
            record_event(self._context, "client.import", "started")
            self._steps[2].set()
            assert self._steps[3].wait(20)

    def _wait_for(self, step: int) -> None:
        if not self._steps[step].wait(20):
            self._done.result(0)

    def record(self) -> None:
        """Record the event."""
        self._steps[1].set()
        self._wait_for(2)

    def commit(self) -> None:
        """End the transaction."""
        self._steps[3].set()
        self._done.result(20)
        self._pool.shutdown()


@pytest.fixture
def on_postgresql(postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """Return an open context on a PostgreSQL database: on SQLite, one transaction at a time records events."""
    monkeypatch.setenv("EGEC_DATABASE_URL", postgresql())
    with open_context(load.load_settings()) as context:
        yield context


def read_further(context: Context, found: list[EventRecord]) -> None:
    """Add the events after the last one that was found, as a collector does."""
    found += list_events(context, EventFilter(after=found[-1].id if found else 0))


@pytest.mark.parametrize("first", ["writer", "other"])
def test_no_event_is_missed_whose_transaction_ends_after_a_later_one_was_read(
    on_postgresql: Context, first: str
) -> None:
    """The order of ids is neither that in which transactions begin nor that in which they end."""
    run = ReissueRun.create(name="of the writer", selection="{}", state="done", options="{}", created_at=NOON)
    record_event(on_postgresql, "reissue.start", "started", run=run)
    writer = Writer(on_postgresql, writes_first=first == "writer")
    found: list[EventRecord] = []
    with on_postgresql.database.atomic():
        # PostgreSQL numbers a transaction when it first writes.
        Client.update(failed_logins=0).execute()
        ReissueRun.create(name="other", selection="{}", state="done", options="{}", created_at=NOON)
        writer.record()
        record_event(on_postgresql, "reissue.start", "started")
    read_further(on_postgresql, found)
    assert [event.action for event in found] == ["reissue.start"]
    # Without `after`, people see what is committed.
    assert [event.action for event in list_events(on_postgresql)] == ["reissue.start", "reissue.start"]
    read_further(on_postgresql, found)
    writer.commit()
    read_further(on_postgresql, found)
    assert [event.action for event in found] == ["reissue.start", "client.import", "reissue.start"]
    assert [event.id for event in found] == sorted(event.id for event in found)


def test_events_before_those_of_an_open_transaction_are_listed(on_postgresql: Context) -> None:
    # It has written, and may record an event later: that one will have a higher id.
    ReissueRun.create(name="of the writer", selection="{}", state="done", options="{}", created_at=NOON)
    writer = Writer(on_postgresql, writes_first=True)
    record_event(on_postgresql, "client.create", "created")
    assert [event.action for event in list_events(on_postgresql, EventFilter(after=0))] == ["client.create"]
    writer.record()
    writer.commit()
    assert len(list(list_events(on_postgresql, EventFilter(after=0)))) == 2


def test_a_transaction_of_many_events_holds_one_lock(on_postgresql: Context) -> None:
    """A server has memory for some thousands of locks."""
    with on_postgresql.database.atomic():
        client = records.create_client(on_postgresql, fields.parse_fields("jeanne@example.org"))
        for _ in range(5):
            record_event(on_postgresql, "login", "refused", client=client)
            record_changes(on_postgresql, "client.disable", "disabled", [client.id])
        assert locks_held(on_postgresql) == 1


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_lock_that_a_savepoint_gives_up_is_taken_again(on_postgresql: Context, ending: str) -> None:
    database = on_postgresql.database
    with database.atomic():
        with database.atomic() as savepoint:
            record_event(on_postgresql, "client.create", "created")
            if ending == "rollback":
                savepoint.rollback()
        record_event(on_postgresql, "client.update", "updated")
        assert locks_held(on_postgresql) == 1
    assert locks_held(on_postgresql) == 0


def test_a_reader_of_a_large_log_does_not_read_all_of_it(on_postgresql: Context) -> None:
    record(on_postgresql, 3, 50_000)
    record_event(on_postgresql, "client.create", "created")
    before = rows_read(on_postgresql)
    found = list(list_events(on_postgresql, EventFilter(after=49_999)))
    assert [event.id for event in found] == [50_000, 50_001]
    assert rows_read(on_postgresql) - before < 100


def look_up(context: Context, query: str) -> str:
    """Return the one value that a query finds."""
    [(value,)] = context.database.execute_sql(query)  # type: ignore[no-untyped-call] # it has none
    return str(value)


def locks_held(context: Context) -> int:
    """Return how many locks the connection holds by which transactions announce their events."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    return int(look_up(context, query))


def rows_read(context: Context) -> int:
    """Return how many rows of the log the connection has read so far."""
    look_up(context, "SELECT pg_stat_force_next_flush()::text")
    return int(look_up(context, "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'event'"))


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
    for invalid in ("soon", "2099-01-01", "0d"):
        with pytest.raises(UsageError):
            retention_limit(egec, invalid)


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
