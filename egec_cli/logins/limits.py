"""Limits on logins for one account: waits after failures, a block after ten, and places for logins in progress.

A block ends with a new password, or after EGEC_BLOCK_HOURS. The numbers are those of CNIL's deliberation 2022-100 (a
wait of over a minute after five failures, a block after ten).
The counter belongs to the account, not to the caller (OWASP Authentication Cheat Sheet).

A login takes a place before its password is compared, and returns the place with its verdict. Only a verdict counts as
a failure. Places and failures together never exceed what the limits allow: five before the first wait, then one login
at a time. A login that dies without a verdict leaves a place behind, which expires.

A login that takes a place locks the client's row first, and removes expired places before it counts the others. So a
place that still exists was not given to another login, whatever the clock does. A login that lost its place gives no
verdict.
"""

import os
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.errors import TemporaryFailure
from egec_cli.store import peewee
from egec_cli.store.models import Client, LoginPlace
from egec_cli.store.sql import brief_transaction, fetch_tuples, lock_rows
from egec_cli.translation import Words

FAILURES_BEFORE_WAIT = 5
FAILURES_BEFORE_BLOCK = 10
FIRST_WAIT = timedelta(minutes=1)
# `blocked_until` of a client who stays blocked until a new password is accepted or an operator unblocks the account.
UNTIL_NEW_CREDENTIAL = datetime.fromisoformat("9999-01-01T00:00:00+00:00")

# A login loses its place if it gives no verdict within this time.
PLACE_LIFETIME = timedelta(seconds=30)
# How long a login waits for a place, in seconds: longer than `PLACE_LIFETIME`, so that killed logins delay a login but
# do not refuse it; shorter than the 60 seconds after which web servers and their proxies usually give up.
PATIENCE = 45.0
# How long a login sleeps before it checks again, in seconds; it grows from the first to the last, with jitter.
FIRST_PAUSE, LAST_PAUSE = 0.04, 1.0
_GROWTH = 1.5
# Keys of places are random: SQLite reuses the keys of deleted rows, and a late login must not return another's place.
_HIGHEST_KEY = 2**31 - 1


class AccountBusy(TemporaryFailure):
    """A login gave no verdict: no place became free while it waited, or it lost its place."""

    def __init__(self) -> None:
        super().__init__(
            Words("too many logins to this account are in progress; this one was not checked"),
            Words("Try the login again."),
            code="account_busy",
        )


class LimitRecord(NamedTuple):
    """The failed logins of an account.

    Attributes:
        failed_logins: failures in a row since the last accepted login, new password or end of a block.
        blocked_until: when logins are checked again, as RFC 3339 in UTC; None if they are checked now.
    """

    failed_logins: int
    blocked_until: str | None


class PlaceResult(NamedTuple):
    """What a login gets that asks for a place: a place, or a wait or block; neither if no place is free now.

    Attributes:
        place: the key of the place that the login holds.
        blocked_until: the end of the wait or block.
        is_block: it is a block, not a wait.
    """

    place: int | None = None
    blocked_until: datetime | None = None
    is_block: bool = False


def load_limits(client: Client, moment: datetime) -> LimitRecord:
    """Return the failed logins of a client, and the wait or block at this moment."""
    failures, blocked_until = _read_failures(client.id)
    is_blocked = blocked_until is not None and blocked_until > moment
    return LimitRecord(failures, clock.to_rfc3339_or_none(blocked_until if is_blocked else None))


def places_allowed(failures: int) -> int:
    """Return how many logins may be in progress after this number of failures, when no wait is running."""
    return max(FAILURES_BEFORE_WAIT - failures, 1)


def take_place(context: Context, client: int, *, patience: float | None = None) -> PlaceResult:
    """Wait up to `patience` seconds (default: `PATIENCE`) for a place, and return it or the account's wait or block.

    Raises:
        AccountBusy: no place became free.
    """
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    pause = FIRST_PAUSE
    while not any(result := try_place(context, client)):
        # Check without a lock until a place seems free: writers have to queue, readers do not.
        while True:
            if time.monotonic() >= deadline:
                raise AccountBusy
            # `random` and `secrets` would take longer to import than the jitter is worth.
            time.sleep(pause * (1 + os.urandom(1)[0] / 255) / 2)
            pause = min(pause * _GROWTH, LAST_PAUSE)
            if _seems_free(context, client):
                break
    return result


