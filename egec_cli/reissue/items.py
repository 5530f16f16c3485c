"""The clients of a run, as items that workers claim, defer, give back and finish.

Every function here runs inside its caller's transaction. A worker holds its items under a lease, which it renews
while it works. When the lease or the worker has certainly ended, other workers take over its items.
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

_NO_LEASE = {"lease_owner": None, "lease_until": None}


class ClaimedItem(NamedTuple):
    """A claimed item.

    Attributes:
        key: its key.
        client: its client's key.
        line: the line of `--from` that named the client.
        attempts: its failed attempts.
        tried_since: the moment of the first of them, without the time for which the item was due.
    """

    key: int
    client: int
    line: int | None
    attempts: int
    tried_since: datetime | None


class DeferredItem(NamedTuple):
    """A deferred item: its key, its failed attempts, and how many of the last of them do not count."""

    key: int
    attempts: int
    taken_back: int


class AbandonedItem(NamedTuple):
    """An item whose worker has ended: its key, its client's key, and the owner of its lease."""

    key: int
    client: int
    owner: str


class ItemRecord(NamedTuple):
    """One client of a run.

    Attributes:
        identifier: the client's identifier.
        email: the registered e-mail; None if the client was erased.
        line: the line of the `--from` file that named the client; None without such a file.
        outcome: the state of the mail: at the end `accepted`, `failed`, or `skipped` if the client has got a newer
            password since the start of the run.
        failure: why it failed, as an error code.
        details: the mail server's reply.
        attempts: how often a mail was tried, including the accepted one, since the start or the last retry.
    """

    identifier: str
    email: str | None
    line: int | None
    outcome: ItemState
    failure: str | None
    details: str | None
    attempts: int


def claim_items(run: ReissueRun, owner: str, limit: int, *, at: datetime, until: datetime) -> Sequence[ClaimedItem]:
    """Claim due items up to this limit, starting with those that have waited longest.

    Workers that claim at the same time do not wait for each other. The time for which an item was due without an active
    worker does not count as a time for which its mail was tried.
    """
    if limit <= 0:
        return []
    due = (
        ReissueItem.select(
            ReissueItem.id,
            ReissueItem.client,
            ReissueItem.line,
            ReissueItem.attempts,
            ReissueItem.tried_since,
            ReissueItem.not_before,
        )
        .where((ReissueItem.run == run) & IS_WAITING & (ReissueItem.not_before <= at))
        .order_by(ReissueItem.not_before, ReissueItem.id)
        .limit(limit)
    )
    claimed = []
    for key, client, line, attempts, tried_since, due_at in fetch_tuples(lock_rows(due, skip_locked=True)):
        late = at - due_at
        since = None if tried_since is None else tried_since + late
        claimed.append(ClaimedItem(key, client, line, attempts, since))
    ReissueItem.update(state=ItemState.WORKING, lease_owner=owner, lease_until=until).where(
        in_list(ReissueItem.id, [item.key for item in claimed])
    ).execute()
    return claimed


def has_items_left(run: ReissueRun) -> bool:
    """Return whether the run has unfinished items."""
    left = (ReissueItem.select().where((ReissueItem.run == run) & condition) for condition in (IS_WAITING, IS_HELD))
    return any(items.exists() for items in left)


def has_other_workers(run: ReissueRun, owner: str, moment: datetime) -> bool:
    """Return whether other workers hold clients of the run."""
    is_held_by_others = (ReissueItem.lease_owner != owner) & (ReissueItem.lease_until > moment)
    return bool(ReissueItem.select().where((ReissueItem.run == run) & IS_HELD & is_held_by_others).exists())


def next_due(run: ReissueRun) -> datetime | None:
    """Return when the next waiting client of the run is due; None if no client waits."""
    return _find_due(run, ReissueItem.not_before)


def last_due(run: ReissueRun) -> datetime | None:
    """Return when the last waiting client of the run is due; None if no client waits."""
    return _find_due(run, ReissueItem.not_before.desc())


