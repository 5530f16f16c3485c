"""The doctor looks at the machine: its clock, and how long it takes for a password's hash."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from egec_cli import hashing
from egec_cli.accounts.findings import Finding, Verdict
from egec_cli.clock import Clock, rfc3339
from egec_cli.password import Password
from egec_cli.translation import Words

# What a login may take: long enough to slow down who guesses, short enough for who waits. In milliseconds.
TARGET = 250.0
# One step of the cost doubles the time, so there is always one that ends between the two.
_SHORTEST, _LONGEST = TARGET / 2, TARGET * 2
# OWASP asks for no less (Password Storage Cheat Sheet); the setting takes no more.
_LEAST_COST, _MOST_COST = 10, 16
# Before egec was written; a machine that has lost its clock begins in 1970.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


def clock(now: Clock) -> Iterator[Finding]:
    """Yield whether the machine's date can be one."""
    moment = now()
    if moment < _EARLIEST:
        yield Finding(
            "clock",
            Verdict.FAULT,
            Words("it is {moment}, says this machine", moment=rfc3339(moment)),
            Words("Set its clock, by NTP."),
        )
    else:
        yield Finding("clock", Verdict.OK, rfc3339(moment), "")


def hash_cost(cost: int) -> Iterator[Finding]:
    """Yield how long a hash of this cost takes on one core, against the target, and which cost would meet it."""
    began = time.thread_time()
    hashing.hash_password(Password("fG69a*6jH"), cost)
    yield judged_cost(cost, (time.thread_time() - began) * 1000)


def judged_cost(cost: int, milliseconds: float) -> Finding:
    """Return the finding of a hash of this cost that has taken so long."""
    steps = round(math.log2(TARGET / max(milliseconds, 0.01)))
    advised = min(max(cost + steps, _LEAST_COST), _MOST_COST)
    detail = Words(
        "a hash of cost {cost} takes {milliseconds:.0f} ms here; the target is {target:.0f} ms",
        cost=cost,
        milliseconds=milliseconds,
        target=TARGET,
    )
    if advised == cost or _SHORTEST <= milliseconds <= _LONGEST:
        return Finding("hash_cost", Verdict.OK, detail, "")
    would_take = milliseconds * 2 ** (advised - cost)
    cure = Words("Set EGEC_BCRYPT_COST={advised}: about {would_take:.0f} ms.", advised=advised, would_take=would_take)
    return Finding("hash_cost", Verdict.WARNING, detail, cure)
