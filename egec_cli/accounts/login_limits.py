"""How often a login may be tried: limits per account, by which nobody guesses a password of nine characters.

The numbers are those of CNIL's deliberation 2022-100 (a wait of over a minute after five failures, a block after ten),
and the counter belongs to the account, not to whoever asks (OWASP Authentication Cheat Sheet).

An attempt is counted before its password is looked at, so that attempts at the same moment cannot get round the limit;
a login that succeeds takes all the count away. What was counted and never came to an end, as after a crash, has failed.
"""

import time
from datetime import datetime, timedelta
from typing import NamedTuple

from egec_cli import clock
from egec_cli.accounts.egec import Egec
from egec_cli.store.database import tuples
from egec_cli.store.models import Client

FAILURES_BEFORE_WAIT = 5
FAILURES_BEFORE_BLOCK = 10
FIRST_WAIT = timedelta(minutes=1)
# What a client is blocked until who is so until a new password is accepted, or an operator frees him.
FOR_GOOD = datetime.fromisoformat("9999-01-01T00:00:00+00:00")

# How long an attempt waits for those that are being looked at, in seconds, where they are as many as may be.
PATIENCE = 15.0
_PAUSE = 0.05


class LimitRecord(NamedTuple):
    """How an account stands after failed logins.

    Attributes:
        failed_logins: those in a row since the last login that succeeded, or since a new password.
        blocked_until: until when no login is tried, as RFC 3339 in UTC; None where logins are tried.
    """

    failed_logins: int
    blocked_until: str | None


def shown(client: Client, moment: datetime) -> LimitRecord:
    """Return how the account of a client stands at this moment."""
    failures, blocked_until = _standing(client)
    is_blocked = blocked_until is not None and blocked_until > moment
    return LimitRecord(failures, clock.rfc3339_or_none(blocked_until if is_blocked else None))


def begin(egec: Egec, client: Client) -> datetime | None:
    """Count an attempt on the account of a client that is about to be made.

    Returns:
        None where it may be made; else the moment until which it may not.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        with egec.database.atomic():
            if _counted(egec, client):
                return None
            failures, blocked_until = _standing(client)
            if blocked_until is not None and blocked_until > egec.clock():
                return blocked_until
            if failures >= FAILURES_BEFORE_BLOCK and time.monotonic() >= deadline:
                # They are as many as may be, and none has come to an end in a time in which all would have.
                Client.update(blocked_until=FOR_GOOD).where(Client.id == client.id).execute()
                return FOR_GOOD
        time.sleep(_PAUSE)


def fail(egec: Egec, client: Client) -> None:
    """Have the account of a client wait after an attempt that failed. Runs in a transaction of the caller."""
    # The update locks the row, so that no other attempt reads the count at the same time.
    Client.update(failed_logins=Client.failed_logins).where(Client.id == client.id).execute()
    failures, blocked_until = _standing(client)
    until = wait_after(failures, egec.clock())
    if until is not None and (blocked_until is None or blocked_until < until):
        Client.update(blocked_until=until).where(Client.id == client.id).execute()


def wait_after(failures: int, moment: datetime) -> datetime | None:
    """Return until when the next attempt waits after so many failures in a row, the last at this moment."""
    if failures >= FAILURES_BEFORE_BLOCK:
        return FOR_GOOD
    if failures >= FAILURES_BEFORE_WAIT:
        wait: timedelta = FIRST_WAIT * 2 ** (failures - FAILURES_BEFORE_WAIT)
        return moment + wait
    return None


def _counted(egec: Egec, client: Client) -> bool:
    free = Client.blocked_until.is_null() | (Client.blocked_until <= egec.clock())
    counted: int = (
        Client.update(failed_logins=Client.failed_logins + 1)
        .where((Client.id == client.id) & free & (Client.failed_logins < FAILURES_BEFORE_BLOCK))
        .execute()
    )
    return bool(counted)


def _standing(client: Client) -> tuple[int, datetime | None]:
    rows = Client.select(Client.failed_logins, Client.blocked_until).where(Client.id == client.id)
    found: tuple[int, datetime | None] = next(tuples(rows))
    return found
