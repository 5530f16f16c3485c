"""Write, list and delete the events of the audit log: one for each act, in its transaction, never with a secret.

After the commit, the same goes to the log lines, if they are enabled. A rollback to a savepoint removes rows but not
log lines, so events are recorded when the act itself can no longer fail.

Old events are deleted in short transactions, so that other processes can write meanwhile. A client's history loses them
too, but keeps its creation and its mails, which have their own tables.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.context import Act, Context
from egec_cli.errors import PermissionDenied, UsageError
from egec_cli.store import peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.models import Client, CredentialState, Event, ReissueRun
from egec_cli.store.sql import (
    contains_text,
    fetch_tuples,
    in_list,
    insert_many,
    last_settled_event,
    recording,
    rfc3339_sql,
    snapshot,
    stream_rows,
)

_NOTHING: Mapping[str, object] = {}
_COLUMNS = ("at", "actor", "host", "action", "client_id", "run_id", "outcome", "details")


class _ClientEvent(NamedTuple):
    """The outcome of an act for a client (the row's key), and its details as JSON."""

    client: int
    outcome: str
    details: str


def record_event(
    context: Context,
    action: str,
    outcome: str,
    *,
    client: Client | None = None,
    run: ReissueRun | None = None,
    **details: object,
) -> None:
    """Add an event; see `EventRecord` for its parts. The details must hold neither secrets nor personal data."""
    at = context.clock()
    with recording(context.database):
        Event.insert(
            at=at,
            actor=context.actor.user,
            host=context.actor.host,
            action=action,
            client=client,
            run=run,
            outcome=outcome,
            details=json.dumps(details, sort_keys=True),
        ).execute()
    if context.log is not None:
        identifier = None if client is None else client.identifier
        act = Act(clock.to_rfc3339(at), action, outcome, identifier, _name(run), *context.actor, details, ms=0)
        context.log.tell(context.database, [act])


def try_to_record(context: Context, action: str, outcome: str, **details: Any) -> bool:
    """Add an event about an act that only reads; return False if the database is read-only."""
    try:
        with translate_failures(context.settings.database):
            record_event(context, action, outcome, **details)
    except PermissionDenied:
        return False
    return True


def record_changes(
    context: Context,
    action: str,
    outcome: str,
    clients: Iterable[int],
    *,
    private: Mapping[str, object] = _NOTHING,
    **details: object,
) -> None:
    """Add an event for each of these clients (the rows' keys), in one statement.

    `private` are details with personal data: `client erase` deletes them, and log lines do not contain them.
    """
    stored = json.dumps({**private, **details}, sort_keys=True)
    if context.log is not None:
        _record(context, action, [_ClientEvent(client, outcome, stored) for client in clients], unlogged=private)
        return
    # The same in less time: many clients are changed at once.
    at, user, host = clock.to_rfc3339(context.clock()), *context.actor
    rows = [(at, user, host, action, client, None, outcome, stored) for client in clients]
    _insert(context, rows)


def record_updates(context: Context, updates: Iterable[tuple[int, Sequence[str]]], *, source: str) -> None:
    """Add an event for each client (the row's key) whose fields were changed, in one statement."""
    events = [
        _ClientEvent(client, "updated", json.dumps({"fields": sorted(set(fields)), "source": source}))
        for client, fields in updates
    ]
    _record(context, "client.update", events)


class SettledIssue(NamedTuple):
    """A credential of a run whose mail was accepted or refused; `client` is the row's key."""

    client: int
    sequence: int
    state: CredentialState


def record_issues(context: Context, run: ReissueRun, issues: Iterable[SettledIssue]) -> None:
    """Add an event for each credential that a run has settled, in one statement."""
    events = [_ClientEvent(one.client, one.state.value, f'{{"sequence": {one.sequence}}}') for one in issues]
    _record(context, "credential.issue", events, run=run)


def _record(
    context: Context,
    action: str,
    events: Sequence[_ClientEvent],
    *,
    run: ReissueRun | None = None,
    unlogged: Mapping[str, object] = _NOTHING,
) -> None:
    at, user, host = clock.to_rfc3339(context.clock()), *context.actor
    run_key = None if run is None else run.id
    rows = [(at, user, host, action, one.client, run_key, one.outcome, one.details) for one in events]
    _insert(context, rows)
    if context.log is None or not events:
        return
    keys = [one.client for one in events]
    identifiers = dict(fetch_tuples(Client.select(Client.id, Client.identifier).where(in_list(Client.id, keys))))
    acts = []
    for one in events:
        details: dict[str, Any] = json.loads(one.details)
        logged = {name: value for name, value in details.items() if name not in unlogged}
        acts.append(Act(at, action, one.outcome, identifiers[one.client], _name(run), user, host, logged, ms=0))
    context.log.tell(context.database, acts)


def _insert(context: Context, rows: Sequence[Sequence[object]]) -> None:
    with recording(context.database):
        insert_many(context.database, "event", _COLUMNS, rows)


def _name(run: ReissueRun | None) -> str | None:
    return None if run is None else run.name


# All actions, by the word before the dot.
ACTIONS: Mapping[str, Sequence[str]] = {
    "audit": ("prune",),
    "client": (
        "closing", "create", "disable", "enable", "erase", "export", "import", "notice", "request", "unblock", "update",
    ),
    "credential": ("issue", "revoke", "show"),
    "db": ("backup", "restore", "upgrade"),
    "login": ("", "explain"),
    "mail": ("bounce", "test"),
    "reissue": ("cancel", "finish", "pause", "resume", "retry", "start"),
}  # fmt: skip


def list_actions() -> Iterator[str]:
    """Yield the words of `EventFilter.action`: each action, and each word before the dot."""
    for kind, acts in ACTIONS.items():
        yield kind
        yield from (f"{kind}.{act}" for act in acts if act)


# The outcomes but two kinds: `reissue.pause` has the code of an error, `login.explain` the reason of a refusal.
OUTCOMES = (
    "accepted", "cancelled", "created", "deferred", "disabled", "done", "enabled", "erased", "failed", "in_doubt",
    "limited", "marked", "recorded", "refused", "resumed", "revoked", "started", "superseded", "unblocked", "updated",
    "upgraded",
)  # fmt: skip


class EventRecord(NamedTuple):
    """An event of the audit log.

    Attributes:
        id: increases with every event.
        at: time of the event, RFC 3339 in UTC.
        action: the action, such as `client.create` or `login`.
        outcome: the result, a stable word.
        client: the client's identifier.
        run: the name of the run.
        actor: the operating system's user, and the person or program that it acts for.
        host: the machine of the process.
        details: further data, depending on the action.
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
    """The conditions for events; all must hold.

    Attributes:
        since: a date, in EGEC_TIMEZONE, or an age such as `90d`.
        until: a date (inclusive) or an age.
        action: such as `client.erase`, or `client` for all actions on clients.
        actor: a part of the actor, ignoring case.
        after: only events with a higher id, up to the first one that is not committed yet; see `list_events`.
        limit: maximum number: the last events or, with `after`, the next ones.
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
    """Yield the events, the newest last.

    With `after`, no event can appear later among or before those that were listed, whatever other programs do: an event
    is listed once those with lower ids are committed.

    Raises:
        UsageError: a date is invalid, or the limit is below 1.
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
    now, zone = context.clock(), context.settings.timezone
    if wanted.after is not None:
        yield Event.id > wanted.after
        if (settled := last_settled_event()) is not None:
            yield Event.id <= settled
    if wanted.client is not None:
        yield Event.client == wanted.client
    if wanted.run is not None:
        yield Event.run == wanted.run
    if wanted.since:
        yield Event.at >= clock.parse_date_or_age(wanted.since, now, zone=zone)
    if wanted.until:
        yield Event.at < clock.parse_date_or_age(wanted.until, now, zone=zone, end_of_day=True)
    if wanted.action:
        prefix = f"{wanted.action}."
        yield (Event.action == wanted.action) | (peewee.fn.SUBSTR(Event.action, 1, len(prefix)) == prefix)
    if wanted.outcome:
        yield Event.outcome == wanted.outcome
    if wanted.actor:
        yield contains_text(Event.actor, wanted.actor)


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
        UsageError: `older_than` is neither a date nor an age, or not in the past.
    """
    now = context.clock()
    if older_than:
        return clock.parse_past(older_than, now, zone=context.settings.timezone, option="--older-than")
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