def try_place(context: Context, client: int) -> PlaceResult:
    """Take a place for a login if one is free now. An unknown key runs the same statements and gets none."""
    key = _new_key()
    try:
        # A crash may undo it: a login that died with the machine gave no verdict.
        with brief_transaction(context.database):
            failures, blocked_until = _read_failures(client, lock=True)
            # Read the clock while the lock is held, so that it is never behind the clock of the last place.
            now = context.clock()
            LoginPlace.delete().where((LoginPlace.client == client) & ~_is_live(now)).execute()
            taken = LoginPlace.select().where(LoginPlace.client == client).count()
            if blocked_until is not None and blocked_until > now:
                return PlaceResult(blocked_until=blocked_until, is_block=is_block(failures, blocked_until))
            if taken >= places_allowed(failures):
                return PlaceResult()
            # Insert from the client's row, so that an unknown key takes the same path and inserts nothing.
            expires_at = peewee.Value(now + PLACE_LIFETIME, converter=LoginPlace.expires_at.db_value)
            row = Client.select(peewee.Value(key), Client.id, expires_at).where(Client.id == client)
            LoginPlace.insert_from(row, [LoginPlace.id, LoginPlace.client, LoginPlace.expires_at]).execute()
    except peewee.IntegrityError:
        # Another login drew the same key.
        return PlaceResult()
    return PlaceResult(place=key)


def return_place(client: int, place: int | None) -> None:
    """Give up the place of a login that has a verdict, within the transaction that records it. Locks the client's row.

    Raises:
        AccountBusy: the place expired and may have been given to another login, so this one must give no verdict.
    """
    _read_failures(client, lock=True)
    returned = LoginPlace.delete().where((LoginPlace.id == (place or 0)) & (LoginPlace.client == client)).execute()
    if place is not None and not returned:
        raise AccountBusy


def count_failure(context: Context, client: int) -> None:
    """Count a wrong login, and start the wait or block that follows, within a transaction that locks the client."""
    failures, blocked_until = _read_failures(client)
    now = context.clock()
    if failures >= FAILURES_BEFORE_BLOCK and blocked_until is not None and blocked_until <= now:
        # The block has ended, so this failure begins a fresh count.
        failures = 0
    until = wait_after_failures(failures + 1, now, block_hours=context.settings.block_hours)
    if until is None or (blocked_until is not None and blocked_until > until):
        until = blocked_until
    Client.update(failed_logins=failures + 1, blocked_until=until).where(Client.id == client).execute()


def is_block(failures: int, until: datetime) -> bool:
    """Return whether an account that lets no one in until this moment is blocked, rather than waiting."""
    return failures >= FAILURES_BEFORE_BLOCK or until == UNTIL_NEW_CREDENTIAL


def wait_after_failures(failures: int, moment: datetime, *, block_hours: int = 0) -> datetime | None:
    """Return the end of the wait or block after this number of failures in a row, the last one at this moment.

    A block of `block_hours` ends automatically; the next failure begins a fresh count.
    """
    if failures >= FAILURES_BEFORE_BLOCK:
        return moment + timedelta(hours=block_hours) if block_hours else UNTIL_NEW_CREDENTIAL
    if failures >= FAILURES_BEFORE_WAIT:
        wait: timedelta = FIRST_WAIT * 2 ** (failures - FAILURES_BEFORE_WAIT)
        return moment + wait
    return None


def _seems_free(context: Context, client: int) -> bool:
    """Return whether a login would get a result now; without a lock, so it may be wrong a moment later."""
    now = context.clock()
    live = LoginPlace.select(peewee.fn.COUNT(LoginPlace.id)).where((LoginPlace.client == client) & _is_live(now))
    rows = Client.select(Client.failed_logins, Client.blocked_until, live).where(Client.id == client)
    failures, blocked_until, taken = next(fetch_tuples(rows))
    return bool(taken < places_allowed(failures) or (blocked_until is not None and blocked_until > now))


def _is_live(now: datetime) -> peewee.Expression:
    expires = LoginPlace.expires_at
    # A place that expires later was taken before the clock was set back, and counts as expired.
    return (expires > now) & (expires <= now + PLACE_LIFETIME + clock.TOLERANCE)


def _new_key() -> int:
    return int.from_bytes(os.urandom(4)) & _HIGHEST_KEY or 1


def _read_failures(client: int, *, lock: bool = False) -> tuple[int, datetime | None]:
    rows = Client.select(Client.failed_logins, Client.blocked_until).where(Client.id == client)
    # An unknown key runs the same statements and finds no row.
    found: tuple[int, datetime | None] = next(fetch_tuples(lock_rows(rows) if lock else rows), (0, None))
    return found
