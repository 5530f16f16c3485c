"""The slower rate of a throttled run, simulated with a mail server that has quotas the run does not know."""

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from egec_cli.reissue.server_watch import MOST_IN_A_ROW
from egec_cli.reissue.throttle import Throttle, slow_down, speed_up

START = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER = "450 4.7.1 quota exceeded"


class Simulated(NamedTuple):
    """How many seconds the mails took, how many attempts were refused, and most of them in a row."""

    seconds: float
    refused: int
    in_a_row: int


def simulate(quota: int, window: float, *, mails: int, speed: float) -> Simulated:
    """Send mails, at this speed at first, to a server that counts every attempt in its window."""
    now, accepted, refused, row, longest = 0.0, 0, 0, 0, 0
    throttle: Throttle | None = None
    attempts: deque[float] = deque()
    while accepted < mails:
        now += 1 / (throttle.rate if throttle else speed)
        if throttle:
            now = max(now, (throttle.next_mail_at - START).total_seconds())
        attempts.append(now)
        while attempts[0] <= now - window:
            attempts.popleft()
        if len(attempts) <= quota:
            accepted, row = accepted + 1, 0
            throttle = speed_up(throttle, 1) if throttle else None
        else:
            refused, row = refused + 1, row + 1
            longest = max(longest, row)
            throttle = slow_down(throttle, speed, ANSWER, START + timedelta(seconds=now))
    return Simulated(now, refused, longest)


@pytest.mark.parametrize("speed", [1, 5, 20])
def test_a_run_finds_a_quota_that_it_does_not_know_with_few_refusals(speed: float) -> None:
    seen = simulate(30, 60, mails=2_000, speed=speed)
    assert seen.refused < 0.06 * 2_000
    assert seen.in_a_row < MOST_IN_A_ROW
    assert seen.seconds < 2_000 * (60 / 30) / 0.7


def test_refusals_in_a_row_halve_the_rate_once_and_wait_longer_each_time() -> None:
    at, throttle, waits = START, None, []
    for _ in range(6):
        throttle = slow_down(throttle, 8.0, ANSWER, at)
        waits.append((throttle.next_mail_at - at).total_seconds())
        at = throttle.next_mail_at
    assert throttle is not None
    assert (throttle.rate, throttle.normal, throttle.is_probing) == (4.0, 8.0, True)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_accepted_mails_raise_the_rate_in_equal_steps_until_it_is_normal() -> None:
    throttle: Throttle | None = slow_down(None, 8.0, ANSWER, START)
    rates = []
    while throttle is not None:
        throttle = speed_up(throttle, 1)
        if throttle is not None:
            rates.append(throttle.rate)
            assert not throttle.is_probing
    assert rates == pytest.approx([4.0 + 0.08 * number for number in range(1, 50)])


def test_a_refusal_after_an_accepted_mail_halves_the_rate_again() -> None:
    once = speed_up(slow_down(None, 8.0, ANSWER, START), 1)
    twice = slow_down(once, 8.0, ANSWER, START)
    assert twice.rate == pytest.approx(2.04)
    assert Throttle.parse(twice.to_json()) == twice
