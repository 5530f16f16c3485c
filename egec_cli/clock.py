"""The time: always aware, always UTC, in whole milliseconds."""

import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from egec_cli.errors import UsageError

Clock = Callable[[], datetime]

# Two readings of clocks that should agree may differ by this much.
TOLERANCE = timedelta(seconds=5)


def now() -> datetime:
    """Return the present moment in UTC, cut to milliseconds, the precision that is stored."""
    return _in_milliseconds(datetime.now(UTC))


class ServerClock:
    """The clock of a server, read once and then counted on from that reading.

    A step of this machine's clock does not change it. Threads may share it.
    """

    def __init__(self, read: Callable[[], datetime]) -> None:
        """Read the server's clock by calling `read`."""
        self._read = read
        self.synchronize()

    def synchronize(self) -> None:
        """Read the server's clock again."""
        before = _seconds_since_boot()
        moment = self._read().astimezone(UTC)
        # Assigned at once, so that no thread sees half of it.
        self._reading = moment, (before + _seconds_since_boot()) / 2

    def __call__(self) -> datetime:
        """Return the present moment as `now` does."""
        moment, read_at = self._reading
        return _in_milliseconds(moment + timedelta(seconds=_seconds_since_boot() - read_at))


def lies_ahead(moment: datetime | None, now: datetime, *, at_most: timedelta) -> bool:
    """Tell whether a stored moment is still to come.

    A moment further ahead than `at_most` is not believed: a clock that was set back has written it.
    """
    return moment is not None and now <= moment <= now + at_most + TOLERANCE


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _seconds_since_boot() -> float:
    """Return the reading of a clock that is never set, and that goes on while the machine is suspended if possible."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def to_rfc3339(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 in UTC with milliseconds: `2026-11-24T03:30:00.000Z`.

    Texts of this form sort as the moments do.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_rfc3339_or_none(moment: datetime | None) -> str | None:
    """Return a moment as `rfc3339` does, and None for None."""
    return None if moment is None else to_rfc3339(moment)


def parse_time(text: str) -> datetime:
    """Return the moment that `rfc3339` wrote.

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
    """Return the moment of a date, in this machine's zone, or of so many days ago.

    Args:
        text: such as `2026-01-31` or `90d`.
        now: the present moment.
        end_of_day: of a date, the moment at which it is over rather than that at which it begins.

    Raises:
        UsageError: it is neither.
    """
    try:
        if re.fullmatch(r"[0-9]{1,5}d", text):
            return now - timedelta(days=int(text[:-1]))
        return (datetime.strptime(text, "%Y-%m-%d") + timedelta(days=end_of_day)).astimezone().astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "{text!r} is neither a date nor an age", "Write it as 2026-01-31 or as 90d.", text=text
        ) from None
