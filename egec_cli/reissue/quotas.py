"""The pace of mails: when each may leave, so that all workers of a database together keep to a rate."""

from datetime import datetime, timedelta

from egec_cli.clock import TOLERANCE
from egec_cli.store.models import MailPace
from egec_cli.store.sql import fetch_tuples, lock_rows

_ONLY_ROW = 1
# Workers reserve no further ahead than this, so that the reservations of a dead worker are not missed.
_FURTHEST_AHEAD = timedelta(seconds=1)
# A clock that was wrong has made a reservation further ahead than this.
_FURTHEST_BELIEVED = _FURTHEST_AHEAD + TOLERANCE


def free_slots(rate: int, moment: datetime) -> int:
    """Return how many mails may be reserved at this moment, of `rate` a second; 0 if others have reserved them all.

    It runs inside a transaction of its caller, in which no other worker can reserve any.
    """
    return int((_FURTHEST_AHEAD - (_next(moment) - moment)) / timedelta(seconds=1) * rate)


def reserve_slots(mails: int, rate: int, moment: datetime) -> list[datetime]:
    """Return the moments at which these mails may leave, `rate` of them a second, after those that others reserved."""
    first, apart = _next(moment), timedelta(seconds=1) / rate
    MailPace.update(next_at=first + mails * apart).where(MailPace.id == _ONLY_ROW).execute()
    return [first + number * apart for number in range(mails)]


def _next(moment: datetime) -> datetime:
    MailPace.insert(id=_ONLY_ROW, next_at=moment).on_conflict_ignore().execute()
    (reserved,) = next(fetch_tuples(lock_rows(MailPace.select(MailPace.next_at).where(MailPace.id == _ONLY_ROW))))
    return max(moment, reserved) if reserved - moment <= _FURTHEST_BELIEVED else moment
