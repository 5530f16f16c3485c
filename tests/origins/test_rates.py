"""Limits on the acts of a subject, also counted by many processes at once, on both databases."""

import subprocess
from datetime import timedelta
from functools import partial

from egec_cli.context import Context
from egec_cli.origins import rates
from egec_cli.settings.schema import Limit
from egec_cli.store.models import RateCount
from tests import children
from tests.processes import command_of

PER_CLIENT = (Limit(1, 300), Limit(5, 86_400))


def at(context: Context, **after: float) -> Context:
    """Return the context at a later moment."""
    moment = context.clock() + timedelta(**after)
    return context._replace(clock=lambda: moment)


def allowed(context: Context, minutes: list[float], limits: tuple[Limit, ...] = PER_CLIENT) -> list[bool]:
    """Count an act at each of these minutes from now, and return which are within the limits."""
    start = context.clock()
    return [
        rates.count_act(
            context._replace(clock=lambda minute=minute: start + timedelta(minutes=minute)),  # type: ignore[misc]
            "test",
            limits,
        ).is_within
        for minute in minutes
    ]


def test_every_limit_holds_for_any_period_of_its_length(opened: Context) -> None:
    assert allowed(opened, [0, 4.9, 5.1, 10, 10.2]) == [True, False, True, False, True]
    assert allowed(opened, [20, 30, 40, 50, 24 * 60 - 0.1]) == [True, True, False, False, False]
    # The first one is a day old, but the second is not.
    assert allowed(opened, [24 * 60 + 1, 24 * 60 + 6.2]) == [True, True]


def test_acts_beyond_the_limit_do_not_prolong_it(opened: Context) -> None:
    every_minute = [float(minute) for minute in range(11)]
    assert [minute for minute, is_within in enumerate(allowed(opened, every_minute)) if is_within] == [0, 5, 10]


def test_subjects_are_counted_apart(opened: Context) -> None:
    assert rates.count_act(opened, "one", PER_CLIENT).is_within
    assert rates.count_act(opened, "another", PER_CLIENT).is_within
    assert not rates.count_act(opened, "one", PER_CLIENT).is_within


def test_an_act_that_is_taken_back_leaves_room_for_another(opened: Context) -> None:
    counted = rates.count_act(opened, "test", PER_CLIENT)
    for _ in range(2):
        with opened.database.atomic():
            rates.forget_act(counted)
    assert rates.count_act(opened, "test", PER_CLIENT).is_within
    assert not rates.count_act(opened, "test", PER_CLIENT).is_within


def test_a_clock_that_is_set_back_locks_no_one_out(opened: Context) -> None:
    assert rates.count_act(at(opened, days=300), "test", PER_CLIENT).is_within
    assert rates.count_act(opened, "test", PER_CLIENT).is_within


def test_the_first_tenth_and_hundredth_act_beyond_the_limit_are_worth_recording(opened: Context) -> None:
    counted = [rates.count_act(opened, "test", (Limit(2, 60),)) for _ in range(112)]
    assert [number for number, one in enumerate(counted) if one.is_recorded] == [0, 1, 2, 11, 101]
    assert [counted[number].beyond for number in (1, 2, 11, 101)] == [0, 1, 10, 100]


def test_rows_without_effect_are_deleted_by_later_counts_and_by_the_nightly_pruning(opened: Context) -> None:
    for number in range(50):
        rates.count_act(opened, f"test {number}", (Limit(1, 60),))
    assert RateCount.select().count() == 50
    later = at(opened, seconds=61)
    rates.count_act(later, "later", (Limit(1, 60),))
    assert RateCount.select().count() == 50 - 20 + 1
    rates.prune_counts(later)
    assert [row.subject for row in RateCount.select()] == ["later"]
    rates.prune_counts(later)
    assert RateCount.select().count() == 1


def test_however_many_processes_count_at_once_no_more_are_allowed(opened: Context) -> None:
    subjects = 2
    commands = [command_of(partial(children.count_acts, f"test {n % subjects}", 12, 5)) for n in range(6)]
    crowd = [subprocess.Popen(one, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for one in commands]
    for member in crowd:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()
    allowed_acts = sum(member.communicate(timeout=120)[0].split().count("True") for member in crowd)
    assert allowed_acts == 5 * subjects
    assert sorted(len(row.times.split()) for row in RateCount.select()) == [5] * subjects
