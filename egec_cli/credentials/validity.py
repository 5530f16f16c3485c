"""The validity of an account: from the day `valid_from` to the day `valid_until`, both included, in EGEC_TIMEZONE.

A day is what the clocks of the time zone show, so it may last 23 or 25 hours. Without a date, the validity has no
beginning or no end. Outside it, the client can neither sign in nor get a password.

An unused password expires at the end of a day too: `find_expiry`.
"""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.settings.types import Settings
from egec_cli.store.models import Client

# Clocks of any time zone differ from UTC by less.
_FURTHEST = timedelta(days=1)


class LocalMoment:
    """A moment, and its day in EGEC_TIMEZONE.

    Most questions need no time zone, as the dates are more than a day away. It is loaded only if it
    decides, as that takes 2 ms.
    """

    def __init__(self, at: datetime, zone: str) -> None:
        """Describe a moment in a time zone."""
        self.at = at
        self._zone = zone

    @cached_property
    def day(self) -> str:
        """The day, such as `2026-01-31`.

        Raises:
            ConfigError: this machine does not know the time zone.
        """
        return clock.to_zone(self.at, self._zone).date().isoformat()

    @cached_property
    def _possible_days(self) -> tuple[str, str]:
        """The first and the last day that it may be anywhere on earth."""
        return (self.at - _FURTHEST).date().isoformat(), (self.at + _FURTHEST).date().isoformat()

    def is_before(self, day: str | None) -> bool:
        """Return whether the moment lies before a day; never before None."""
        if day is None or day <= self._possible_days[0]:
            return False
        return day > self._possible_days[1] or self.day < day

    def is_after(self, day: str | None) -> bool:
        """Return whether the moment lies after a day; never after None."""
        if day is None or day >= self._possible_days[1]:
            return False
        return day < self._possible_days[0] or self.day > day

    def is_within(self, valid_from: str | None, valid_until: str | None) -> bool:
        """Return whether the moment is within this validity."""
        return not (self.is_before(valid_from) or self.is_after(valid_until))


def local_moment(context: Context) -> LocalMoment:
    """Return the present moment."""
    return LocalMoment(context.clock(), context.settings.timezone)


def find_expiry(settings: Settings, issued_at: datetime) -> datetime | None:
    """Return the end of the last day of an unused password, which its mail names; None if it does not expire.

    Raises:
        ConfigError: this machine does not know the time zone.
    """
    if not settings.unused_password_days:
        return None
    last_day = clock.find_last_day(issued_at, settings.unused_password_days, settings.timezone)
    return clock.find_end_of_day(last_day, settings.timezone)


def is_valid_at(now: LocalMoment) -> Any:
    """Return the SQL condition that a client is within the validity. Texts of days sort like the days."""
    begins, ends = Client.valid_from, Client.valid_until
    # True or false for every client, never NULL, so that it can be negated.
    return (begins.is_null() | (begins <= now.day)) & (ends.is_null() | (ends >= now.day))
