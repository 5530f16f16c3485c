"""The clients of a run as workers claim, give back and settle them, on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from egec_cli.clients import fields, records
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import runs
from egec_cli.reissue.items import ClaimedItem
from egec_cli.store.database import locks_rows
from egec_cli.store.models import ItemState, ReissueItem, ReissueRun

PEOPLE = 6
# It cannot be judged, so that only its lease ends.
FAR_AWAY = "far-away/1/boot/1/1/x"


@pytest.fixture
def run(opened: Context) -> ReissueRun:
    """Return a run over six clients."""
    for number in range(PEOPLE):
        records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    return runs.start_run(opened, "spring", Selected(opened, Selection(everyone=True)))


def claimed(egec: Context, run: ReissueRun, owner: str, most: int = PEOPLE) -> list[ClaimedItem]:
    now = egec.clock()
    with egec.database.atomic():
        return list(reissue_items.claim_items(run, owner, most, at=now, until=now + leases.LEASE))


def later(egec: Context, seconds: float) -> Context:
    moment = egec.clock() + timedelta(seconds=seconds)
    return egec._replace(clock=lambda: moment)


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
        first = reissue_items.claim_items(run, "first", 4, at=now, until=now + leases.LEASE)
        # This transaction ends only after the other one has claimed.
        second = other.submit(claim_on_another_connection).result(timeout=60)
    assert [len(first), len(second)] == [4, 2]
    assert {item.key for item in first}.isdisjoint(item.key for item in second)


FAILURE = ("mail_refused", "550 no")
SETTLEMENTS: dict[str, Callable[[Context, ClaimedItem, str], object]] = {
    "accept": lambda _, item, owner: reissue_items.accept_items([item.key], owner),
    "mark_sent": lambda egec, item, owner: reissue_items.mark_sent(egec.database, [item.key], owner),
    "fail": lambda _, item, owner: reissue_items.fail_item(item, owner, *FAILURE),
    "put_off": lambda egec, item, owner: reissue_items.defer_item(item, owner, egec.clock(), *FAILURE),
    "give_back": lambda _, item, owner: reissue_items.give_back_items([item.key], owner),
    "extend": lambda egec, item, owner: reissue_items.extend_items([item.key], owner, egec.clock() + timedelta(days=1)),
}


@pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS)
def test_a_worker_changes_nothing_of_what_another_has_taken_over(
    opened: Context, run: ReissueRun, settle: Callable[[Context, ClaimedItem, str], object]
) -> None:
    stale = claimed(opened, run, FAR_AWAY)
    after = later(opened, 61)
    with opened.database.atomic():
        assert reissue_items.free_abandoned_items(run, after.clock()) == []
    assert len(claimed(after, run, "second")) == PEOPLE
    before = list(ReissueItem.select().order_by(ReissueItem.id).dicts())
    with opened.database.atomic():
        for item in stale:
            settle(opened, item, FAR_AWAY)
    assert list(ReissueItem.select().order_by(ReissueItem.id).dicts()) == before


def test_what_a_worker_out_of_sight_has_claimed_comes_back_when_its_lease_ends(
    opened: Context, run: ReissueRun
) -> None:
    claimed(opened, run, FAR_AWAY, 2)
    for seconds, state in {59: ItemState.WORKING, 61: ItemState.WAITING}.items():
        with opened.database.atomic():
            reissue_items.free_abandoned_items(run, later(opened, seconds).clock())
        assert [one for one, _ in states()] == [state] * 2 + [ItemState.WAITING] * 4


def test_an_item_held_for_longer_than_any_can_be_comes_back_after_one_lease(opened: Context, run: ReissueRun) -> None:
    claimed(later(opened, 3600), run, FAR_AWAY)
    with opened.database.atomic():
        # Its worker may be at work, with mails under way.
        reissue_items.free_abandoned_items(run, opened.clock())
    assert states() == [(ItemState.WORKING, FAR_AWAY)] * PEOPLE
    with opened.database.atomic():
        reissue_items.free_abandoned_items(run, later(opened, 61).clock())
    assert states() == [(ItemState.WAITING, None)] * PEOPLE


def test_items_that_wait_for_longer_than_a_clock_that_is_right_makes_them_wait_are_due(
    opened: Context, run: ReissueRun
) -> None:
    now = opened.clock()
    keys = [item.id for item in ReissueItem.select().order_by(ReissueItem.id)]
    # The second and the fourth wait for too long for their failed attempts, the last for any.
    waits = [(0, 2), (0, 60), (1, 14), (1, 60), (2, 40), (2, 3600)]
    for key, (attempts, seconds) in zip(keys, waits, strict=True):
        ReissueItem.update(attempts=attempts, not_before=now + timedelta(seconds=seconds)).where(
            ReissueItem.id == key
        ).execute()
    longest = {attempts: timedelta(seconds=seconds) for attempts, seconds in {0: 2, 1: 15, 2: 45}.items()}
    with opened.database.atomic():
        reissue_items.end_waits_too_long(run, now, longest)
        due = reissue_items.claim_items(run, "one", PEOPLE, at=now, until=now + leases.LEASE)
    assert {item.key for item in due} == {keys[1], keys[3], keys[5]}


def test_what_another_transaction_has_locked_is_left_for_the_next_look(opened: Context, run: ReissueRun) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself")
    claimed(opened, run, FAR_AWAY)
    moment = later(opened, 61).clock()

    def look_on_another_connection() -> None:
        with opened.database.connection_context(), opened.database.atomic():
            reissue_items.free_abandoned_items(run, moment)

    with ThreadPoolExecutor(1) as other:
        with opened.database.atomic():
            reissue_items.extend_items([ReissueItem.select().first().id], FAR_AWAY, moment + leases.LEASE)
            other.submit(look_on_another_connection).result(timeout=60)
        assert [state for state, _ in states()].count(ItemState.WORKING) == 1
        other.submit(look_on_another_connection).result(timeout=60)
    assert [state for state, _ in states()].count(ItemState.WORKING) == 1
