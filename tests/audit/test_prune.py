"""Delete old events, on both databases."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from egec_cli import clock
from egec_cli.audit.prune import count_events_before, prune_events, retention_limit
from egec_cli.audit.record import record_event
from egec_cli.clients import fields, history, records
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.settings import load
from egec_cli.settings.schema import SqliteFile
from egec_cli.store.models import Event
from egec_cli.store.sql import insert_many, truncate_log

NOON = clock.parse_time("2026-07-10T12:00:00Z")
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