def _find_due(run: ReissueRun, order: Any) -> datetime | None:
    waiting = ReissueItem.select(ReissueItem.not_before).where((ReissueItem.run == run) & IS_WAITING)
    due: datetime | None = waiting.order_by(order).scalar()
    return due


def make_due(run: ReissueRun, moment: datetime) -> None:
    """Make all waiting clients of the run due."""
    _update_unlocked((ReissueItem.run == run) & IS_WAITING & (ReissueItem.not_before > moment), not_before=moment)


def has_more_left(run: ReissueRun, number: int) -> bool:
    """Return whether more than this number of items of the run are unfinished."""
    of_run = ReissueItem.select(ReissueItem.id).where(ReissueItem.run == run)
    waiting = number - of_run.where(IS_HELD).count()
    return waiting < 0 or any(fetch_tuples(of_run.where(IS_WAITING).limit(1).offset(waiting)))


def free_abandoned_items(run: ReissueRun, moment: datetime) -> Sequence[AbandonedItem]:
    """Give back the items of workers that have ended, or have not renewed their lease in time.

    Returns:
        Those whose mail was accepted: they need no further mail, and must be settled.
    """
    held = (ReissueItem.run == run) & IS_HELD
    gone = [owner for owner in _lease_owners(run) if leases.is_owner_gone(owner)]
    until = moment + leases.LEASE
    # The clock was set back after these leases were written: they end no later than a lease from now would.
    _update_unlocked(held & (ReissueItem.lease_until > until), lease_until=until)
    abandoned = held & (ReissueItem.lease_owner.in_(gone) | (ReissueItem.lease_until < moment))
    # They come after the others: a run that crashes again and again must not leave the same clients in doubt each time.
    freed = {"state": ItemState.WAITING, "not_before": moment, **_NO_LEASE}
    _update_unlocked(abandoned & (ReissueItem.state == ItemState.WORKING), **freed)
    rows = ReissueItem.select(ReissueItem.id, ReissueItem.client, ReissueItem.lease_owner).where(abandoned)
    return [AbandonedItem(*row) for row in fetch_tuples(lock_rows(rows, skip_locked=True))]


def all_owners_are_gone(run: ReissueRun) -> bool:
    """Return whether workers hold items of the run, and all of them have certainly ended."""
    owners = _lease_owners(run)
    return bool(owners) and all(map(leases.is_owner_gone, owners))


def _lease_owners(run: ReissueRun) -> list[str]:
    held = (ReissueItem.run == run) & IS_HELD
    return [owner for (owner,) in fetch_tuples(ReissueItem.select(ReissueItem.lease_owner).where(held).distinct())]


def end_waits_too_long(run: ReissueRun, moment: datetime, longest: Mapping[int, timedelta]) -> None:
    """Make items due that wait longer than `longest` allows for their number of failed attempts.

    They were deferred before the clock was set back. The longest wait is that of all higher numbers too.
    """
    bounds = {attempts: moment + wait + TOLERANCE for attempts, wait in longest.items()}
    most = max(bounds)
    too_long = [
        ((ReissueItem.attempts >= attempts) if attempts == most else (ReissueItem.attempts == attempts))
        & (ReissueItem.not_before > end)
        for attempts, end in bounds.items()
    ]
    is_due_late = (ReissueItem.run == run) & IS_WAITING & (ReissueItem.not_before > min(bounds.values()))
    _update_unlocked(is_due_late & reduce(or_, too_long), not_before=moment)


def _update_unlocked(condition: Any, **new: object) -> None:
    """Update the items that meet the condition, except those that another worker has locked."""
    rows = lock_rows(ReissueItem.select(ReissueItem.id).where(condition), skip_locked=True)
    if keys := [key for (key,) in fetch_tuples(rows)]:
        ReissueItem.update(**new).where(in_list(ReissueItem.id, keys)).execute()


def extend_items(keys: Collection[int], owner: str, until: datetime) -> None:
    """Renew the leases of these items."""
    _update_held(keys, owner, lease_until=until)


