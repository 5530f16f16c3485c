"""The rate limit of mails: when each may leave, so that all workers of a database together keep to a rate."""

from datetime import datetime, timedelta

from egec_cli.clock import TOLERANCE
from egec_cli.store.models import MailPace
from egec_cli.store.sql import fetch_tuples, lock_rows

_ONLY_ROW = 1
# Workers reserve at most this far ahead, so that the unused reservations of a dead worker cost little time.
_FURTHEST_AHEAD = timedelta(seconds=1)
# A reservation further ahead than this was made by a wrong clock and is ignored.
_FURTHEST_VALID = _FURTHEST_AHEAD + TOLERANCE


def free_slots(rate: int, moment: datetime) -> int:
    """Return how many mails may be reserved now, at `rate` per second; 0 or less if other workers reserved them all.

    No other worker can reserve any until the caller's transaction ends.
    """
    return int((_FURTHEST_AHEAD - (_next_slot(moment) - moment)) / timedelta(seconds=1) * rate)


def reserve_slots(mails: int, rate: int, moment: datetime) -> list[datetime]:
    """Reserve and return the moments at which these mails may leave, at `rate` per second, after those of others."""
    first, interval = _next_slot(moment), timedelta(seconds=1) / rate
    MailPace.update(next_at=first + mails * interval).where(MailPace.id == _ONLY_ROW).execute()
    return [first + number * interval for number in range(mails)]


def _next_slot(moment: datetime) -> datetime:
    MailPace.insert(id=_ONLY_ROW, next_at=moment).on_conflict_ignore().execute()
    (reserved,) = next(fetch_tuples(lock_rows(MailPace.select(MailPace.next_at).where(MailPace.id == _ONLY_ROW))))
    return max(moment, reserved) if reserved - moment <= _FURTHEST_VALID else moment
