"""Limits on the acts of a subject, such as 10 requests an hour from one network.

The times of the acts that count are kept in one row for each subject, so a limit holds for any period of its length. An
act is counted before it begins, in a transaction of its own that locks the row: however many processes count at once,
no more acts are allowed than the limit says. Acts beyond the limit do not count, so they do not prolong anything.

`count_act` waits for the row of its subject while it holds no other lock. `forget_act` may hold the row of the client
or, for a request, that of the network; those are always locked first. So no two transactions wait for each other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from egec_cli.clock import TOLERANCE
from egec_cli.context import Context
from egec_cli.settings.schema import Limit
from egec_cli.store.models import RateCount
from egec_cli.store.sql import brief_transaction, delete_ended, fetch_tuples, lock_rows

# The rows without effect that each count deletes: more than it can add, so their number shrinks.
_PRUNED_PER_COUNT = 20
_PRUNED_AT_ONCE = 1000
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counted(NamedTuple):
    """An act that was counted.

    Attributes:
        subject: what it was counted for.
        is_within: whether the limits allow it.
        time: when it was counted, in milliseconds since 1970.
        beyond: how many acts were beyond the limits since the last one within them, this one included.
    """

    subject: str
    is_within: bool
    time: int
    beyond: int

    @property
    def is_recorded(self) -> bool:
        """Whether a log should record it: all acts within the limits, then the 1st, 10th, 100th and so on beyond."""
        return self.is_within or str(self.beyond).rstrip("0") == "1"


def count_act(context: Context, subject: str, limits: Sequence[Limit]) -> Counted:
    """Count an act of a subject and return whether the limits allow it.

    Args:
        subject: a word and a number or a hash; never an address.
        limits: at least one.
    """
    # A crash of the machine may undo it, as it ends the act too.
    with brief_transaction(context.database):
        ends_at = context.clock()
        # It locks the row, whether it is new or not.
        RateCount.insert(subject=subject, times="", beyond=0, ends_at=ends_at).on_conflict(
            conflict_target=[RateCount.subject], update={RateCount.beyond: RateCount.beyond}
        ).execute()
        query = RateCount.select(RateCount.times, RateCount.beyond).where(RateCount.subject == subject)
        stored, beyond = next(fetch_tuples(query))
        # Read the clock while the row is locked, so that the times are in order.
        now = context.clock()
        longest = timedelta(seconds=max(limit.seconds for limit in limits))
        # A time ahead was counted before the clock was set back.
        times = [time for time in _parse(stored) if now - longest < _to_moment(time) <= now + TOLERANCE]
        is_within = all(_count_since(times, now, limit) < limit.number for limit in limits)
        time = _to_milliseconds(now)
        if is_within:
            times.append(time)
        beyond = 0 if is_within else beyond + 1
        ends_at = _to_moment(times[-1]) + longest if times else now
        _store(subject, times, beyond, ends_at)
        delete_ended(RateCount, now, most=_PRUNED_PER_COUNT)
        return Counted(subject, is_within, time, beyond)


def forget_act(counted: Counted) -> None:
    """Take back an act that was counted, within a transaction: it came to nothing, or need not be limited."""
    rows = RateCount.select(RateCount.times, RateCount.beyond, RateCount.ends_at)
    found = next(fetch_tuples(lock_rows(rows.where(RateCount.subject == counted.subject))), None)
    if found is not None:
        stored, beyond, ends_at = found
        times = _parse(stored)
        if counted.time in times:
            times.remove(counted.time)
            _store(counted.subject, times, beyond, ends_at)


def prune_counts(context: Context) -> None:
    """Delete the rows that have no more effect."""
    now = context.clock()
    deleted = _PRUNED_AT_ONCE
    while deleted == _PRUNED_AT_ONCE:
        with brief_transaction(context.database):
            deleted = delete_ended(RateCount, now, most=_PRUNED_AT_ONCE)


def _store(subject: str, times: Sequence[int], beyond: int, ends_at: datetime) -> None:
    values = {RateCount.times: " ".join(map(str, times)), RateCount.beyond: beyond, RateCount.ends_at: ends_at}
    RateCount.update(values).where(RateCount.subject == subject).execute()


def _count_since(times: Sequence[int], now: datetime, limit: Limit) -> int:
    begin = now - timedelta(seconds=limit.seconds)
    return sum(_to_moment(time) > begin for time in times)


def _parse(stored: str) -> list[int]:
    return [int(time) for time in stored.split()]


def _to_milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _to_moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
