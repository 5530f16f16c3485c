"""The record of what was done: one row for each act, in the transaction of the act, never with a secret."""

import json
from collections.abc import Iterable

from egec_cli.accounts.credentials import Recorded
from egec_cli.accounts.egec import Egec
from egec_cli.clock import rfc3339
from egec_cli.store.database import insert_many
from egec_cli.store.models import Client, CredentialState, Event, ReissueRun


def record(
    egec: Egec,
    action: str,
    outcome: str,
    *,
    client: Client | None = None,
    run: ReissueRun | None = None,
    **details: object,
) -> None:
    """Add one event.

    Args:
        egec: whose clock and actor are recorded.
        action: what was done, such as `client.create`.
        outcome: how it ended, a stable word.
        client: whom it is about.
        run: the re-issue run that it belongs to.
        details: more of it; no secret, and no personal data but what `client erase` takes away again.
    """
    Event.insert(
        at=egec.clock(),
        actor=egec.actor.user,
        host=egec.actor.host,
        action=action,
        client=client,
        run=run,
        outcome=outcome,
        details=json.dumps(details, sort_keys=True),
    ).execute()


def record_changes(egec: Egec, action: str, outcome: str, clients: Iterable[int], **details: object) -> None:
    """Add one event for each of these clients, by their keys, in one statement; the rest is as `record` has it."""
    at, user, host = rfc3339(egec.clock()), *egec.actor
    told = json.dumps(details, sort_keys=True)
    rows = [(at, user, host, action, client, outcome, told) for client in clients]
    columns = ("at", "actor", "host", "action", "client_id", "outcome", "details")
    insert_many(egec.database, "event", columns, rows)


def record_issues(egec: Egec, run: ReissueRun, issues: Iterable[tuple[Recorded, CredentialState]]) -> None:
    """Add one event for each credential that a re-issue run has settled, in one statement."""
    at, user, host = rfc3339(egec.clock()), *egec.actor
    rows = [
        (at, user, host, "credential.issue", one.client, run.id, state.value, f'{{"sequence": {one.sequence}}}')
        for one, state in issues
    ]
    columns = ("at", "actor", "host", "action", "client_id", "run_id", "outcome", "details")
    insert_many(egec.database, "event", columns, rows)
