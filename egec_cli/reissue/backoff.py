"""How a run slows down after refusals: when it tries a deferred mail or itself again, and the rate of its mails.

While the mail server throttles a run, a refusal halves its rate. Further refusals lead to longer waits, 5, 10, 20, 40
seconds: they come because the quota is still used up, whatever the rate. Each accepted mail then raises the rate by a
fiftieth of the halved rate, until the normal one is reached. This is how TCP shares a line whose capacity is unknown
(additive increase, multiplicative decrease). All workers of a run share the rate through its row.
"""

import json
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from egec_cli import clock

# The waits after the first, second … failed attempt, in seconds: 1, 5, 15, 30 minutes, 1, 2, 4 hours; then the last one
# each time. A mail server should retry for days, with growing waits (RFC 5321, 4.5.4.1); most greylists open within
# five minutes.
WAITS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
# How long a client waits while another process is mailing it, in seconds.
WAIT_FOR_ANOTHER = 2.0
# Each wait is up to this much longer, so that mails that failed together do not return together.
_SPREAD = 0.2
# While the server throttles the run, the wait after the first refusal in a row, in seconds.
FIRST_WAIT = 5.0
_LONGEST_WAIT = 60.0
# The share of the halved rate by which an accepted mail raises the rate.
_RISE = 0.02
# Mails per second: a slower run would send fewer mails than a mail server's client retries.
_LEAST_RATE = 1 / 60


def wait_after(failures: int) -> timedelta:
    """Return the shortest wait after this number of consecutive failures, at least one."""
    return timedelta(seconds=WAITS[min(failures, len(WAITS)) - 1])


def next_attempt(failures: int, since: datetime, at: datetime, hours: int) -> datetime | None:
    """Return when to try a mail again; None if it has been tried for long enough.

    The last attempt is at the end of that time.

    Args:
        failures: the number of failed attempts.
        since: the moment of the first one.
        at: the present moment.
        hours: how long a mail is tried (EGEC_MAIL_RETRY_HOURS).
    """
    deadline = since + timedelta(hours=hours)
    if at >= deadline:
        return None
    # Imported here: commands that only show runs do not need it.
    from random import uniform

    wait = wait_after(failures) * uniform(1.0, 1.0 + _SPREAD)  # noqa: S311 - no secret
    return min(at + wait, deadline)


def longest_waits() -> dict[int, timedelta]:
    """Return the longest wait of a client by its number of failed attempts; the last one also for higher numbers."""
    least = timedelta(seconds=WAIT_FOR_ANOTHER)
    waits = {failures: wait_after(failures) * (1.0 + _SPREAD) for failures in range(1, len(WAITS) + 1)}
    return {0: least} | {failures: max(least, wait) for failures, wait in waits.items()}


def longest_pause() -> timedelta:
    """Return the longest pause of a run."""
    return wait_after(len(WAITS))


def next_try_of_run(pauses: int, at: datetime) -> datetime:
    """Return when a run tries again after this number of pauses without an accepted mail between them."""
    return at + wait_after(pauses)


class Throttle(NamedTuple):
    """The slower rate of a run.

    Attributes:
        rate: mails per second.
        halved: mails per second after the last halving.
        normal: mails per second before the first refusal.
        reply: the mail server's last refusal.
        refused_at: when it came.
        refusals: how many have come since the last accepted mail.
    """

    rate: float
    halved: float
    normal: float
    reply: str
    refused_at: datetime
    refusals: int

    @classmethod
    def parse(cls, stored: str | None) -> Self | None:
        """Parse what a run's row stores."""
        if stored is None:
            return None
        values = json.loads(stored)
        return cls(**values | {"refused_at": clock.parse_time(values["refused_at"])})

    def to_json(self) -> str:
        """Return the text that a run's row stores."""
        return json.dumps(self._asdict() | {"refused_at": clock.to_rfc3339(self.refused_at)})

    @property
    def is_probing(self) -> bool:
        """Whether only one mail may be under way: none was accepted since the last refusal."""
        return self.refusals > 0

    @property
    def next_mail_at(self) -> datetime:
        """When the next mail may leave at the earliest."""
        if not self.refusals:
            return self.refused_at
        return self.refused_at + timedelta(seconds=wait_after_refusals(self.refusals))

    def is_waiting(self, at: datetime) -> bool:
        """Return whether no mail may leave at this moment."""
        # A time further ahead was stored before the clock was set back.
        return clock.lies_ahead(self.next_mail_at, at, at_most=timedelta(seconds=_LONGEST_WAIT))


def wait_after_refusals(refusals: int) -> float:
    """Return how long to wait after this number of refusals in a row, in seconds."""
    return min(FIRST_WAIT * 2.0 ** (refusals - 1), _LONGEST_WAIT)


def slow_down(before: Throttle | None, speed: float, reply: str, at: datetime) -> Throttle:
    """Return the rate after a refusal; `speed` is that of the run at present, in mails per second."""
    if before is not None and before.refusals:
        return before._replace(reply=reply, refused_at=at, refusals=before.refusals + 1)
    normal = speed if before is None else before.normal
    halved = max((speed if before is None else before.rate) / 2, min(_LEAST_RATE, normal))
    return Throttle(halved, halved, normal, reply, at, 1)


def speed_up(throttle: Throttle, mails: int) -> Throttle | None:
    """Return the rate after this number of accepted mails; None once it is normal again."""
    rate = throttle.rate + mails * _RISE * throttle.halved
    return None if rate >= throttle.normal else throttle._replace(rate=rate, refusals=0)
