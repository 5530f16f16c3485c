"""The record of what was done: one row for each act, in the transaction of the act, never with a secret.

Where there is a log, it is told the same once the transaction is committed. A rollback to a savepoint takes back rows,
not what the log is to be told, so an act is put on record where it can no longer fail by itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from egec_cli.clock import to_rfc3339
from egec_cli.context import Act, Context
from egec_cli.errors import PermissionDenied
from egec_cli.store.failures import translate_failures
from egec_cli.store.models import Client, CredentialState, Event, ReissueRun
from egec_cli.store.sql import fetch_tuples, in_list, insert_many

_NOTHING: Mapping[str, object] = {}
_COLUMNS = ("at", "actor", "host", "action", "client_id", "run_id", "outcome", "details")


class _Told(NamedTuple):
    """How an act ended for a client, by the key, and more of it."""

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
    """Add one event.

    Args:
        context: whose clock and actor are recorded.
        action: what was done, such as `client.create`.
        outcome: how it ended, a stable word.
        client: whom it is about.
        run: the re-issue run that it belongs to.
        details: more of it; no secret and no personal data.
    """
    at = context.clock()
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
        whom = None if client is None else client.identifier
        act = Act(to_rfc3339(at), action, outcome, whom, _name(run), *context.actor, details, ms=0)
        context.log.tell(context.database, [act])


def try_to_record(context: Context, action: str, outcome: str, **details: Any) -> bool:
    """Add one event about an act that only reads. Return whether that was possible: not in a read-only database."""
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
    """Add one event for each of these clients, by their keys, in one statement; the rest is as `record` has it.

    `private` are details with personal data, which `client erase` takes away again; no log is told of them.
    """
    stored = json.dumps({**private, **details}, sort_keys=True)
    _record(context, action, [_Told(client, outcome, stored) for client in clients], unlogged=private)


def record_updates(context: Context, updates: Iterable[tuple[int, Sequence[str]]], *, source: str) -> None:
    """Add one event for each client, by the key, whose fields were changed, in one statement."""
    told = [
        _Told(client, "updated", json.dumps({"fields": sorted(set(fields)), "source": source}))
        for client, fields in updates
    ]
    _record(context, "client.update", told)


class SettledIssue(NamedTuple):
    """A credential of a run whose mail was accepted or refused: its client (the row's key), sequence and new state."""

    client: int
    sequence: int
    state: CredentialState


def record_issues(context: Context, run: ReissueRun, issues: Iterable[SettledIssue]) -> None:
    """Add one event for each credential that a run has settled, in one statement."""
    told = [_Told(one.client, one.state.value, f'{{"sequence": {one.sequence}}}') for one in issues]
    _record(context, "credential.issue", told, run=run)


def _record(
    context: Context,
    action: str,
    told: Sequence[_Told],
    *,
    run: ReissueRun | None = None,
    unlogged: Mapping[str, object] = _NOTHING,
) -> None:
    at, user, host = to_rfc3339(context.clock()), *context.actor
    run_key = None if run is None else run.id
    rows = [(at, user, host, action, one.client, run_key, one.outcome, one.details) for one in told]
    insert_many(context.database, "event", _COLUMNS, rows)
    if context.log is None or not told:
        return
    identifiers = dict(
        fetch_tuples(
            Client.select(Client.id, Client.identifier).where(in_list(Client.id, [one.client for one in told]))
        )
    )
    acts = []
    for one in told:
        details: dict[str, Any] = json.loads(one.details)
        shown = {name: value for name, value in details.items() if name not in unlogged}
        acts.append(Act(at, action, one.outcome, identifiers[one.client], _name(run), user, host, shown, ms=0))
    context.log.tell(context.database, acts)


def _name(run: ReissueRun | None) -> str | None:
    return None if run is None else run.name
