"""Logins on both databases: limits, replacement of cheap hashes, earlier passwords."""

import subprocess
from collections import Counter
from datetime import timedelta
from functools import partial

import bcrypt
import pytest

from egec_cli import clock, hashing
from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.credentials.validity import local_moment
from egec_cli.logins import limits
from egec_cli.logins.verify import (
    LoginReason,
    check_login,
    compare_hashes,
    settle_login,
    start_login,
    try_login,
    verify_login,
)
from egec_cli.store.models import Client, Credential, CredentialState, Event
from tests import children
from tests.processes import command_of


def activated(context: Context, email: str = "jeanne@example.org") -> tuple[Client, str]:
    """Create a client with a password; return both."""
    client = records.create_client(context, fields.parse_fields(email))
    made = hashing.start_hash(context.settings)
    issue.issue_to_operator(context, client, lambda _: None, hashing=made)
    return client, made.password.reveal()


@pytest.fixture
def client(opened: Context) -> tuple[str, str]:
    """Return the identifier and the password of a client."""
    made, password = activated(opened)
    return made.identifier, password


def reason(context: Context, identifier: str, password: str, *, after: timedelta = timedelta()) -> LoginReason:
    moment = context.clock() + after
    return check_login(context._replace(clock=lambda: moment), identifier, password).reason


def test_an_account_waits_longer_after_each_failure_from_the_fifth_and_is_blocked_after_the_tenth(
    opened: Context, client: tuple[str, str]
) -> None:
    identifier, password = client
    for _ in range(5):
        assert reason(opened, identifier, "wrong") is LoginReason.WRONG_PASSWORD
    passed = timedelta()
    for wait in (1, 2, 4, 8, 16):
        assert (
            reason(opened, identifier, password, after=passed + timedelta(minutes=wait, seconds=-5))
            is LoginReason.WAITING
        )
        passed += timedelta(minutes=wait, seconds=5)
        assert reason(opened, identifier, "wrong", after=passed) is LoginReason.WRONG_PASSWORD
    assert reason(opened, identifier, password, after=timedelta(days=365)) is LoginReason.BLOCKED
    assert records.load_record(Client.get(), local_moment(opened)).status == "blocked"


def test_an_accepted_login_resets_the_failures(opened: Context, client: tuple[str, str]) -> None:
    identifier, password = client
    for _ in range(3):
        for _ in range(4):
            assert reason(opened, identifier, "wrong") is LoginReason.WRONG_PASSWORD
        assert reason(opened, identifier, password) is LoginReason.ACCEPTED
    for _ in range(5):
        reason(opened, identifier, "wrong")
    assert reason(opened, identifier, password, after=timedelta(minutes=2)) is LoginReason.ACCEPTED
    assert reason(opened, identifier, "wrong") is LoginReason.WRONG_PASSWORD


def test_a_new_password_unblocks_a_blocked_account(opened: Context, client: tuple[str, str]) -> None:
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    made = hashing.start_hash(opened.settings)
    issue.issue_to_operator(opened, Client.get(), lambda _: None, hashing=made)
    assert reason(opened, client[0], made.password.reveal()) is LoginReason.ACCEPTED


def test_a_blocked_account_gets_the_same_verdict_as_an_unknown_one(opened: Context, client: tuple[str, str]) -> None:
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    assert verify_login(opened, client[0], client[1]) == verify_login(opened, "1111111111", client[1])


def guesses(identifier: str, password: str, *, processes: int, times: int) -> list[str]:
    """Log in from several processes at the same moment; return the reasons of all attempts."""
    command = command_of(partial(children.guess, identifier, password, times))
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for member in crowd:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()
    return [word for member in crowd for word in member.communicate(timeout=120)[0].split()]


def test_of_fourteen_wrong_logins_at_once_only_five_are_compared_before_the_first_wait(
    opened: Context, client: tuple[str, str]
) -> None:
    found = guesses(client[0], "wrong", processes=14, times=3)
    assert Counter(found) == {"wrong_password": 5, "waiting": 14 * 3 - 5}
    assert limits.load_limits(Client.get(), opened.clock()).failed_logins == 5


