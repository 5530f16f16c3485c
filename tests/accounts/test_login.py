"""Logins on both databases: limits, hashes that are replaced by those of today's cost, earlier passwords."""

import subprocess
from collections import Counter
from datetime import timedelta
from functools import partial

import bcrypt
import pytest

from egec_cli import hashing
from egec_cli.accounts import clients, fields, issuing, login, login_limits
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.login import Reason
from egec_cli.store.models import Client, Credential, CredentialState, Event
from tests import children
from tests.processes import command_of


def activated(egec: Egec, email: str = "jeanne@example.org") -> tuple[Client, str]:
    """Make a client with a password; return both."""
    client = clients.create(egec, fields.checked(email))
    made = hashing.begin(egec.settings)
    issuing.hand_over(egec, client, lambda _: None, hashing=made)
    return client, made.password.reveal()


@pytest.fixture
def client(opened: Egec) -> tuple[str, str]:
    """Return the identifier and the password of a client."""
    made, password = activated(opened)
    return made.identifier, password


def reason(egec: Egec, identifier: str, password: str, *, after: timedelta = timedelta()) -> Reason:
    moment = egec.clock() + after
    return login.attempt(egec._replace(clock=lambda: moment), identifier, password).reason


def test_after_the_fifth_failure_in_a_row_an_account_waits_ever_longer_and_after_the_tenth_it_is_blocked(
    opened: Egec, client: tuple[str, str]
) -> None:
    identifier, password = client
    for _ in range(5):
        assert reason(opened, identifier, "wrong") is Reason.WRONG
    passed = timedelta()
    for wait in (1, 2, 4, 8, 16):
        assert (
            reason(opened, identifier, password, after=passed + timedelta(minutes=wait, seconds=-5)) is Reason.WAITING
        )
        passed += timedelta(minutes=wait, seconds=5)
        assert reason(opened, identifier, "wrong", after=passed) is Reason.WRONG
    assert reason(opened, identifier, password, after=timedelta(days=365)) is Reason.BLOCKED
    assert clients.shown(Client.get(), opened.clock()).status == "blocked"


def test_a_login_that_succeeds_takes_the_count_away(opened: Egec, client: tuple[str, str]) -> None:
    identifier, password = client
    for _ in range(3):
        for _ in range(4):
            assert reason(opened, identifier, "wrong") is Reason.WRONG
        assert reason(opened, identifier, password) is Reason.ACCEPTED
    for _ in range(5):
        reason(opened, identifier, "wrong")
    assert reason(opened, identifier, password, after=timedelta(minutes=2)) is Reason.ACCEPTED
    assert reason(opened, identifier, "wrong") is Reason.WRONG


def test_a_new_password_frees_a_blocked_account(opened: Egec, client: tuple[str, str]) -> None:
    Client.update(failed_logins=10, blocked_until=login_limits.FOR_GOOD).execute()
    made = hashing.begin(opened.settings)
    issuing.hand_over(opened, Client.get(), lambda _: None, hashing=made)
    assert reason(opened, client[0], made.password.reveal()) is Reason.ACCEPTED


def test_a_blocked_account_says_what_an_unknown_one_says(opened: Egec, client: tuple[str, str]) -> None:
    Client.update(failed_logins=10, blocked_until=login_limits.FOR_GOOD).execute()
    assert login.verify(opened, client[0], client[1]) == login.verify(opened, "1111111111", client[1])


def guesses(identifier: str, password: str, *, processes: int, times: int) -> list[str]:
    """Let processes log in at the same moment; return the reasons of all attempts."""
    command = command_of(partial(children.guess, identifier, password, times))
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for member in crowd:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()
    return [word for member in crowd for word in member.communicate(timeout=120)[0].split()]


def test_of_fourteen_wrong_logins_at_once_five_are_compared_before_the_first_wait(
    opened: Egec, client: tuple[str, str]
) -> None:
    found = guesses(client[0], "wrong", processes=14, times=3)
    assert Counter(found) == {"wrong": 5, "waiting": 14 * 3 - 5}
    assert login_limits.shown(Client.get(), opened.clock()).failed_logins == 5


def test_of_many_wrong_logins_at_once_after_a_wait_one_is_compared(opened: Egec, client: tuple[str, str]) -> None:
    Client.update(failed_logins=5, blocked_until=opened.clock() - timedelta(minutes=1)).execute()
    assert Counter(guesses(client[0], "wrong", processes=6, times=3)) == {"wrong": 1, "waiting": 17}


def test_of_many_right_attempts_at_once_all_are_let_in(opened: Egec, client: tuple[str, str]) -> None:
    assert set(guesses(client[0], client[1], processes=8, times=10)) == {"accepted"}


