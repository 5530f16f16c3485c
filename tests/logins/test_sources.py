"""Logins from networks, on both databases: limits over all accounts, who is exempt, what is recorded and told."""

import json
import subprocess
from collections import Counter
from datetime import timedelta
from functools import partial
from operator import itemgetter

import pytest

from egec_cli.clients import change
from egec_cli.context import Context
from egec_cli.logins import limits, sources
from egec_cli.logins.explain import explain_login
from egec_cli.logins.limits import AccountBusy
from egec_cli.logins.verify import LoginReason, check_login, start_login, verify_login
from egec_cli.settings.types import Limit
from egec_cli.store.models import Client, Event, LoginPlace, RateCount
from tests import children
from tests.logins.test_verify import activated
from tests.logins.test_work import Work
from tests.processes import command_of

HERE, THERE = "192.0.2.7", "198.51.100.7"
UNKNOWN = "1111111111"


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def strict(opened: Context) -> Context:
    """Return a context in which a network may fail three times an hour."""
    return opened._replace(settings=opened.settings._replace(failures_per_origin=(Limit(3, 3600),)))


def later(context: Context, **passed: float) -> Context:
    moment = context.clock() + timedelta(**passed)
    return context._replace(clock=lambda: moment)


def fail(context: Context, times: int, origin: str = HERE, identifier: str = UNKNOWN) -> list[LoginReason]:
    return [check_login(context, identifier, "wrong", origin=origin).reason for _ in range(times)]


def test_a_spray_over_many_accounts_compares_as_many_hashes_as_the_limit_and_shuts_no_account(
    opened: Context, work: Work
) -> None:
    clients = [activated(opened, f"c{number}@example.org")[0] for number in range(20)]
    before = work.done
    found = Counter(
        check_login(opened, clients[number % 20].identifier, "wrong", origin=f"192.0.2.{number % 250}").reason
        for number in range(131)
    )
    assert found == {"wrong_password": 30, "origin_limited": 101}
    assert work.done - before == 30 * 2**opened.settings.bcrypt_cost
    assert max(client.failed_logins for client in Client.select()) == 2
    # 30 failures, then the first, tenth and hundredth login beyond the limit.
    assert Event.select().where(Event.action == "login").count() == 33
    assert RateCount.select().count() == 1


def test_a_refusal_beyond_the_limit_is_like_any_other(strict: Context) -> None:
    client, password = activated(strict)
    fail(strict, 3)
    assert verify_login(strict, client.identifier, password, origin=HERE) == verify_login(strict, UNKNOWN, password)
    assert check_login(strict, client.identifier, password, origin=HERE) == (LoginReason.ORIGIN_LIMITED, None, None)
    assert limits.load_limits(Client.get(), strict.clock()) == (0, None)
    assert LoginPlace.select().count() == 0


def test_empty_logins_use_up_nothing_of_their_network_and_have_a_limit_of_their_own(
    strict: Context, work: Work
) -> None:
    client, password = activated(strict)
    before = work.done
    assert Counter(fail(strict, 20, identifier=" ")) == {"unknown_identifier": 3, "origin_limited": 17}
    assert work.done - before == 3 * 2**strict.settings.bcrypt_cost
    assert fail(strict, 2) == [LoginReason.UNKNOWN_IDENTIFIER] * 2
    assert verify_login(strict, client.identifier, password, origin=HERE).accepted
    # Three in a row, then the first and the tenth beyond the limit.
    assert Event.select().where((Event.action == "login") & Event.client.is_null()).count() == 7


def test_other_networks_and_callers_that_name_none_are_not_limited(strict: Context) -> None:
    client, password = activated(strict)
    fail(strict, 5)
    assert verify_login(strict, client.identifier, password, origin=THERE).accepted
    assert verify_login(strict, client.identifier, password).accepted


def test_refused_logins_do_not_prolong_the_limit(strict: Context) -> None:
    client, password = activated(strict)
    fail(strict, 3)
    assert set(fail(later(strict, minutes=59), 5)) == {LoginReason.ORIGIN_LIMITED}
    assert verify_login(later(strict, minutes=61), client.identifier, password, origin=HERE).accepted


def test_accepted_logins_do_not_count(strict: Context) -> None:
    client, password = activated(strict)
    for _ in range(5):
        assert verify_login(strict, client.identifier, password, origin=HERE).accepted
    assert [row.times for row in RateCount.select()] == [""]


def test_an_account_that_signed_in_from_a_network_is_checked_while_others_lock_it(strict: Context) -> None:
    client, password = activated(strict)
    stranger, other_password = activated(strict, "marc@example.org")
    assert verify_login(strict, client.identifier, password, origin=HERE).accepted
    fail(strict, 4)
    assert verify_login(strict, client.identifier, password, origin="192.0.2.99").accepted
    assert not verify_login(strict, stranger.identifier, other_password, origin=HERE).accepted
    assert fail(strict, 1, HERE, client.identifier) == [LoginReason.WRONG_PASSWORD]
    # Only there, and only for a while.
    fail(strict, 4, THERE)
    assert not verify_login(strict, client.identifier, password, origin=THERE).accepted
    month = later(strict, days=31)
    fail(month, 4)
    assert not verify_login(month, client.identifier, password, origin=HERE).accepted


