"""When a deferred mail and a paused run are tried again."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from egec_cli.reissue import schedule
from tests.reissue.mails import AT

HOURS = st.integers(min_value=1, max_value=240)
FAILURES = st.integers(min_value=1, max_value=500)
TRIED_FOR = st.timedeltas(min_value=timedelta(), max_value=timedelta(hours=250))


@given(FAILURES, TRIED_FOR, HOURS)
def test_the_next_attempt_is_later_than_now_and_never_after_the_end(
    failures: int, tried_for: timedelta, hours: int
) -> None:
    end = AT - tried_for + timedelta(hours=hours)
    due = schedule.next_attempt(failures, AT - tried_for, AT, hours)
    assert (due is None) == (end <= AT)
    if due is not None:
        assert AT < due <= end


@given(FAILURES)
def test_the_next_attempt_is_after_a_wait_that_grows_and_at_most_a_fifth_later(failures: int) -> None:
    due = schedule.next_attempt(failures, AT, AT, hours=240)
    assert due is not None
    wait = due - AT
    shortest = timedelta(minutes=[1, 5, 15, 30, 60, 120, 240][min(failures, 7) - 1])
    assert schedule.wait_after(failures) == shortest
    assert shortest <= wait <= 1.2 * shortest
    # Otherwise a run would take it for a wait that was stored before the clock was set back.
    assert wait <= schedule.longest_waits().get(failures, schedule.longest_waits()[7])


@given(HOURS)
def test_a_mail_that_is_always_refused_is_tried_until_the_end_of_the_time_and_not_longer(hours: int) -> None:
    at, attempts = AT, 1
    while (due := schedule.next_attempt(attempts, AT, at, hours)) is not None:
        at, attempts = due, attempts + 1
    assert at == AT + timedelta(hours=hours)
    # The waits of the first four hours, then one of at most 4.8 hours each.
    assert 5 <= attempts <= 9 + hours / 4


def test_mails_that_failed_together_do_not_return_together() -> None:
    assert len({schedule.next_attempt(1, AT, AT, hours=24) for _ in range(20)}) > 10


def test_a_client_whom_another_process_is_mailing_may_wait_without_a_failed_attempt() -> None:
    assert schedule.longest_waits()[0] >= timedelta(seconds=schedule.WAIT_FOR_ANOTHER)


@given(st.integers(min_value=1, max_value=500))
def test_each_pause_is_as_long_as_the_one_before_or_longer(pauses: int) -> None:
    first, second = (schedule.next_try_of_run(number, AT) for number in (pauses, pauses + 1))
    assert AT < first <= second <= AT + schedule.longest_pause()
