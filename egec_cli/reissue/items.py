"""The clients of a re-issue run, one by one: claimed by a worker, put off, given back, dealt with.

Every function here runs inside a transaction of its caller. A worker holds its items under a lease, which it renews
while it works. When the lease ends, or the worker has certainly ended, other workers take its items over.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from egec_cli.clock import TOLERANCE
from egec_cli.credentials import leases
from egec_cli.store import peewee
from egec_cli.store.models import IS_HELD, IS_WAITING, Client, ItemState, ReissueItem, ReissueRun
from egec_cli.store.sql import execute_many, fetch_tuples, in_list, lock_rows, stream_rows

_NOBODY = {"lease_owner": None, "lease_until": None}


class Claimed(NamedTuple):
    """An item that a worker has claimed: its key, its client's, the line that named the client, its failed attempts."""

    key: int
    client: int
    line: int | None
    attempts: int


class Abandoned(NamedTuple):
    """An item whose worker is gone: its key, its client's, and who held it."""

    key: int
    client: int
    owner: str


class ItemRecord(NamedTuple):
    """One client of a run.

    Attributes:
        identifier: the client's.
        email: the registered one; None where the file was erased.
        line: where the file of `--from` named the client; None without one.
        outcome: what became of the mail: `accepted` or `failed` at the end.
        failure: why it failed, as the code of an error.
        details: what the mail server said.
        attempts: how often a mail was tried, the accepted one included, since the start or the last retry.
    """

    identifier: str
    email: str | None
    line: int | None
    outcome: ItemState
    failure: str | None
    details: str | None
    attempts: int


def claim_items(run: ReissueRun, owner: str, most: int, *, at: datetime, until: datetime) -> Sequence[Claimed]:
    """Claim at most this number of the items that are due, those that have waited longest first.

    Workers that claim at the same time do not wait for each other.
    """
    if most <= 0:
        return []
    due = (
        ReissueItem.select(ReissueItem.id, ReissueItem.client, ReissueItem.line, ReissueItem.attempts)
        .where((ReissueItem.run == run) & IS_WAITING & (ReissueItem.not_before <= at))
        .order_by(ReissueItem.not_before, ReissueItem.id)
        .limit(most)
    )
    claimed = [Claimed(*row) for row in fetch_tuples(lock_rows(due, skip_locked=True))]
    ReissueItem.update(state=ItemState.WORKING, lease_owner=owner, lease_until=until).where(
        in_list(ReissueItem.id, [item.key for item in claimed])
    ).execute()
    return claimed


def has_items_left(run: ReissueRun) -> bool:
    """Tell whether a client of the run is still to be dealt with."""
    left = (ReissueItem.select().where((ReissueItem.run == run) & condition) for condition in (IS_WAITING, IS_HELD))
    return any(items.exists() for items in left)


def free_abandoned_items(run: ReissueRun, moment: datetime) -> Sequence[Abandoned]:
    """Give back the items of workers that have ended, or have not renewed their lease in time.

    Returns:
        Those of them whose mail was accepted: they need no other mail, and must be settled.
    """
    held = (ReissueItem.run == run) & IS_HELD
    gone = [owner for owner in _holders(run) if leases.is_owner_gone(owner)]
    until = moment + leases.LEASE
    # A clock was set back after these were written: they last no longer than if they were written now.
    _change(held & (ReissueItem.lease_until > until), lease_until=until)
    abandoned = held & (ReissueItem.lease_owner.in_(gone) | (ReissueItem.lease_until < moment))
    _change(abandoned & (ReissueItem.state == ItemState.WORKING), state=ItemState.WAITING, **_NOBODY)
    rows = ReissueItem.select(ReissueItem.id, ReissueItem.client, ReissueItem.lease_owner).where(abandoned)
    return [Abandoned(*row) for row in fetch_tuples(lock_rows(rows, skip_locked=True))]


def holders_are_gone(run: ReissueRun) -> bool:
    """Tell whether there are workers that hold items of the run, and all of them have certainly ended."""
    holders = _holders(run)
    return bool(holders) and all(map(leases.is_owner_gone, holders))


def _holders(run: ReissueRun) -> list[str]:
    held = (ReissueItem.run == run) & IS_HELD
    return [owner for (owner,) in fetch_tuples(ReissueItem.select(ReissueItem.lease_owner).where(held).distinct())]


