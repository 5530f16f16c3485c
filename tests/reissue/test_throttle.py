"""The slower rate of a run: halved by each refusal, raised by each accepted mail, never above the normal rate."""

import math
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from egec_cli.reissue.throttle import Throttle, slow_down, speed_up
from tests.reissue.mails import AT

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
        assert throttle is None or math.isclose(throttle.rate - before.rate, speed / 50)
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


def test_each_refusal_halves_the_rate_and_doubles_the_wait() -> None:
    throttle, waits, rates = None, [], []
    for number in range(6):
        at = AT + timedelta(minutes=number)
        throttle = slow_down(throttle, 16.0, f"450 no {number}", at)
        assert throttle.is_probing
        assert throttle.reply == f"450 no {number}"
        waits.append((throttle.next_mail_at - at).total_seconds())
        rates.append(throttle.rate)
    assert waits == [5, 10, 20, 40, 60, 60]
    assert rates == [8, 4, 2, 1, 0.5, 0.25]


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
