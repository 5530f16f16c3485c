"""Times: always aware, always UTC, in whole milliseconds."""

import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from egec_cli.errors import UsageError

Clock = Callable[[], datetime]

# The difference that is accepted between two clocks that should agree.
TOLERANCE = timedelta(seconds=5)


def now() -> datetime:
    """Return the current time in UTC, cut to milliseconds, the precision of the database."""
    return _in_milliseconds(datetime.now(UTC))


class ServerClock:
    """The clock of a server, read once and then advanced by this machine's boot time.

    A step of this machine's clock does not change it. Threads may share it.
    """

    def __init__(self, read: Callable[[], datetime]) -> None:
        self._read = read
        self.synchronize()

    def synchronize(self) -> None:
        """Read the server's clock again."""
        before = _seconds_since_boot()
        moment = self._read().astimezone(UTC)
        # One assignment, so that no thread sees half of it.
        self._reading = moment, (before + _seconds_since_boot()) / 2

    def __call__(self) -> datetime:
        """Return the current time as `now` does."""
        moment, read_at = self._reading
        return _in_milliseconds(moment + timedelta(seconds=_seconds_since_boot() - read_at))


def lies_ahead(moment: datetime | None, now: datetime, *, at_most: timedelta) -> bool:
    """Return whether a stored time is in the future.

    A time further ahead than `at_most` is ignored: it was written before a clock was set back.
    """
    return moment is not None and now <= moment <= now + at_most + TOLERANCE


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _seconds_since_boot() -> float:
    """Return a clock that is never set; on Linux it also counts while the machine is suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def to_rfc3339(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with milliseconds: `2026-11-24T03:30:00.000Z`.

    Such texts sort like the times.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_rfc3339_or_none(moment: datetime | None) -> str | None:
    """Return a time as `to_rfc3339` does, and None for None."""
    return None if moment is None else to_rfc3339(moment)


def to_local_text(moment: datetime) -> str:
    """Return a time for tables and cards, in this machine's time zone: `2026-11-25 05:30`."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def to_zoned_text(moment: datetime, *, with_seconds: bool = False) -> str:
    """Return a time for messages, which may be read elsewhere: `2026-11-25 05:30 CET`, in this machine's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z" if with_seconds else "%Y-%m-%d %H:%M %Z")


def parse_time(text: str) -> datetime:
    """Return the time that `to_rfc3339` wrote.

    Raises:
        ValueError: the text is not a date and time with an offset, or UTC has no such date.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no offset from UTC in {text!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"out of the years 1 to 9999 in UTC: {text!r}") from None


def parse_date_or_age(text: str, now: datetime, *, end_of_day: bool = False) -> datetime:
    """Return the time of a date in this machine's time zone, or of an age in days.

    Args:
        text: such as `2026-01-31` or `90d`.
        now: the time from which an age counts.
        end_of_day: return the end of a date rather than its beginning.

    Raises:
        UsageError: the text is neither.
    """
    try:
        if re.fullmatch(r"[0-9]{1,5}d", text):
            return now - timedelta(days=int(text[:-1]))
        return (datetime.strptime(text, "%Y-%m-%d") + timedelta(days=end_of_day)).astimezone().astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError("invalid date or age: {text!r}", "Write it as 2026-01-31 or as 90d.", text=text) from None
