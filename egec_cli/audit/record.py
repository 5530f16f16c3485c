"""Write the audit log: one event for each act, in the transaction of the act, never with a secret.

After the commit, the same goes to the log lines, if they are enabled. A rollback to a savepoint removes rows but not
log lines, so events are recorded when the act itself can no longer fail.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from egec_cli.clock import to_rfc3339
from egec_cli.context import Act, Context
from egec_cli.errors import PermissionDenied
from egec_cli.store.database import translate_failures
from egec_cli.store.models import Client, CredentialState, Event, ReissueRun
from egec_cli.store.sql import fetch_tuples, in_list, insert_many, recording

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
        act = Act(to_rfc3339(at), action, outcome, identifier, _name(run), *context.actor, details, ms=0)
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
    at, user, host = to_rfc3339(context.clock()), *context.actor
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
    at, user, host = to_rfc3339(context.clock()), *context.actor
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