def test_a_hash_below_todays_cost_is_replaced_at_login_and_opens_as_before(
    opened: Egec, client: tuple[str, str]
) -> None:
    dearer = opened._replace(settings=opened.settings._replace(bcrypt_cost=5))
    assert reason(dearer, client[0], "wrong") is Reason.WRONG
    assert str(Credential.get().password_hash).startswith("$2b$04$")
    assert reason(dearer, client[0], client[1]) is Reason.ACCEPTED
    assert str(Credential.get().password_hash).startswith("$2b$05$")
    assert reason(opened, client[0], client[1]) is Reason.ACCEPTED
    assert str(Credential.get().password_hash).startswith("$2b$05$")


def test_the_hashes_of_two_former_passwords_are_kept_and_open_nothing(opened: Egec) -> None:
    client = clients.create(opened, fields.checked("jeanne@example.org"))
    passwords = []
    for _ in range(5):
        made = hashing.begin(opened.settings)
        issuing.hand_over(opened, client, lambda _: None, hashing=made)
        passwords.append(made.password.reveal())
    kept = [row.password_hash is not None for row in Credential.select().order_by(Credential.sequence)]
    assert kept == [False, False, True, True, True]
    assert [reason(opened, client.identifier, password) for password in passwords[1:]] == [
        *[Reason.WRONG] * 3,
        "accepted",
    ]


def test_every_verdict_is_on_record_with_its_reason_and_no_secret(opened: Egec, client: tuple[str, str]) -> None:
    reason(opened, client[0], "wrong")
    reason(opened, "1111111111", client[1])
    reason(opened, client[0], client[1])
    events = [event for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert [(event.outcome, event.details) for event in events] == [
        ("refused", '{"reason": "wrong"}'),
        ("refused", '{"reason": "unknown_identifier"}'),
        ("accepted", '{"reason": "accepted"}'),
    ]


def test_the_record_tells_a_wait_from_a_block(opened: Egec, client: tuple[str, str]) -> None:
    for _ in range(login_limits.FAILURES_BEFORE_WAIT):
        reason(opened, client[0], "wrong")
    reason(opened, *client)
    Client.update(blocked_until=login_limits.FOR_GOOD).execute()
    reason(opened, *client)
    details = [event.details for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert details[-2:] == ['{"reason": "waiting"}', '{"reason": "blocked"}']


def test_a_login_that_shows_that_a_mail_arrived_is_on_record_as_that(opened: Egec, client: tuple[str, str]) -> None:
    Credential.update(state=CredentialState.IN_DOUBT).execute()
    Client.update(active_sequence=0).execute()
    assert [reason(opened, *client) for _ in range(2)] == [Reason.ACCEPTED] * 2
    details = [event.details for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert details == ['{"arrived": 1, "reason": "accepted"}', '{"reason": "accepted"}']


@pytest.mark.parametrize("stored", ["", "$2b$", "$2b$04$short", "not a hash", "$2b$99$" + "." * 53])
def test_a_malformed_stored_hash_refuses_and_never_crashes(opened: Egec, client: tuple[str, str], stored: str) -> None:
    Credential.update(password_hash=stored).execute()
    assert reason(opened, client[0], client[1]) is Reason.WRONG


def test_the_cost_of_a_hash_is_known() -> None:
    assert hashing.cost_of(bcrypt.hashpw(b"x", bcrypt.gensalt(5)).decode()) == 5
    assert hashing.cost_of("nonsense") == 0


def test_a_hash_of_todays_cost_stays_as_it_is(opened: Egec, client: tuple[str, str]) -> None:
    before = Credential.get().password_hash
    assert before is not None
    assert hashing.cost_of(before) == opened.settings.bcrypt_cost
    assert reason(opened, *client) is Reason.ACCEPTED
    assert Credential.get().password_hash == before


@pytest.mark.parametrize("refused", [Reason.WRONG, Reason.DISABLED, Reason.NOTHING_OPENS])
def test_a_failure_counts_towards_the_wait_whatever_its_reason(
    opened: Egec, client: tuple[str, str], refused: Reason
) -> None:
    identifier, password = client
    if refused is Reason.DISABLED:
        Client.update(disabled_at=opened.clock()).execute()
    if refused is Reason.NOTHING_OPENS:
        identifier = clients.create(opened, fields.checked("marc@example.org")).identifier
    typed = "wrong" if refused is Reason.WRONG else password
    for _ in range(login_limits.FAILURES_BEFORE_WAIT):
        assert reason(opened, identifier, typed) is refused
    assert reason(opened, identifier, typed) is Reason.WAITING
