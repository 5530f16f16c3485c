"""The pace of mails, as workers reserve it on both databases."""

from datetime import timedelta

import pytest

from egec_cli.accounts import mail_pace
from egec_cli.accounts.egec import Egec

RATE = 10
APART = timedelta(seconds=1) / RATE


def test_mails_that_are_reserved_leave_one_after_the_other(opened: Egec) -> None:
    now = opened.clock()
    with opened.database.atomic():
        assert mail_pace.room(RATE, now) == RATE
        assert mail_pace.reserve(2, RATE, now) == [now, now + APART]
        assert mail_pace.room(RATE, now) == RATE - 2
        assert mail_pace.reserve(1, RATE, now) == [now + 2 * APART]


def test_what_was_not_used_of_the_pace_is_not_made_up_for_in_a_burst(opened: Egec) -> None:
    now = opened.clock()
    with opened.database.atomic():
        mail_pace.reserve(1, RATE, now)
        later = now + timedelta(minutes=10)
        assert mail_pace.room(RATE, later) == RATE
        assert mail_pace.reserve(3, RATE, later) == [later, later + APART, later + 2 * APART]
        assert mail_pace.room(RATE, later) == RATE - 3


@pytest.mark.parametrize("step", [timedelta(seconds=20), timedelta(hours=1)])
def test_a_clock_that_was_set_back_delays_no_mail(opened: Egec, step: timedelta) -> None:
    now = opened.clock()
    with opened.database.atomic():
        mail_pace.reserve(RATE, RATE, now)
        earlier = now - step
        assert mail_pace.room(RATE, earlier) == RATE
        assert mail_pace.reserve(1, RATE, earlier) == [earlier]


def test_what_another_worker_reserved_counts_though_its_clock_is_a_little_ahead(opened: Egec) -> None:
    now = opened.clock()
    with opened.database.atomic():
        mail_pace.reserve(RATE, RATE, now + timedelta(seconds=2))
        assert mail_pace.room(RATE, now) <= 0
