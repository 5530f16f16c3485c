"""The slower rate of a run while the mail server throttles it.

A refusal halves the rate. Further refusals lead to longer waits, 5, 10, 20, 40 seconds: they come because the quota is
still used up, whatever the rate. Each accepted mail then raises the rate by a fiftieth of the halved rate, until the
normal one is reached. This is how TCP shares a line whose capacity is unknown (additive increase, multiplicative
decrease). All workers of a run share the rate through its row.
"""

import json
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from egec_cli import clock

# The wait after the first refusal in a row, in seconds.
FIRST_WAIT = 5.0
_LONGEST_WAIT = 60.0
# The share of the halved rate by which an accepted mail raises the rate.
_RISE = 0.02
# Mails per second: a slower run would send fewer mails than a mail server's client retries.
_LEAST_RATE = 1 / 60


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
        return self.refused_at + timedelta(seconds=wait_after(self.refusals))

    def is_waiting(self, at: datetime) -> bool:
        """Return whether no mail may leave at this moment."""
        # A time further ahead was stored before the clock was set back.
        return clock.lies_ahead(self.next_mail_at, at, at_most=timedelta(seconds=_LONGEST_WAIT))


def wait_after(refusals: int) -> float:
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