def mark_sent(database: peewee.Database, keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted by the mail server, in case this process ends before it settles them."""
    execute_many(
        database,
        "UPDATE reissue_item SET state = 'sent' WHERE id = ? AND lease_owner = ?",
        [(key, owner) for key in keys],
    )


def accept_items(keys: Collection[int], owner: str) -> None:
    """Mark these items as accepted."""
    _update_held(keys, owner, state=ItemState.ACCEPTED, failure=None, details=None, **_NO_LEASE)


def fail_item(item: ClaimedItem, owner: str, failure: str, details: str) -> None:
    """Mark an item as failed; `failure` is an error code, `details` the mail server's reply."""
    new = {"failure": failure, "details": details, "attempts": item.attempts}
    _update_held([item.key], owner, state=ItemState.FAILED, **new, **_NO_LEASE)


def skip_item(item: ClaimedItem, owner: str) -> None:
    """Mark an item as skipped."""
    new = {"failure": None, "details": None, "attempts": item.attempts}
    _update_held([item.key], owner, state=ItemState.SKIPPED, **new, **_NO_LEASE)


def defer_item(item: ClaimedItem, owner: str, until: datetime, failure: str, details: str | None) -> None:
    """Let an item wait for its next attempt, with the failure of the last one."""
    new = {"not_before": until, "failure": failure, "details": details, "attempts": item.attempts}
    _update_held([item.key], owner, state=ItemState.WAITING, tried_since=item.tried_since, **new, **_NO_LEASE)


def give_back_items(keys: Collection[int], owner: str, *, due: datetime | None = None) -> None:
    """Make these items free for any worker now.

    Args:
        due: a new time from which they wait, so that those who have waited longer come first.
    """
    new: dict[str, object] = {} if due is None else {"not_before": due}
    _update_held(keys, owner, state=ItemState.WAITING, **new, **_NO_LEASE)


def take_back_attempts(deferred: Sequence[DeferredItem], moment: datetime) -> None:
    """Make deferred items due, and do not count their last failed attempts.

    Items that were claimed again meanwhile stay as they are.
    """
    for one in deferred:
        attempts = max(one.attempts - one.taken_back, 0)
        ReissueItem.update(attempts=attempts, not_before=moment).where(
            (ReissueItem.id == one.key) & IS_WAITING & (ReissueItem.attempts == one.attempts)
        ).execute()


def accept_proven_item(item: ClaimedItem, owner: str) -> int:
    """Accept an item whose mail was in doubt until a login proved its arrival. Return the number of its attempts."""
    # That attempt was counted as a failed one, unless the worker was killed before.
    failed = max(item.attempts - 1, 0)
    _update_held([item.key], owner, attempts=failed)
    accept_items([item.key], owner)
    return failed + 1


def _update_held(keys: Collection[int], owner: str, **new: object) -> None:
    """Update those of the items that this owner still holds: other workers may have taken them over."""
    ReissueItem.update(**new).where(in_list(ReissueItem.id, keys) & (ReissueItem.lease_owner == owner)).execute()


def list_failures(run: ReissueRun) -> Iterator[ItemRecord]:
    """Yield the clients who could not be mailed, one at a time, in the order of the selection."""
    return _load_records((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))


def list_items(run: ReissueRun) -> Iterator[ItemRecord]:
    """Yield all clients of a run, one at a time, in the order of the selection."""
    return _load_records(ReissueItem.run == run)


def _load_records(condition: Any) -> Iterator[ItemRecord]:
    item = ReissueItem
    columns = (Client.identifier, Client.email, item.line, item.state, item.failure, item.details, item.attempts)
    query = item.select(*columns).join(Client).where(condition).order_by(item.id)
    for identifier, email, line, state, failure, details, failed_attempts in stream_rows(query):
        attempts = failed_attempts + (state in {ItemState.ACCEPTED, ItemState.SENT})
        yield ItemRecord(identifier, email, line, ItemState(state), failure, details, attempts)
