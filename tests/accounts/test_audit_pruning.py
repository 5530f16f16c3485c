"""Old events deleted, on both databases."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from egec_cli import clock, settings
from egec_cli.accounts import audit, audit_pruning, clients, fields, story
from egec_cli.accounts.egec import Egec
from egec_cli.errors import Usage
from egec_cli.settings import SqliteFile
from egec_cli.store.database import empty_log, insert_many
from egec_cli.store.models import Event

NOON = clock.parse("2026-07-10T12:00:00Z")
MARK = "a-word-that-stands-nowhere-else"


@pytest.fixture
def egec(opened: Egec) -> Egec:
    """Return eGEC at a moment that stands still."""
    return opened._replace(clock=lambda: NOON)


def put(egec: Egec, days: int, number: int, word: str = "x") -> None:
    """Put so many events on record that happened so many days ago."""
    at = clock.rfc3339(NOON - timedelta(days=days))
    rows = [(at, "egec", "host", "login", "refused", json.dumps({"reason": word}))] * number
    insert_many(egec.database, "event", ("at", "actor", "host", "action", "outcome", "details"), rows)


def test_what_is_older_goes_and_the_rest_stays_whatever_the_order(egec: Egec) -> None:
    put(egec, 10, 3)
    put(egec, 400, 2500)
    put(egec, 5, 2)
    put(egec, 366, 1)
    before = audit_pruning.limit(egec)
    assert before == NOON - timedelta(days=365)
    assert audit_pruning.count(before).events == 2501
    assert audit_pruning.prune(egec, before) == (2501, "2025-07-10T12:00:00.000Z")
    left = [(event.action, event.outcome) for event in Event.select().order_by(Event.id)]
    assert left == [("login", "refused")] * 5 + [("audit.prune", "begun"), ("audit.prune", "done")]
    told = Event.select().where(Event.outcome == "done").get().details
    assert json.loads(told) == {"before": "2025-07-10T12:00:00.000Z", "events": 2501}


def test_where_nothing_is_old_nothing_is_put_on_record(egec: Egec) -> None:
    put(egec, 10, 3)
    assert audit_pruning.prune(egec, NOON - timedelta(days=11)).events == 0
    assert Event.select().count() == 3


def test_the_setting_says_how_long_events_are_kept_unless_an_age_is_given(egec: Egec) -> None:
    keeps_all = egec._replace(settings=settings.load({"EGEC_AUDIT_DAYS": "0"}))
    assert audit_pruning.limit(keeps_all) is None
    assert audit_pruning.limit(keeps_all, "90d") == NOON - timedelta(days=90)
    assert audit_pruning.limit(egec._replace(settings=settings.load({"EGEC_AUDIT_DAYS": "30"}))) == NOON - timedelta(30)
    assert audit_pruning.limit(egec, "2099-01-01") == NOON
    with pytest.raises(Usage):
        audit_pruning.limit(egec, "soon")


def test_what_was_deleted_is_gone_from_the_files_too(egec: Egec, tmp_path: Path) -> None:
    location = egec.settings.database
    put(egec, 400, 50, word=MARK)
    empty_log()
    audit_pruning.prune(egec, NOON - timedelta(days=365))
    assert empty_log()
    if isinstance(location, SqliteFile):
        assert not any(MARK.encode() in path.read_bytes() for path in location.path.parent.glob("egec.db*"))
    assert Event.select().where(Event.details.contains(MARK)).count() == 0


def test_a_story_still_tells_how_the_file_came_about_and_its_mails(egec: Egec) -> None:
    client = clients.create(egec, fields.checked("jeanne@example.org"))
    audit.record(egec, "login", "refused", client=client)
    audit_pruning.prune(egec, NOON + timedelta(days=1))
    told = [(entry.what, entry.by) for entry in story.of(egec, client).entries]
    assert told == [("client.create", None)]
