"""Delete old events permanently, in short transactions, so that other processes can write meanwhile.

A client's history loses them too, but keeps its creation and its mails, which have their own tables.
"""

import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.audit.record import record_event
from egec_cli.context import Context
from egec_cli.store.models import Event
from egec_cli.store.sql import fetch_tuples, in_list

_BATCH = 1000
# Pause as long as a batch took: other processes poll for the lock of an SQLite database.
_PAUSE_RATIO = 1.0


class PruneResult(NamedTuple):
    """The events that were deleted, or would be.

    Attributes:
        events: the number of events.
        before: the limit, RFC 3339 in UTC; None if all events are kept.
    """

    events: int
    before: str | None


def retention_limit(context: Context, older_than: str = "") -> datetime | None:
    """Return the time before which events may be deleted: a date or an age, by default EGEC_AUDIT_DAYS.

    Returns:
        None if EGEC_AUDIT_DAYS keeps all events.

    Raises:
        UsageError: `older_than` is neither a date nor an age.
    """
    now = context.clock()
    if older_than:
        return min(clock.parse_date_or_age(older_than, now), now)
    return now - timedelta(days=context.settings.audit_days) if context.settings.audit_days else None


def count_events_before(before: datetime) -> PruneResult:
    """Count the events before a time."""
    return PruneResult(Event.select().where(Event.at < before).count(), clock.to_rfc3339(before))


def prune_events(context: Context, before: datetime) -> PruneResult:
    """Delete the events before a time.

    Without such events nothing is recorded. Otherwise the start is recorded too, since the deletion may be killed.
    """
    limit = clock.to_rfc3339(before)
    deleted = 0
    while keys := _next_batch(before):
        started = time.monotonic()
        with context.database.atomic():
            if not deleted:
                record_event(context, "audit.prune", "started", before=limit)
            deleted += Event.delete().where(in_list(Event.id, keys)).execute()
        time.sleep((time.monotonic() - started) * _PAUSE_RATIO)
    if deleted:
        with context.database.atomic():
            record_event(context, "audit.prune", "done", before=limit, events=deleted)
    return PruneResult(deleted, limit)


def _next_batch(before: datetime) -> list[int]:
    rows: Any = Event.select(Event.id).where(Event.at < before).order_by(Event.id).limit(_BATCH)
    return [key for (key,) in fetch_tuples(rows)]
