"""Old events deleted for good, in turns, each of them a short transaction: others go on writing meanwhile.

What a client's story tells of that time goes with them, but for the making of the file and the mails, which have tables
of their own.
"""

import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.audit.record import record_event
from egec_cli.context import Context
from egec_cli.store.models import Event
from egec_cli.store.sql import fetch_tuples, in_list

_AT_A_TIME = 1000
# As long a rest as a turn took lets another process of an SQLite database have its turn, which it polls for.
_REST = 1.0


class PruneResult(NamedTuple):
    """The events that were deleted, or would be.

    Attributes:
        events: how many.
        before: they happened before this moment, as RFC 3339 in UTC; None where all are kept.
    """

    events: int
    before: str | None


def retention_limit(context: Context, older_than: str = "") -> datetime | None:
    """Return the moment before which events may go: that of a date or an age, else of EGEC_AUDIT_DAYS.

    Returns:
        None where EGEC_AUDIT_DAYS keeps all.

    Raises:
        Usage: `older_than` is neither a date nor an age.
    """
    now = context.clock()
    if older_than:
        return min(clock.parse_date_or_age(older_than, now), now)
    return now - timedelta(days=context.settings.audit_days) if context.settings.audit_days else None


def count_events_before(before: datetime) -> PruneResult:
    """Return how many events happened before a moment."""
    return PruneResult(Event.select().where(Event.at < before).count(), clock.to_rfc3339(before))


def prune_events(context: Context, before: datetime) -> PruneResult:
    """Delete the events that happened before a moment, and put that on record.

    It is put on record when it begins, for it may be killed, and when it is done, but not where there is nothing to do.
    """
    told = clock.to_rfc3339(before)
    deleted = 0
    while old := _next(before):
        began = time.monotonic()
        with context.database.atomic():
            if not deleted:
                record_event(context, "audit.prune", "begun", before=told)
            deleted += Event.delete().where(in_list(Event.id, old)).execute()
        time.sleep((time.monotonic() - began) * _REST)
    if deleted:
        with context.database.atomic():
            record_event(context, "audit.prune", "done", before=told, events=deleted)
    return PruneResult(deleted, told)


def _next(before: datetime) -> list[int]:
    """Return the keys of the next events to delete."""
    rows: Any = Event.select(Event.id).where(Event.at < before).order_by(Event.id).limit(_AT_A_TIME)
    return [key for (key,) in fetch_tuples(rows)]