def test_of_many_wrong_logins_after_a_wait_only_one_is_compared(opened: Context, client: tuple[str, str]) -> None:
    Client.update(failed_logins=5, blocked_until=opened.clock() - timedelta(minutes=1)).execute()
    assert Counter(guesses(client[0], "wrong", processes=6, times=3)) == {"wrong_password": 1, "waiting": 17}


def test_many_right_logins_at_once_are_all_accepted(opened: Context, client: tuple[str, str]) -> None:
    assert set(guesses(client[0], client[1], processes=8, times=10)) == {"accepted"}


def test_a_hash_below_the_current_cost_is_replaced_at_login_and_still_matches(
    opened: Context, client: tuple[str, str]
) -> None:
    costlier = opened._replace(settings=opened.settings._replace(bcrypt_cost=5))
    assert reason(costlier, client[0], "wrong") is LoginReason.WRONG_PASSWORD
    assert str(Credential.get().password_hash).startswith("$2b$04$")
    assert reason(costlier, client[0], client[1]) is LoginReason.ACCEPTED
    assert str(Credential.get().password_hash).startswith("$2b$05$")
    assert reason(opened, client[0], client[1]) is LoginReason.ACCEPTED
    assert str(Credential.get().password_hash).startswith("$2b$05$")


def test_the_hashes_of_two_earlier_passwords_are_kept_and_do_not_sign_in(opened: Context) -> None:
    client = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    passwords = []
    for _ in range(5):
        made = hashing.start_hash(opened.settings)
        issue.issue_to_operator(opened, client, lambda _: None, hashing=made)
        passwords.append(made.password.reveal())
    kept = [row.password_hash is not None for row in Credential.select().order_by(Credential.sequence)]
    assert kept == [False, False, True, True, True]
    assert [reason(opened, client.identifier, password) for password in passwords[1:]] == [
        *[LoginReason.WRONG_PASSWORD] * 3,
        "accepted",
    ]


