"""Quotas: the maximum number of mails in any second, minute, hour or day, across all processes that share a database.

A mail counts from its reservation until a window after the moment when it certainly had reached the mail server. That
moment, `MailCount.ends_at`, is that of the answer; before the answer it is the end of a lease that its issuer renews.
A mail may leave when fewer mails than the quota end later than one window before that. This keeps each quota in every
window as the mail server sees it:

1. Of the mails that reach the server within a window, take the last one to be reserved: it leaves before it arrives.
2. Each of the others arrived less than a window earlier, or later, and never after its `ends_at`, so it was counted.
3. Fewer mails than the quota were counted, so with this mail the window holds at most the quota.

So a window lasts longer by the time of one answer. The mails of a killed process count until its lease ends, or until
another process on its machine finds it gone. If the machine's clock is set forward, older mails stop
counting too early.

All functions but `take_place` and the methods of its `Place` run inside their caller's transaction.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from egec_cli.clock import TOLERANCE, to_zoned_text
from egec_cli.context import Context
from egec_cli.credentials.leases import LEASE, is_owner_gone
from egec_cli.errors import TemporaryFailure
from egec_cli.settings.parsing import LONGEST_WINDOW, format_rate
from egec_cli.settings.types import Limit, Rate
from egec_cli.store import peewee
from egec_cli.store.models import MailCount, MailPace
from egec_cli.store.sql import delete_ended, fetch_tuples, in_list, lock_rows

# Workers reserve at most this far ahead, so that little is lost when one dies.
FURTHEST_AHEAD = timedelta(seconds=0.5)
# How long a single mail waits for its place, in seconds.
PATIENCE = 15.0
# How often it looks for a place that opens when a mail is answered, in seconds.
_PAUSE = 0.1
# Quotas with windows of at least this length have a reserve, in seconds.
_RESERVED_FROM = 3600
_ONLY_ROW = 1
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Older counts have ended for every quota.
_OLDEST = timedelta(seconds=LONGEST_WINDOW) + LEASE
# At most this many rows are deleted at once, so that no command waits for it.
_MOST_PRUNED = 1000

_IS_ANSWERED = MailCount.owner.is_null()


class RunLimits(NamedTuple):
    """What limits the mails of a run.

    Attributes:
        rate: the quotas.
        reserve: percent of the quotas per hour and day that runs leave for single mails.
        slowest: mails per second that the mail server accepts at present; None if it accepts any number.
    """

    rate: Rate
    reserve: int
    slowest: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether anything limits them."""
        return bool(self.rate or self.slowest)

    @property
    def shares(self) -> list[Limit]:
        """The parts of the quotas that runs may use, the shortest window first."""
        return [
            quota._replace(number=max(1, quota.number * (100 - self.reserve) // 100))
            if quota.seconds >= _RESERVED_FROM
            else quota
            for quota in self.rate
        ]

    @property
    def interval(self) -> timedelta:
        """The least time between two mails of runs."""
        slowest = timedelta(seconds=1 / self.slowest) if self.slowest else timedelta()
        return max([slowest, *map(_interval_of, self.shares[:1])])


def _interval_of(quota: Limit) -> timedelta:
    return timedelta(seconds=quota.seconds) / quota.number


def _window_of(quota: Limit) -> timedelta:
    return timedelta(seconds=quota.seconds)


def expected_duration(limits: RunLimits, mails: int, at: datetime) -> float:
    """Return about how long this number of mails of a run takes from now on, in seconds, if no other mail follows."""
    spread = [_interval_of(share) for share in limits.shares[1:] if mails > _count_free(share, at)]
    return mails * max([limits.interval, *spread]).total_seconds()


def plan_departures(
    limits: RunLimits, at: datetime, *, wanted: int, has_more_than: Callable[[int], bool]
) -> list[datetime]:
    """Return when the next mails of runs may leave: up to `wanted`, within `FURTHEST_AHEAD`; pass them to `reserve`.

    They are spread over the shortest window. They are also spread over each longer window whose free part is smaller
    than the rest of the run. No other process can plan any until the caller's transaction ends.

    Args:
        has_more_than: returns whether more than a number of the run's mails are still to leave.
    """
    if wanted <= 0:
        return []
    last, interval = _lock_last_departure(at), limits.interval
    if last + interval > at + FURTHEST_AHEAD:
        return []
    _end_invalid_counts(at)
    openings = []
    for number, share in enumerate(limits.shares):
        free = _count_free(share, at)
        openings.append(_list_openings(share, free, at, wanted))
        if number and has_more_than(max(free, 0)):
            interval = max(interval, _interval_of(share))
    departures: list[datetime] = []
    moment = max(at, last + interval)
    for earliest in zip(*openings, strict=False) if openings else [()] * wanted:
        moment = max(moment, *earliest, at)
        if moment > at + FURTHEST_AHEAD:
            break
        departures.append(moment)
        moment += interval
    return departures


def find_next_departure(limits: RunLimits, at: datetime, *, only_read: bool = False) -> datetime:
    """Return when the next mail of a run may leave, as far as is known now: later if other mails come first.

    Args:
        only_read: lock and correct nothing, so that mails of issuers that have ended still count.
    """
    if only_read:
        last = _valid_departure(_stored_departures().scalar() or _NEVER, at)
    else:
        last = _lock_last_departure(at)
        _end_invalid_counts(at)
    openings = [_find_first_opening(share, at) for share in limits.shares]
    return max([at, last + limits.interval, *openings])


def reserve(limits: RunLimits, departures: Sequence[datetime], owner: str) -> int | None:
    """Count mails of a run that leave at these moments, and return the key of their reservation.

    Args:
        owner: the issuer that sends them, in the format of a lease.

    Returns:
        None without quotas: then only the time between mails is kept.
    """
    MailPace.update(last_at=departures[-1]).where(MailPace.id == _ONLY_ROW).execute()
    return _insert_reservation(len(departures), departures[-1] + LEASE, owner) if limits.rate else None


def extend_reservations(keys: Collection[int], owner: str, at: datetime) -> None:
    """Renew these reservations of an issuer that is alive."""
    until = at + LEASE
    MailCount.update(ends_at=until).where(_is_held(keys, owner) & (MailCount.ends_at < until)).execute()


def settle_mails(mails: Iterable[tuple[int, datetime | None]], owner: str, at: datetime) -> None:
    """Replace parts of an owner's reservations by the real ends of their mails.

    Args:
        mails: for each mail, the key of its reservation and when it was answered; None if it was not sent.
    """
    settled, ends = Counter[int](), Counter[datetime]()
    for key, answered_at in mails:
        settled[key] += 1
        if answered_at is not None:
            ends[_round_up(answered_at)] += 1
    if not settled:
        return
    for key, number in settled.items():
        MailCount.update(mails=MailCount.mails - number).where(_is_held([key], owner)).execute()
    MailCount.delete().where(_is_held(settled, owner) & (MailCount.mails <= 0)).execute()
    if ends:
        MailCount.insert_many([{"ends_at": end, "mails": number} for end, number in ends.items()]).execute()
    delete_ended(MailCount, at - _OLDEST, most=_MOST_PRUNED)


class Place(NamedTuple):
    """The reservation of one single mail."""

    key: int
    owner: str

    def extend(self, context: Context) -> None:
        """Renew the reservation."""
        extend_reservations([self.key], self.owner, context.clock())

    def settle(self, at: datetime) -> None:
        """Count the mail until now, within the caller's transaction."""
        settle_mails([(self.key, at)], self.owner, at)

    def give_back(self, context: Context) -> None:
        """Stop counting the mail, which was not sent."""
        with context.database.atomic():
            settle_mails([(self.key, None)], self.owner, context.clock())


def take_place(context: Context, owner: str, *, patience: float = PATIENCE, reserve: int = 0) -> Place:
    """Reserve a place for a single mail, which comes before those of runs, and wait until the mail may leave.

    Args:
        owner: the issuer that sends it, in the format of a lease.
        patience: how long to wait at most, in seconds.
        reserve: percent of the quotas per hour and day to leave for others.

    Raises:
        TemporaryFailure: the quotas allow no mail in this time.
    """
    rate, deadline = tuple(RunLimits(context.settings.mail_rate, reserve).shares), time.monotonic() + patience
    with context.database.atomic():
        if rate:
            _lock_last_departure(context.clock())
        place = Place(_insert_reservation(1, context.clock() + LEASE, owner), owner)
        wait = _find_wait(rate, place, context.clock(), deadline - time.monotonic())
    try:
        while wait is None:
            time.sleep(_PAUSE)
            with context.database.atomic():
                _lock_last_departure(context.clock())
                wait = _find_wait(rate, place, context.clock(), deadline - time.monotonic())
        time.sleep(wait)
    except BaseException:
        # If this fails too, the reservation ends with its lease.
        with suppress(peewee.PeeweeException):
            place.give_back(context)
        raise
    return place


def _find_wait(rate: Rate, place: Place, at: datetime, patience: float) -> float | None:
    """Return how long a single mail has to wait, in seconds; None if that depends on answers under way.

    Mails that others reserved later are not counted: they count this one.

    Raises:
        TemporaryFailure: longer than the patience.
    """
    if not rate:
        return 0.0
    _end_invalid_counts(at)
    comes_first = _IS_ANSWERED | (MailCount.id < place.key)
    openings = {quota: max(at, _find_first_opening(quota, at, comes_first)) for quota in rate}
    for quota, opening in sorted(openings.items(), key=lambda one: one[1], reverse=True):
        # An answer opens a place one window later.
        if opening > at + timedelta(seconds=patience) and quota.seconds > patience:
            raise TemporaryFailure(
                "the quota {quota} allows no mail before {moment}",
                "Nothing was changed. Run the same command again at that time.",
                code="mail_quota_reached",
                quota=format_rate((quota,)),
                moment=to_zoned_text(opening, with_seconds=True),
            )
    last = max(openings.values())
    if last > at + timedelta(seconds=patience):
        return None
    MailCount.update(ends_at=_round_up(last + LEASE)).where(_is_held([place.key], place.owner)).execute()
    return (last - at).total_seconds()


def _lock_last_departure(at: datetime) -> datetime:
    """Return when the last mail of runs leaves, and keep other processes from planning until the transaction ends."""
    rows = _stored_departures()
    found = next(fetch_tuples(lock_rows(rows)), None)
    if found is None:
        MailPace.insert(id=_ONLY_ROW, last_at=_NEVER).on_conflict_ignore().execute()
        found = next(fetch_tuples(lock_rows(rows)))
    return _valid_departure(found[0], at)


def _stored_departures() -> Any:
    return MailPace.select(MailPace.last_at).where(MailPace.id == _ONLY_ROW)


def _valid_departure(last: datetime, at: datetime) -> datetime:
    # A time further ahead was written before the clock was set back.
    return last if last <= at + FURTHEST_AHEAD + TOLERANCE else _NEVER


def _end_invalid_counts(at: datetime) -> None:
    """Shorten the counts of issuers that have certainly ended, and those written before the clock was set back."""
    MailCount.update(ends_at=at).where(_IS_ANSWERED & (MailCount.ends_at > at + TOLERANCE)).execute()
    furthest = at + LEASE + timedelta(seconds=PATIENCE) + TOLERANCE
    MailCount.update(ends_at=at + LEASE).where(~_IS_ANSWERED & (MailCount.ends_at > furthest)).execute()
    is_held = ~_IS_ANSWERED & (MailCount.ends_at > at)
    owners = fetch_tuples(MailCount.select(MailCount.owner).where(is_held).distinct())
    if gone := [owner for (owner,) in owners if is_owner_gone(owner)]:
        # The system may still send what it holds of their connections.
        last = at + TOLERANCE
        MailCount.update(ends_at=last, owner=None).where(
            MailCount.owner.in_(gone) & (MailCount.ends_at > last)
        ).execute()


def _count_free(quota: Limit, at: datetime, *conditions: Any) -> int:
    """Return how many mails the quota allows at this moment; below 0 if more are counted than it allows."""
    is_counted = MailCount.ends_at > at - _window_of(quota)
    counted = MailCount.select(peewee.fn.SUM(MailCount.mails)).where(is_counted, *conditions).scalar()
    return quota.number - int(counted or 0)


def _list_openings(quota: Limit, free: int, at: datetime, wanted: int, *conditions: Any) -> list[datetime]:
    """Return from when each of the next `wanted` mails is allowed, of which `free` are allowed already."""
    openings = [at] * min(max(free, 0), wanted)
    if free >= wanted:
        return openings
    window = _window_of(quota)
    rows = MailCount.select(MailCount.ends_at, MailCount.mails).where(MailCount.ends_at > at - window, *conditions)
    for ends_at, mails in fetch_tuples(rows.order_by(MailCount.ends_at).limit(wanted - free)):
        openings += [ends_at + window] * (max(free + mails, 0) - max(free, 0))
        free += mails
    return openings[:wanted]


def _find_first_opening(quota: Limit, at: datetime, *conditions: Any) -> datetime:
    [opening] = _list_openings(quota, _count_free(quota, at, *conditions), at, 1, *conditions)
    return opening


def _insert_reservation(mails: int, ends_at: datetime, owner: str) -> int:
    key: int = MailCount.insert(mails=mails, ends_at=_round_up(ends_at), owner=owner).execute()
    return key


def _is_held(keys: Collection[int], owner: str) -> Any:
    return in_list(MailCount.id, list(keys)) & (MailCount.owner == owner)


def _round_up(moment: datetime) -> datetime:
    """Return the end of the moment's millisecond: the database cuts times to milliseconds."""
    return moment + _MILLISECOND if moment.microsecond % 1000 else moment
