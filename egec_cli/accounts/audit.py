"""The record of what was done: one row for each act, in the transaction of the act, never with a secret."""

import json

from egec_cli.accounts.egec import Egec
from egec_cli.store.models import Client, Event, ReissueRun


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
        details: more of it; no secret, and no personal data.
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
