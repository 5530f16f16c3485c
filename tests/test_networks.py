"""The network of an address, its keyed hash, and limits on the acts of a subject: in any period of their length."""

import subprocess
from datetime import timedelta
from functools import partial

import pytest

from egec_cli import networks
from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.settings.types import Limit
from egec_cli.store.models import Installation, RateCount
from tests import children
from tests.processes import command_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.255", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("::ffff:c000:207", "192.0.2.0/24"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert networks.parse_network(address) == network


@pytest.mark.parametrize(
    "text",
    ["", " ", "192.0.2", "192.0.2.7:80", "[2001:db8::7]", "192.0.2.0/24", "host", "192.0.2.07", "١٩٢.0.2.7", "1" * 500],
)
def test_anything_else_is_not_an_address(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        networks.parse_network(text)
    assert refused.value.code == "invalid_origin"
    assert not text.strip() or text not in refused.value.message


def test_a_host_name_counts_as_it_is() -> None:
    assert networks.parse_network_or_name("Mail.Example.org") == "mail.example.org"
    assert networks.parse_network_or_name("192.0.2.7") == "192.0.2.0/24"
    assert len(networks.parse_network_or_name("x" * 1000)) == 255


def test_the_hash_of_a_network_depends_on_a_key_that_each_database_makes_once(opened: Context) -> None:
    first = networks.hash_text(opened, "192.0.2.0/24")
    assert networks.hash_text(opened, "192.0.2.0/24") == first
    assert networks.hash_text(opened, "198.51.100.0/24") != first
    [key] = [row.value for row in Installation.select().where(Installation.name == "origin_key")]
    assert len(key) == 64
    Installation.update(value="00" * 32).where(Installation.name == "origin_key").execute()
    assert networks.hash_text(opened, "192.0.2.0/24") != first
    assert len(first) == 12


PER_CLIENT = (Limit(1, 300), Limit(5, 86_400))


def at(context: Context, **after: float) -> Context:
    """Return the context at a later moment."""
    moment = context.clock() + timedelta(**after)
    return context._replace(clock=lambda: moment)


def allowed(context: Context, minutes: list[float], limits: tuple[Limit, ...] = PER_CLIENT) -> list[bool]:
    """Count an act at each of these minutes from now, and return which are within the limits."""
    start = context.clock()
    return [
        networks.count_act(
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
    assert networks.count_act(opened, "one", PER_CLIENT).is_within
    assert networks.count_act(opened, "another", PER_CLIENT).is_within
    assert not networks.count_act(opened, "one", PER_CLIENT).is_within


def test_an_act_that_is_taken_back_leaves_room_for_another(opened: Context) -> None:
    counted = networks.count_act(opened, "test", PER_CLIENT)
    for _ in range(2):
        with opened.database.atomic():
            networks.forget_act(counted)
    assert networks.count_act(opened, "test", PER_CLIENT).is_within
    assert not networks.count_act(opened, "test", PER_CLIENT).is_within


def test_a_clock_that_is_set_back_locks_no_one_out(opened: Context) -> None:
    assert networks.count_act(at(opened, days=300), "test", PER_CLIENT).is_within
    assert networks.count_act(opened, "test", PER_CLIENT).is_within


def test_the_first_tenth_and_hundredth_act_beyond_the_limit_are_worth_recording(opened: Context) -> None:
    counted = [networks.count_act(opened, "test", (Limit(2, 60),)) for _ in range(112)]
    assert [number for number, one in enumerate(counted) if one.is_recorded] == [0, 1, 2, 11, 101]
    assert [counted[number].beyond for number in (1, 2, 11, 101)] == [0, 1, 10, 100]


def test_rows_without_effect_are_deleted_by_later_counts_and_by_the_nightly_pruning(opened: Context) -> None:
    for number in range(50):
        networks.count_act(opened, f"test {number}", (Limit(1, 60),))
    assert RateCount.select().count() == 50
    later = at(opened, seconds=61)
    networks.count_act(later, "later", (Limit(1, 60),))
    assert RateCount.select().count() == 50 - 20 + 1
    networks.prune_counts(later)
    assert [row.subject for row in RateCount.select()] == ["later"]
    networks.prune_counts(later)
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
