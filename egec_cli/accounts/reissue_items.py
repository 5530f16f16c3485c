"""The clients of a re-issue run, one by one: claimed by a worker, put off, given back, dealt with.

Every function here runs inside a transaction of its caller. A worker holds its items under a lease, which it extends
while it lives; those of one that is gone come back to the others.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from egec_cli.accounts import leases
from egec_cli.store import peewee
from egec_cli.store.database import among, execute_many, locked, streamed, tuples
from egec_cli.store.models import IS_HELD, IS_WAITING, Client, ItemState, ReissueItem, ReissueRun

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
        outcome: what became of the mail; of one that is dealt with, `accepted` or `failed`.
        failure: why it failed, as the code of an error.
        details: what the mail server said.
        attempts: how often a mail was tried.
    """

    identifier: str
    email: str | None
    line: int | None
    outcome: ItemState
    failure: str | None
    details: str | None
    attempts: int


def claim(run: ReissueRun, owner: str, most: int, *, at: datetime, until: datetime) -> Sequence[Claimed]:
    """Claim at most so many of the items that are due, those that have waited longest first.

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
    claimed = [Claimed(*row) for row in tuples(locked(due, skip_locked=True))]
    ReissueItem.update(state=ItemState.WORKING, lease_owner=owner, lease_until=until).where(
        among(ReissueItem.id, [item.key for item in claimed])
    ).execute()
    return claimed


def any_left(run: ReissueRun) -> bool:
    """Tell whether a client of the run is still to be dealt with."""
    left = (ReissueItem.select().where((ReissueItem.run == run) & condition) for condition in (IS_WAITING, IS_HELD))
    return any(items.exists() for items in left)


def free_abandoned(run: ReissueRun, moment: datetime) -> Sequence[Abandoned]:
    """Give back what is claimed by workers that are gone, or were not heard of for longer than their lease.

    Returns:
        Those of them whose mail was accepted: they need no other, but are to be settled.
    """
    holders = ReissueItem.select(ReissueItem.lease_owner).where((ReissueItem.run == run) & IS_HELD)
    gone = [owner for (owner,) in tuples(holders.distinct()) if leases.is_gone(owner)]
    abandoned = (
        (ReissueItem.run == run) & IS_HELD & (ReissueItem.lease_owner.in_(gone) | (ReissueItem.lease_until < moment))
    )
    ReissueItem.update(state=ItemState.WAITING, **_NOBODY).where(
        abandoned & (ReissueItem.state == ItemState.WORKING)
    ).execute()
    rows = ReissueItem.select(ReissueItem.id, ReissueItem.client, ReissueItem.lease_owner).where(abandoned)
    return [Abandoned(*row) for row in tuples(locked(rows, skip_locked=True))]


def extend(keys: Collection[int], owner: str, until: datetime) -> None:
    """Keep the leases of these items for longer."""
    ReissueItem.update(lease_until=until).where(_held(keys, owner)).execute()


def mark_sent(database: peewee.Database, keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted by the mail server, should this process end before it settles them."""
    execute_many(
        database,
        "UPDATE reissue_item SET state = 'sent' WHERE id = ? AND lease_owner = ?",
        [(key, owner) for key in keys],
    )


def accept(keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted."""
    ReissueItem.update(state=ItemState.ACCEPTED, failure=None, details=None, **_NOBODY).where(
        _held(keys, owner)
    ).execute()


def fail(item: Claimed, owner: str, failure: str, details: str) -> None:
    """Mark an item as failed, for the reason given: a stable word, and what the mail server said."""
    ReissueItem.update(
        state=ItemState.FAILED, failure=failure, details=details, attempts=item.attempts, **_NOBODY
    ).where(_held([item.key], owner)).execute()


def put_off(item: Claimed, owner: str, until: datetime, failure: str, details: str | None) -> None:
    """Let an item wait for its next attempt; the failure is that of the last one."""
    ReissueItem.update(
        state=ItemState.WAITING,
        not_before=until,
        failure=failure,
        details=details,
        attempts=item.attempts,
        **_NOBODY,
    ).where(_held([item.key], owner)).execute()


def give_back(keys: Collection[int], owner: str) -> None:
    """Let others have these items at once."""
    ReissueItem.update(state=ItemState.WAITING, **_NOBODY).where(_held(keys, owner)).execute()


def failures(run: ReissueRun) -> Iterator[ItemRecord]:
    """Yield the clients whom the run could not mail, one at a time, in the order of the selection."""
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
        .where((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))
        .order_by(ReissueItem.id)
    )
    for identifier, email, line, state, *others in streamed(query):
        yield ItemRecord(identifier, email, line, ItemState(state), *others)


def _held(keys: Collection[int], owner: str) -> object:
    """Return the condition of those of the items that the owner still holds: another may have taken them over."""
    return among(ReissueItem.id, keys) & (ReissueItem.lease_owner == owner)
