"""When deferred mails and a paused run are tried again, and the slower rate of a run that the mail server throttles."""

import math
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.reissue import backoff
from egec_cli.reissue.backoff import Throttle, slow_down, speed_up
from egec_cli.reissue.server_watch import MOST_IN_A_ROW
from tests.reissue.mails import AT

HOURS = st.integers(min_value=1, max_value=240)
FAILURES = st.integers(min_value=1, max_value=500)
TRIED_FOR = st.timedeltas(min_value=timedelta(), max_value=timedelta(hours=250))


@given(FAILURES, TRIED_FOR, HOURS)
def test_the_next_attempt_is_later_than_now_and_never_after_the_end(
    failures: int, tried_for: timedelta, hours: int
) -> None:
    end = AT - tried_for + timedelta(hours=hours)
    due = backoff.next_attempt(failures, AT - tried_for, AT, hours)
    assert (due is None) == (end <= AT)
    if due is not None:
        assert AT < due <= end


@given(FAILURES)
def test_the_next_attempt_is_after_a_wait_that_grows_and_at_most_a_fifth_later(failures: int) -> None:
    due = backoff.next_attempt(failures, AT, AT, hours=240)
    assert due is not None
    wait = due - AT
    shortest = timedelta(minutes=[1, 5, 15, 30, 60, 120, 240][min(failures, 7) - 1])
    assert backoff.wait_after(failures) == shortest
    assert shortest <= wait <= 1.2 * shortest
    # Otherwise a run would take it for a wait that was stored before the clock was set back.
    assert wait <= backoff.longest_waits().get(failures, backoff.longest_waits()[7])


@given(HOURS)
def test_a_mail_that_is_always_refused_is_tried_until_the_end_of_the_time_and_not_longer(hours: int) -> None:
    at, attempts = AT, 1
    while (due := backoff.next_attempt(attempts, AT, at, hours)) is not None:
        at, attempts = due, attempts + 1
    assert at == AT + timedelta(hours=hours)
    # The waits of the first four hours, then one of at most 4.8 hours each.
    assert 5 <= attempts <= 9 + hours / 4


def test_mails_that_failed_together_do_not_return_together() -> None:
    assert len({backoff.next_attempt(1, AT, AT, hours=24) for _ in range(20)}) > 10


def test_a_client_whom_another_process_is_mailing_may_wait_without_a_failed_attempt() -> None:
    assert backoff.longest_waits()[0] >= timedelta(seconds=backoff.WAIT_FOR_ANOTHER)


@given(st.integers(min_value=1, max_value=500))
def test_each_pause_is_as_long_as_the_one_before_or_longer(pauses: int) -> None:
    first, second = (backoff.next_try_of_run(number, AT) for number in (pauses, pauses + 1))
    assert AT < first <= second <= AT + backoff.longest_pause()


# Mails per second: from ten a day to more than any server accepts.
SPEEDS = st.floats(min_value=10 / 86_400, max_value=1 / 60) | st.floats(min_value=1 / 60, max_value=5_000)
# Accepted mails between refusals.
BETWEEN = st.lists(st.integers(min_value=0, max_value=30), max_size=40)


@given(SPEEDS, BETWEEN)
def test_the_rate_stays_between_its_floor_and_the_normal_rate(speed: float, between: list[int]) -> None:
    throttle: Throttle | None = None
    for accepted in between:
        throttle = slow_down(throttle, speed, "450 slow down", AT)
        assert min(1 / 60, speed) <= throttle.rate <= throttle.normal == speed
        for _ in range(accepted):
            if throttle is not None:
                throttle = speed_up(throttle, 1)
        assert throttle is None or throttle.rate <= throttle.normal


@given(SPEEDS, st.integers(min_value=1, max_value=20))
def test_the_rate_recovers_with_accepted_mails_at_a_constant_pace(speed: float, refusals: int) -> None:
    throttle: Throttle | None = None
    for _ in range(refusals):
        throttle = slow_down(throttle, speed, "450 slow down", AT)
    mails = 0
    while throttle is not None:
        before = throttle
        throttle, mails = speed_up(throttle, 1), mails + 1
        assert throttle is None or math.isclose(throttle.rate - before.rate, before.halved / 50, rel_tol=1e-6)
        assert throttle is None or not throttle.is_probing
    assert mails <= 51


@given(SPEEDS, st.integers(min_value=0, max_value=60))
def test_mails_accepted_together_raise_the_rate_as_one_by_one(speed: float, mails: int) -> None:
    together: Throttle | None = slow_down(None, speed, "450 slow down", AT)
    one_by_one = together
    assert together is not None
    together = speed_up(together, mails)
    for _ in range(mails):
        if one_by_one is not None:
            one_by_one = speed_up(one_by_one, 1)
    if together is not None and one_by_one is not None:
        assert math.isclose(together.rate, one_by_one.rate)


def test_no_mail_may_leave_during_the_wait_and_one_after_it() -> None:
    throttle = slow_down(None, 1.0, "450", AT)
    assert throttle.is_waiting(AT)
    assert throttle.is_waiting(AT + timedelta(seconds=4.9))
    assert not throttle.is_waiting(AT + timedelta(seconds=5.1))
    accepted = speed_up(throttle, 1)
    assert accepted is not None
    assert not accepted.is_waiting(AT + timedelta(milliseconds=1))


@given(st.timedeltas(min_value=timedelta(minutes=2), max_value=timedelta(days=4000)), st.integers(1, 9))
def test_a_clock_that_is_set_back_does_not_stop_the_run(step: timedelta, refusals: int) -> None:
    throttle: Throttle | None = None
    for _ in range(refusals):
        throttle = slow_down(throttle, 1.0, "450", AT)
    assert throttle is not None
    assert not throttle.is_waiting(AT - step)


@given(SPEEDS, st.text(max_size=50))
def test_a_stored_rate_is_read_as_it_was(speed: float, reply: str) -> None:
    throttle = slow_down(None, speed, reply, AT)
    assert Throttle.parse(throttle.to_json()) == throttle
    assert Throttle.parse(None) is None


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
