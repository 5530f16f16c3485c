"""The time: always aware, always UTC, in whole milliseconds."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the present moment in UTC, cut to milliseconds, the precision that is stored."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 in UTC with milliseconds: `2026-11-24T03:30:00.000Z`.

    Texts of this form sort as the moments do.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def rfc3339_or_none(moment: datetime | None) -> str | None:
    """Return a moment as `rfc3339` does, and None for None."""
    return None if moment is None else rfc3339(moment)


def parse(text: str) -> datetime:
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
