"""The clients of a run as workers claim, give back and settle them, on both databases."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from egec_cli.clients import fields, records
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.reissue import items, report, runs
from egec_cli.reissue.items import ClaimedItem
from egec_cli.store.models import ItemState, ReissueItem, ReissueRun
from egec_cli.store.sql import locks_rows

PEOPLE = 6
# An owner on another host: whether it has ended is unknown, so only its lease ends.
FAR_AWAY = "far-away/1/boot/1/1/x"


@pytest.fixture
def run(opened: Context) -> ReissueRun:
    """Return a run over six clients."""
    for number in range(PEOPLE):
        records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    return runs.start_run(opened, "spring", Selected(opened, Selection(everyone=True)))


def claimed(context: Context, run: ReissueRun, owner: str, most: int = PEOPLE) -> list[ClaimedItem]:
    now = context.clock()
    with context.database.atomic():
        return list(items.claim_items(run, owner, most, at=now, until=now + leases.LEASE))


def later(context: Context, seconds: float) -> Context:
    moment = context.clock() + timedelta(seconds=seconds)
    return context._replace(clock=lambda: moment)


def states() -> list[tuple[str, str | None]]:
    return [(item.state, item.lease_owner) for item in ReissueItem.select().order_by(ReissueItem.id)]


def test_workers_that_claim_at_the_same_time_get_different_items_and_do_not_wait(
    opened: Context, run: ReissueRun
) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself: there, no two workers claim at the same time")
    now = opened.clock()

    def claim_on_another_connection() -> list[ClaimedItem]:
        with opened.database.connection_context():
            return claimed(opened, run, "second", 4)

    with ThreadPoolExecutor(1) as other, opened.database.atomic():
        first = items.claim_items(run, "first", 4, at=now, until=now + leases.LEASE)
        # This transaction ends only after the other one has claimed.
        second = other.submit(claim_on_another_connection).result(timeout=60)
    assert [len(first), len(second)] == [4, 2]
    assert {item.key for item in first}.isdisjoint(item.key for item in second)


def test_clients_of_a_worker_that_ended_come_after_those_who_wait(opened: Context, run: ReissueRun) -> None:
    abandoned = claimed(opened, run, FAR_AWAY, 2)
    with opened.database.atomic():
        items.free_abandoned_items(run, later(opened, 61).clock())
    again = claimed(later(opened, 61), run, "second")
    assert [item.key for item in again[-2:]] == [item.key for item in abandoned]
    assert len(again) == PEOPLE


FAILURE = ("mail_refused", "550 no")
SETTLEMENTS: dict[str, Callable[[Context, ClaimedItem, str], object]] = {
    "accept": lambda _, item, owner: items.accept_items([item.key], owner),
    "mark_sent": lambda context, item, owner: items.mark_sent(context.database, [item.key], owner),
    "fail": lambda _, item, owner: items.fail_item(item, owner, *FAILURE),
    "defer": lambda context, item, owner: items.defer_item(item, owner, context.clock(), *FAILURE),
    "give_back": lambda _, item, owner: items.give_back_items([item.key], owner),
    "extend": lambda context, item, owner: items.extend_items([item.key], owner, context.clock() + timedelta(days=1)),
}


@pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS)
def test_a_worker_changes_no_item_that_another_has_taken_over(
    opened: Context, run: ReissueRun, settle: Callable[[Context, ClaimedItem, str], object]
) -> None:
    stale = claimed(opened, run, FAR_AWAY)
    after = later(opened, 61)
    with opened.database.atomic():
        assert items.free_abandoned_items(run, after.clock()) == []
    assert len(claimed(after, run, "second")) == PEOPLE
    before = list(ReissueItem.select().order_by(ReissueItem.id).dicts())
    with opened.database.atomic():
        for item in stale:
            settle(opened, item, FAR_AWAY)
    assert list(ReissueItem.select().order_by(ReissueItem.id).dicts()) == before


def test_items_of_a_remote_worker_are_free_when_its_lease_ends(opened: Context, run: ReissueRun) -> None:
    claimed(opened, run, FAR_AWAY, 2)
    for seconds, state in {59: ItemState.WORKING, 61: ItemState.WAITING}.items():
        with opened.database.atomic():
            items.free_abandoned_items(run, later(opened, seconds).clock())
        assert [one for one, _ in states()] == [state] * 2 + [ItemState.WAITING] * 4


def test_a_lease_that_is_too_long_is_cut_to_one_lease(opened: Context, run: ReissueRun) -> None:
    claimed(later(opened, 3600), run, FAR_AWAY)
    with opened.database.atomic():
        # Its worker may be working, with mails under way.
        items.free_abandoned_items(run, opened.clock())
    assert states() == [(ItemState.WORKING, FAR_AWAY)] * PEOPLE
    with opened.database.atomic():
        items.free_abandoned_items(run, later(opened, 61).clock())
    assert states() == [(ItemState.WAITING, None)] * PEOPLE


def test_items_that_wait_longer_than_with_a_correct_clock_are_due(opened: Context, run: ReissueRun) -> None:
    now = opened.clock()
    keys = [item.id for item in ReissueItem.select().order_by(ReissueItem.id)]
    # The second and the fourth wait too long for their failed attempts, the last for any number.
    waits = [(0, 2), (0, 60), (1, 14), (1, 60), (2, 40), (2, 3600)]
    for key, (attempts, seconds) in zip(keys, waits, strict=True):
        ReissueItem.update(attempts=attempts, not_before=now + timedelta(seconds=seconds)).where(
            ReissueItem.id == key
        ).execute()
    longest = {attempts: timedelta(seconds=seconds) for attempts, seconds in {0: 2, 1: 15, 2: 45}.items()}
    with opened.database.atomic():
        items.end_waits_too_long(run, now, longest)
        due = items.claim_items(run, "one", PEOPLE, at=now, until=now + leases.LEASE)
    assert {item.key for item in due} == {keys[1], keys[3], keys[5]}


def test_items_locked_by_another_transaction_are_left_for_the_next_check(opened: Context, run: ReissueRun) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself")
    claimed(opened, run, FAR_AWAY)
    moment = later(opened, 61).clock()

    def check_on_another_connection() -> None:
        with opened.database.connection_context(), opened.database.atomic():
            items.free_abandoned_items(run, moment)

    with ThreadPoolExecutor(1) as other:
        with opened.database.atomic():
            items.extend_items([ReissueItem.select().first().id], FAR_AWAY, moment + leases.LEASE)
            other.submit(check_on_another_connection).result(timeout=60)
        assert [state for state, _ in states()].count(ItemState.WORKING) == 1
        other.submit(check_on_another_connection).result(timeout=60)
    assert [state for state, _ in states()].count(ItemState.WORKING) == 1


def test_the_number_of_unfinished_items_is_compared(opened: Context, run: ReissueRun) -> None:
    first, *_ = claimed(opened, run, FAR_AWAY, 2)
    assert [items.has_more_left(run, number) for number in (-1, 0, 1, 5, 6, 7)] == [True] * 4 + [False] * 2
    with opened.database.atomic():
        items.accept_items([first.key], FAR_AWAY)
    assert [items.has_more_left(run, number) for number in (4, 5)] == [True, False]


def test_clients_are_listed_in_the_order_of_the_list_that_named_them(opened: Context) -> None:
    named = [f"c{number}@example.org" for number in (3, 0, 5, 1, 4, 2)]
    for email in sorted(named):
        records.create_client(opened, fields.parse_fields(email))
    listed = ClientList("list.txt", io.BytesIO("\n".join(named).encode()))
    run = runs.start_run(opened, "spring", Selected(opened, Selection(listed=listed)))
    claims = claimed(opened, run, FAR_AWAY)
    with opened.database.atomic():
        # PostgreSQL moves a row that changes to the end of its table.
        for item in (claims[4], claims[1], claims[2]):
            items.fail_item(item, FAR_AWAY, *FAILURE)
    assert [one.email for one in items.list_items(run)] == named
    assert [one.email for one in items.list_failures(run)] == [named[place] for place in (1, 2, 4)]


def test_a_deferred_client_counts_as_deferred_until_the_next_attempt_is_due(opened: Context, run: ReissueRun) -> None:
    first, second = claimed(opened, run, FAR_AWAY, 2)
    with opened.database.atomic():
        for item, seconds in ((first, 60), (second, 120)):
            until = opened.clock() + timedelta(seconds=seconds)
            items.defer_item(item._replace(attempts=1), FAR_AWAY, until, *FAILURE)
    assert [report.load_run(later(opened, seconds), run).deferred for seconds in (0, 90, 150)] == [2, 1, 0]


def test_a_paused_run_without_clients_left_waits_for_no_attempt(opened: Context, run: ReissueRun) -> None:
    claims = claimed(opened, run, FAR_AWAY)
    runs.pause_run(opened, run, "mail_server_unavailable", waits=True)
    assert report.load_run(opened, run).next_attempt_at is not None
    with opened.database.atomic():
        items.accept_items([item.key for item in claims], FAR_AWAY)
    shown = report.load_run(opened, run)
    assert (shown.remaining, shown.next_attempt_at) == (0, None)


def test_the_first_and_last_moments_at_which_waiting_clients_are_due(opened: Context, run: ReissueRun) -> None:
    now = opened.clock().replace(microsecond=0)
    assert len(claimed(opened, run, "me", 2)) == 2
    for number, item in enumerate(ReissueItem.select().where(ReissueItem.lease_owner.is_null())):
        ReissueItem.update(not_before=now + timedelta(minutes=number)).where(ReissueItem.id == item.id).execute()
    assert items.next_due(run) == now
    assert items.last_due(run) == now + timedelta(minutes=PEOPLE - 3)
    ReissueItem.update(state=ItemState.FAILED).execute()
    assert (items.next_due(run), items.last_due(run)) == (None, None)
