"""The rate limit of mails, as workers reserve slots on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from egec_cli.context import Context
from egec_cli.reissue import items
from egec_cli.store.models import Client
from egec_cli.store.sql import fetch_tuples, locks_rows
from tests.activations import wait_until

RATE = 10
INTERVAL = timedelta(seconds=1) / RATE


def test_mails_that_workers_reserve_in_turn_keep_to_the_rate_together(opened: Context) -> None:
    now = opened.clock()
    with opened.database.atomic():
        assert items.free_slots(RATE, now) == RATE
        assert items.reserve_slots(2, RATE, now) == [now, now + INTERVAL]
        assert items.free_slots(RATE, now) == RATE - 2
        assert items.reserve_slots(1, RATE, now) == [now + 2 * INTERVAL]


def test_workers_that_reserve_at_the_same_time_keep_to_the_rate_together(opened: Context) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself: there, no two workers reserve at the same time")
    now = opened.clock()

    def reserve_on_another_connection() -> list[datetime]:
        with opened.database.connection_context(), opened.database.atomic():
            return items.reserve_slots(1, RATE, now)

    def a_lock_is_waited_for() -> bool:
        return bool(next(fetch_tuples(Client.raw("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")))[0])

    with opened.database.atomic():
        items.reserve_slots(1, RATE, now)
    with ThreadPoolExecutor(1) as other:
        with opened.database.atomic():
            assert items.free_slots(RATE, now) == RATE - 1
            second = other.submit(reserve_on_another_connection)
            wait_until(lambda: second.done() or a_lock_is_waited_for())
            first = items.reserve_slots(2, RATE, now)
        assert [*first, *second.result(timeout=60)] == [now + number * INTERVAL for number in (1, 2, 3)]


def test_unused_slots_are_not_made_up_for_in_a_burst(opened: Context) -> None:
    now = opened.clock()
    with opened.database.atomic():
        items.reserve_slots(1, RATE, now)
        later = now + timedelta(minutes=10)
        assert items.free_slots(RATE, later) == RATE
        assert items.reserve_slots(3, RATE, later) == [later, later + INTERVAL, later + 2 * INTERVAL]
        assert items.free_slots(RATE, later) == RATE - 3


@pytest.mark.parametrize("step", [timedelta(seconds=20), timedelta(hours=1)])
def test_a_clock_that_was_set_back_delays_no_mail(opened: Context, step: timedelta) -> None:
    now = opened.clock()
    with opened.database.atomic():
        items.reserve_slots(RATE, RATE, now)
        earlier = now - step
        assert items.free_slots(RATE, earlier) == RATE
        assert items.reserve_slots(1, RATE, earlier) == [earlier]


def test_reservations_of_a_worker_whose_clock_is_a_little_ahead_count(opened: Context) -> None:
    now = opened.clock()
    with opened.database.atomic():
        items.reserve_slots(RATE, RATE, now + timedelta(seconds=2))
        assert items.free_slots(RATE, now) <= 0