def end_waits_too_long(run: ReissueRun, moment: datetime, longest: Mapping[int, timedelta]) -> None:
    """Make the items due that wait for longer than a correct clock would have made them wait.

    Args:
        run: the run.
        moment: the present.
        longest: the longest wait for each number of failed attempts.
    """
    bounds = {attempts: moment + wait + TOLERANCE for attempts, wait in longest.items()}
    too_long = [(ReissueItem.attempts == attempts) & (ReissueItem.not_before > end) for attempts, end in bounds.items()]
    is_due_late = (ReissueItem.run == run) & IS_WAITING & (ReissueItem.not_before > min(bounds.values()))
    _change(is_due_late & reduce(or_, too_long), not_before=moment)


def _change(condition: Any, **new: object) -> None:
    """Change the items that fit the condition, without waiting for those that another worker has locked."""
    keys = [
        key for (key,) in fetch_tuples(lock_rows(ReissueItem.select(ReissueItem.id).where(condition), skip_locked=True))
    ]
    if keys:
        ReissueItem.update(**new).where(in_list(ReissueItem.id, keys)).execute()


def extend_items(keys: Collection[int], owner: str, until: datetime) -> None:
    """Renew the leases of these items."""
    ReissueItem.update(lease_until=until).where(_held(keys, owner)).execute()


def mark_sent(database: peewee.Database, keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted by the mail server, should this process end before it settles them."""
    execute_many(
        database,
        "UPDATE reissue_item SET state = 'sent' WHERE id = ? AND lease_owner = ?",
        [(key, owner) for key in keys],
    )


def accept_items(keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted."""
    ReissueItem.update(state=ItemState.ACCEPTED, failure=None, details=None, **_NOBODY).where(
        _held(keys, owner)
    ).execute()


def fail_item(item: Claimed, owner: str, failure: str, details: str) -> None:
    """Mark an item as failed, for the reason given: a stable word, and what the mail server said."""
    ReissueItem.update(
        state=ItemState.FAILED, failure=failure, details=details, attempts=item.attempts, **_NOBODY
    ).where(_held([item.key], owner)).execute()


def defer_item(item: Claimed, owner: str, until: datetime, failure: str, details: str | None) -> None:
    """Let an item wait for its next attempt; the failure is that of the last one."""
    ReissueItem.update(
        state=ItemState.WAITING,
        not_before=until,
        failure=failure,
        details=details,
        attempts=item.attempts,
        **_NOBODY,
    ).where(_held([item.key], owner)).execute()


def give_back_items(keys: Collection[int], owner: str) -> None:
    """Let others have these items at once."""
    ReissueItem.update(state=ItemState.WAITING, **_NOBODY).where(_held(keys, owner)).execute()


def accept_proven(item: Claimed, owner: str) -> int:
    """Mark an item as accepted whose mail was in doubt until a login proved it. Return the number of its attempts."""
    # That attempt was counted as a failed one, unless the worker was killed before.
    failed = max(item.attempts - 1, 0)
    ReissueItem.update(attempts=failed).where(_held([item.key], owner)).execute()
    accept_items([item.key], owner)
    return failed + 1


def list_failures(run: ReissueRun) -> Iterator[ItemRecord]:
    """Yield the clients who could not be mailed, one at a time, in the order of the selection."""
    return _records((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))


def records(run: ReissueRun) -> Iterator[ItemRecord]:
    """Yield all clients of a run, one at a time, in the order of the selection."""
    return _records(ReissueItem.run == run)


def _records(condition: Any) -> Iterator[ItemRecord]:
    query = (
        ReissueItem.select(
            Client.identifier,
            Client.email,
            ReissueItem.line,
            ReissueItem.state,
            ReissueItem.failure,
            ReissueItem.details,
            ReissueItem.attempts,
        )
        .join(Client)
        .where(condition)
        .order_by(ReissueItem.id)
    )
    for identifier, email, line, state, failure, details, failed_attempts in stream_rows(query):
        attempts = failed_attempts + (state in {ItemState.ACCEPTED, ItemState.SENT})
        yield ItemRecord(identifier, email, line, ItemState(state), failure, details, attempts)


def _held(keys: Collection[int], owner: str) -> object:
    """Return the condition of those of the items that the owner still holds: another may have taken them over."""
    return in_list(ReissueItem.id, keys) & (ReissueItem.lease_owner == owner)
