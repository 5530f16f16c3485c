"""Times: always aware, always UTC, in whole milliseconds."""

import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo

from egec_cli.errors import ConfigError, UsageError

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


_local_zone = "UTC"


def show_times_in(zone: str) -> None:
    """Show local times in this time zone from now on: EGEC_TIMEZONE, whose days the options of commands mean too.

    As the language of operators, it is that of the process.
    """
    global _local_zone
    _local_zone = zone


def to_local_text(moment: datetime) -> str:
    """Return a time for tables and cards, in the time zone of the settings: `2026-11-25 05:30`.

    If this machine does not know the zone, the time is that of UTC and says so.
    """
    local, is_known = _to_local(moment)
    return f"{local:%Y-%m-%d %H:%M}" if is_known else f"{local:%Y-%m-%d %H:%M %Z}"


def to_last_day_text(end: datetime) -> str:
    """Return the last day, in the time zone of the settings, of what ends at a moment: `2026-11-25`."""
    local, _ = _to_local(end - timedelta(milliseconds=1))
    return local.date().isoformat()


def to_zoned_text(moment: datetime, *, with_seconds: bool = False) -> str:
    """Return a time for messages, which may be read elsewhere, as `to_local_text` does: `2026-11-25 05:30 CET`."""
    local, _ = _to_local(moment)
    return f"{local:%Y-%m-%d %H:%M:%S %Z}" if with_seconds else f"{local:%Y-%m-%d %H:%M %Z}"


def _to_local(moment: datetime) -> tuple[datetime, bool]:
    """Return a moment in the local zone, or in UTC, and whether this machine knows the zone."""
    try:
        return to_zone(moment, _local_zone), True
    except ConfigError:
        return moment.astimezone(UTC), False


def to_zone(moment: datetime, zone: str) -> datetime:
    """Return the same moment in a time zone such as `Europe/Paris`.

    Raises:
        ConfigError: this machine does not know the time zone.
    """
    return moment.astimezone(find_zone(zone))


def find_last_day(moment: datetime, days: int, zone: str) -> date:
    """Return the day of a time zone that is some days after the day of a moment.

    Raises:
        ConfigError: this machine does not know the time zone.
    """
    return to_zone(moment, zone).date() + timedelta(days=days)


def find_end_of_day(day: date, zone: str) -> datetime:
    """Return the first moment after a day of a time zone; a day may have 23 or 25 hours.

    Raises:
        ConfigError: this machine does not know the time zone.
    """
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), find_zone(zone)).astimezone(UTC)


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


def find_zone(name: str) -> tzinfo:
    """Return a time zone, such as `Europe/Paris`.

    Raises:
        ConfigError: this machine does not know it.
    """
    # Imported here: it takes 2 ms, and most commands need no time zone.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ConfigError(
            "the time zone {zone} of EGEC_TIMEZONE is not on this machine",
            "Install the package tzdata, from the system or with pip.",
            zone=name,
        ) from None


_MONTHS = {"m": 1, "y": 12}
_MINUTES = {"min": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}


def parse_date_or_age(text: str, now: datetime, *, zone: str, end_of_day: bool = False) -> datetime:
    """Return the time of a date, or of an age.

    An age is in minutes (`30min`), hours (`12h`), days (`90d`), weeks (`6w`), months (`12m`) or years (`2y`). A day of
    an age has 24 hours. Months and years are those of the calendar, at the same time of day: one month before 31 March
    is the last day of February.

    Args:
        text: such as `2026-01-31` or `90d`.
        now: the time from which an age counts.
        zone: the name of the time zone of dates, months and years: EGEC_TIMEZONE.
        end_of_day: return the end of a date rather than its beginning.

    Raises:
        UsageError: the text is neither.
        ConfigError: this machine does not know the time zone.
    """
    try:
        if match := re.fullmatch(r"([0-9]{1,5})(min|[hdwmy])", text):
            number, unit = int(match[1]), match[2]
            if unit in _MINUTES:
                return now.astimezone(UTC) - timedelta(minutes=number * _MINUTES[unit])
            here = now.astimezone(find_zone(zone))
            local = _months_before(here.replace(tzinfo=None), number * _MONTHS[unit])
        else:
            local = datetime.strptime(text, "%Y-%m-%d") + timedelta(days=end_of_day)
        return local.replace(tzinfo=find_zone(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            "invalid date or age: {text!r}",
            "Write it as 2026-01-31, or as an age: 30min, 12h, 90d, 6w, 12m or 2y.",
            text=text,
        ) from None


def parse_past(text: str, now: datetime, *, zone: str, option: str) -> datetime:
    """Return the time of a date or an age that must be in the past: a mistyped year would select everything.

    Raises:
        UsageError: it is invalid, 0 or in the future; names the option.
        ConfigError: this machine does not know the time zone.
    """
    moment, unit = parse_date_or_age(text, now, zone=zone), text.lstrip("0123456789")
    if unit.isalpha() and int(text.removesuffix(unit)) == 0:
        raise UsageError(
            "{option} {text}: an age must not be 0",
            "Use a longer age, such as 1d, or a date.",
            option=option,
            text=text,
        )
    if moment > now:
        raise UsageError(
            "{option} {text} is in the future",
            "Use {today} or an earlier day, or an age such as 90d.",
            option=option,
            text=text,
            today=to_zone(now, zone).date().isoformat(),
        )
    return moment


def _months_before(local: datetime, months: int) -> datetime:
    """Return the same time of day some months earlier, on the last day of a month that lacks the day."""
    # Imported here: most commands count no months.
    from calendar import monthrange

    year, month = divmod(local.year * 12 + local.month - 1 - months, 12)
    if year < 1:
        raise ValueError("before the year 1")
    return local.replace(year=year, month=month + 1, day=min(local.day, monthrange(year, month + 1)[1]))
