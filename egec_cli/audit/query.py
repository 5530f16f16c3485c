"""The record of what was done, read: filtered, the newest last, one event at a time, however many there are."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.store import peewee
from egec_cli.store.models import Client, Event, ReissueRun
from egec_cli.store.sql import contains_text, rfc3339_sql, snapshot, stream_rows


class EventRecord(NamedTuple):
    """An event as it is shown.

    Attributes:
        id: grows from event to event.
        at: when, as RFC 3339 in UTC.
        action: what was done, such as `client.create` or `login`.
        outcome: how it ended, a stable word.
        client: the identifier of whom it is about.
        run: the name of the re-issue run that it belongs to.
        actor: the user of the operating system, and who or what is behind.
        host: of the process.
        details: more of it.
    """

    id: int
    at: str
    action: str
    outcome: str
    client: str | None
    run: str | None
    actor: str
    host: str
    details: dict[str, Any]


class EventFilter(NamedTuple):
    """Which events; all that is given must hold.

    Attributes:
        since: a date or an age such as `90d`; events from then on.
        until: the same; events up to then, those of the date included.
        action: such as `client.erase`, or `client` for all that begin like that.
        actor: a part of it, in whatever case.
        after: only events with a higher id.
        limit: at most so many: the last ones, or, with `after`, those that follow.
    """

    since: str = ""
    until: str = ""
    action: str = ""
    outcome: str = ""
    actor: str = ""
    client: Client | None = None
    run: ReissueRun | None = None
    after: int | None = None
    limit: int | None = None


ALL_EVENTS = EventFilter()


def list_events(context: Context, wanted: EventFilter = ALL_EVENTS) -> Iterator[EventRecord]:
    """Yield the events, the newest last, one at a time.

    Raises:
        UsageError: a date is none, or the limit is below 1.
    """
    if wanted.limit is not None and wanted.limit < 1:
        raise UsageError("a limit of {limit} selects nothing", "Use 1 or more, or leave it out.", limit=wanted.limit)
    for row in _rows(_query(context, wanted)):
        yield EventRecord._make((*row[:-1], json.loads(row[-1])))


def _rows(query: Any) -> Iterator[tuple[Any, ...]]:
    with snapshot():
        yield from stream_rows(query)


def _query(context: Context, wanted: EventFilter) -> Any:
    conditions = list(_conditions(context, wanted))
    query = (
        Event.select(
            Event.id, rfc3339_sql(Event.at), Event.action, Event.outcome, Client.identifier, ReissueRun.name,
            Event.actor, Event.host, Event.details,
        )
        .join(Client, peewee.JOIN.LEFT_OUTER)
        .switch(Event)
        .join(ReissueRun, peewee.JOIN.LEFT_OUTER)
        .order_by(Event.id)
    )  # fmt: skip
    if wanted.limit is not None and wanted.after is None:
        last = Event.select(Event.id).order_by(Event.id.desc()).limit(wanted.limit)
        return query.where(Event.id.in_(last.where(*conditions) if conditions else last))
    return (query.where(*conditions) if conditions else query).limit(wanted.limit)


def _conditions(context: Context, wanted: EventFilter) -> Iterator[Any]:
    now = context.clock()
    if wanted.after is not None:
        yield Event.id > wanted.after
    if wanted.client is not None:
        yield Event.client == wanted.client
    if wanted.run is not None:
        yield Event.run == wanted.run
    if wanted.since:
        yield Event.at >= clock.parse_date_or_age(wanted.since, now)
    if wanted.until:
        yield Event.at < clock.parse_date_or_age(wanted.until, now, end_of_day=True)
    if wanted.action:
        kind = f"{wanted.action}."
        yield (Event.action == wanted.action) | (peewee.fn.SUBSTR(Event.action, 1, len(kind)) == kind)
    if wanted.outcome:
        yield Event.outcome == wanted.outcome
    if wanted.actor:
        yield contains_text(Event.actor, wanted.actor)