def test_every_verdict_is_recorded_with_its_reason_and_no_secret(opened: Context, client: tuple[str, str]) -> None:
    reason(opened, client[0], "wrong")
    reason(opened, "1111111111", client[1])
    reason(opened, client[0], client[1])
    events = [event for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert [(event.outcome, event.details) for event in events] == [
        ("refused", '{"reason": "wrong_password"}'),
        ("refused", '{"reason": "unknown_identifier"}'),
        ("accepted", '{"reason": "accepted"}'),
    ]


def test_the_audit_record_distinguishes_a_wait_from_a_block(opened: Context, client: tuple[str, str]) -> None:
    for _ in range(limits.FAILURES_BEFORE_WAIT):
        reason(opened, client[0], "wrong")
    reason(opened, *client)
    Client.update(blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    reason(opened, *client)
    details = [event.details for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert details[-2:] == ['{"reason": "waiting"}', '{"reason": "blocked"}']


def test_a_login_that_proves_a_delivery_is_recorded_with_its_sequence(opened: Context, client: tuple[str, str]) -> None:
    Credential.update(state=CredentialState.IN_DOUBT).execute()
    Client.update(active_sequence=0).execute()
    assert [reason(opened, *client) for _ in range(2)] == [LoginReason.ACCEPTED] * 2
    details = [event.details for event in Event.select().order_by(Event.id) if event.action == "login"]
    assert details == ['{"arrived": 1, "reason": "accepted"}', '{"reason": "accepted"}']


@pytest.mark.parametrize("stored", ["", "$2b$", "$2b$04$short", "not a hash", "$2b$99$" + "." * 53])
def test_a_malformed_stored_hash_is_refused_and_never_crashes(
    opened: Context, client: tuple[str, str], stored: str
) -> None:
    Credential.update(password_hash=stored).execute()
    assert reason(opened, client[0], client[1]) is LoginReason.WRONG_PASSWORD


def test_the_cost_of_a_hash_is_read_from_it() -> None:
    assert hashing.hash_cost(bcrypt.hashpw(b"x", bcrypt.gensalt(5)).decode()) == 5
    assert hashing.hash_cost("nonsense") == 0


def test_a_hash_of_the_current_cost_is_not_replaced(opened: Context, client: tuple[str, str]) -> None:
    before = Credential.get().password_hash
    assert before is not None
    assert hashing.hash_cost(before) == opened.settings.bcrypt_cost
    assert reason(opened, *client) is LoginReason.ACCEPTED
    assert Credential.get().password_hash == before


@pytest.mark.parametrize(
    "refused", [LoginReason.WRONG_PASSWORD, LoginReason.DISABLED, LoginReason.INACTIVE, LoginReason.NO_PASSWORD]
)
def test_a_failure_counts_towards_the_wait_whatever_its_reason(
    opened: Context, client: tuple[str, str], refused: LoginReason
) -> None:
    identifier, password = client
    if refused is LoginReason.DISABLED:
        Client.update(disabled_at=opened.clock()).execute()
    if refused is LoginReason.INACTIVE:
        Client.update(valid_until="2020-12-31").execute()
    if refused is LoginReason.NO_PASSWORD:
        identifier = records.create_client(opened, fields.parse_fields("marc@example.org")).identifier
    typed = "wrong" if refused is LoginReason.WRONG_PASSWORD else password
    for _ in range(limits.FAILURES_BEFORE_WAIT):
        assert reason(opened, identifier, typed) is refused
    assert reason(opened, identifier, typed) is LoginReason.WAITING


def at(context: Context, moment: str, zone: str = "Europe/Paris") -> Context:
    """Return a context at a moment in UTC, whose days are those of a time zone."""
    fixed = clock.parse_time(f"{moment}Z")
    return context._replace(clock=lambda: fixed, settings=context.settings._replace(timezone=zone))


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        ("2026-08-31T21:59:59.999", "Europe/Paris", LoginReason.INACTIVE),
        ("2026-08-31T22:00:00.000", "Europe/Paris", LoginReason.ACCEPTED),
        # Clocks have changed since.
        ("2026-10-25T22:59:59.999", "Europe/Paris", LoginReason.ACCEPTED),
        ("2026-10-25T23:00:00.000", "Europe/Paris", LoginReason.INACTIVE),
        ("2026-10-25T23:00:00.000", "UTC", LoginReason.ACCEPTED),
        ("2026-10-26T00:00:00.000", "UTC", LoginReason.INACTIVE),
        ("2026-08-31T10:00:00.000", "Pacific/Kiritimati", LoginReason.ACCEPTED),
        ("2026-10-26T11:59:59.999", "Etc/GMT+12", LoginReason.ACCEPTED),
        ("2026-10-26T12:00:00.000", "Etc/GMT+12", LoginReason.INACTIVE),
    ],
)
def test_an_account_is_open_from_the_first_to_the_last_day_in_the_zone_of_the_settings(
    opened: Context, client: tuple[str, str], moment: str, zone: str, expected: LoginReason
) -> None:
    identifier, password = client
    Client.update(valid_from="2026-09-01", valid_until="2026-10-25").execute()
    then = at(opened, moment, zone)
    assert reason(then, identifier, password) is expected
    assert try_login(then, identifier, password).reason is expected
    assert reason(then, identifier, "wrong") is LoginReason.WRONG_PASSWORD


def test_a_login_is_judged_by_the_day_on_which_it_is_settled(opened: Context, client: tuple[str, str]) -> None:
    identifier, password = client
    Client.update(valid_from="2026-09-01", valid_until="2026-10-25").execute()
    before, after = at(opened, "2026-10-25T22:59:59.999"), at(opened, "2026-10-25T23:00:00.000")
    started = start_login(before, identifier, password)
    assert settle_login(after, started, compare_hashes(before, started)).reason is LoginReason.INACTIVE
    before, after = at(opened, "2026-08-31T21:59:59.999"), at(opened, "2026-08-31T22:00:00.000")
    started = start_login(before, identifier, password)
    assert settle_login(after, started, compare_hashes(before, started)).reason is LoginReason.ACCEPTED


def test_a_login_to_an_inactive_account_replaces_no_hash_and_settles_no_mail(
    opened: Context, client: tuple[str, str]
) -> None:
    identifier, password = client
    Credential.update(state=CredentialState.IN_DOUBT).execute()
    Client.update(active_sequence=0, valid_until="2020-12-31").execute()
    costlier = opened._replace(settings=opened.settings._replace(bcrypt_cost=5))
    before = Credential.select().dicts().get()
    assert reason(costlier, identifier, password) is LoginReason.INACTIVE
    assert Credential.select().dicts().get() == before
    assert [event.details for event in Event.select() if event.action == "login"] == ['{"reason": "inactive"}']