def test_a_blocked_account_is_not_checked_from_a_limited_network(strict: Context, work: Work) -> None:
    client, password = activated(strict)
    verify_login(strict, client.identifier, password, origin=HERE)
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    fail(strict, 3)
    before = work.done
    assert fail(strict, 1, HERE, client.identifier) == [LoginReason.ORIGIN_LIMITED]
    assert work.done == before


def test_of_many_wrong_logins_at_once_no_more_are_compared_than_the_limit(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_FAILURES_PER_ORIGIN", "7/h")
    command = command_of(partial(children.guess, UNKNOWN, "wrong", 3, HERE))
    crowd = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for member in crowd:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()
    found = Counter(word for member in crowd for word in member.communicate(timeout=120)[0].split())
    assert found == {"unknown_identifier": 7, "origin_limited": 11}


def test_a_login_that_got_no_place_does_not_count_for_its_network(strict: Context) -> None:
    client, _ = activated(strict)
    held = [start_login(strict, client.identifier, "wrong") for _ in range(5)]
    with pytest.raises(AccountBusy):
        start_login(strict, client.identifier, "wrong", origin=HERE, patience=0)
    assert len(held) == 5
    assert [row.times for row in RateCount.select()] == [""]


def test_the_network_is_recorded_as_a_hash_with_every_verdict(strict: Context) -> None:
    client, password = activated(strict)
    verify_login(strict, client.identifier, password, origin=HERE)
    fail(strict, 4)
    recorded = [json.loads(row.details) for row in Event.select().where(Event.action == "login").order_by(Event.id)]
    [network] = {details["origin"] for details in recorded}
    assert len(network) == 12
    assert list(map(itemgetter("reason"), recorded)) == [
        "accepted", *["unknown_identifier"] * 3, "origin_limited",
    ]  # fmt: skip


def test_the_help_desk_learns_from_how_many_networks_a_client_was_attacked(opened: Context) -> None:
    client, password = activated(opened)
    for number in range(6):
        fail(opened, 1, f"10.0.{number}.1", client.identifier)
    assert sources.count_networks(client) == 6
    told = explain_login(later(opened, seconds=1), client.identifier, password)
    assert (told.reason, "failed logins from 6 origins" in told.hint) == ("waiting", True)
    change.unblock_clients(opened, [client.id])
    assert verify_login(opened, client.identifier, password).accepted
    assert sources.count_networks(client) == 0


def test_the_help_desk_learns_that_a_client_was_attacked_from_one_network(opened: Context) -> None:
    client, password = activated(opened)
    fail(opened, 5, HERE, client.identifier)
    assert "failed logins from 1 origin," in explain_login(later(opened, seconds=1), client.identifier, password).hint


def test_the_help_desk_learns_that_a_network_is_limited(strict: Context) -> None:
    client, password = activated(strict)
    fail(strict, 3)
    assert explain_login(strict, client.identifier, password, origin=HERE).reason == "origin_limited"
    assert explain_login(strict, client.identifier, password, count=False).reason == "accepted"


def test_a_block_ends_by_itself_after_the_hours_of_the_setting_and_begins_a_fresh_count(opened: Context) -> None:
    client, password = activated(opened)
    daily = opened._replace(settings=opened.settings._replace(block_hours=24))
    Client.update(failed_logins=9).execute()
    assert fail(daily, 1, "", client.identifier) == [LoginReason.WRONG_PASSWORD]
    until = Client.get().blocked_until
    assert abs(until - daily.clock() - timedelta(hours=24)) < timedelta(minutes=1)
    before, after = later(daily, hours=23), later(daily, hours=25)
    assert check_login(before, client.identifier, password).reason is LoginReason.BLOCKED
    assert "blocked until" in explain_login(before, client.identifier, password).hint
    # Fresh attempts: five, the first wait, and a block after the tenth.
    assert fail(after, 6, "", client.identifier) == [LoginReason.WRONG_PASSWORD] * 5 + [LoginReason.WAITING]
    assert (Client.get().failed_logins, Client.get().blocked_until) == (5, after.clock() + limits.FIRST_WAIT)
    Client.update(failed_logins=9, blocked_until=after.clock()).execute()
    assert fail(after, 2, "", client.identifier) == [LoginReason.WRONG_PASSWORD, LoginReason.BLOCKED]
    assert verify_login(later(after, hours=25), client.identifier, password).accepted
    assert Client.get().failed_logins == 0


def test_an_earlier_block_is_forgotten_only_once_it_has_ended(opened: Context) -> None:
    client, _ = activated(opened)
    daily = opened._replace(settings=opened.settings._replace(block_hours=24))
    # Without an end, as in an earlier version or after an import: the tenth verdict blocks.
    Client.update(failed_logins=10, blocked_until=None).execute()
    assert fail(daily, 2, "", client.identifier) == [LoginReason.WRONG_PASSWORD, LoginReason.BLOCKED]
    for hours in (25, 50):
        assert fail(later(daily, hours=hours), 1, "", client.identifier) == [LoginReason.WRONG_PASSWORD]
    assert Client.get().failed_logins == 2
