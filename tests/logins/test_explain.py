"""Why a login fails: the right reason for each of many cases, and nothing that helps an attacker."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from egec_cli import hashing
from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.credentials.states import MailOutcome, NewCredential
from egec_cli.logins import limits
from egec_cli.logins.explain import explain_login
from egec_cli.password import Password
from egec_cli.store.models import Client, Credential, CredentialState, Event

IDENTIFIER = "5079512743"
LAST = "fG69a*6jH"
EARLIER, BEFORE_THAT, OLDEST = "aB3#xY7%z", "Zz9?Yy8+X", "Qw2=Er3-T"
WITH_LOOKALIKES = "lO0I1a*6j"


def issued(context: Context, client: Client, clear: str, state: CredentialState = CredentialState.ACCEPTED) -> None:
    """Issue this password, and settle its mail with this state."""
    new = NewCredential(client.id, hashing.hash_password(Password(clear), 4), "<x@egec.pro>")
    with context.database.atomic():
        recorded = states.record_credentials(
            [new], at=context.clock(), by="test", expires_at=context.clock() + timedelta(days=30)
        )[client.id]
        states.settle_credentials(
            [MailOutcome(recorded, state, "mail_refused" if state == "refused" else None)], at=context.clock()
        )


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client with a password and three earlier ones."""
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org", given_identifier=IDENTIFIER))
    for clear in (OLDEST, BEFORE_THAT, EARLIER, LAST):
        issued(opened, made, clear)
    return made


def explained(context: Context, identifier: str, password: str) -> tuple[bool, str]:
    found = explain_login(context, identifier, password)
    assert found.hint
    return found.accepted, found.reason


TYPED = {
    LAST: "accepted",
    f"  {LAST}\u00a0": "accepted",
    EARLIER: "earlier_password",
    BEFORE_THAT: "earlier_password",
    OLDEST: "wrong_password",
    LAST.swapcase(): "capitals_swapped",
    "FG69a*6jH": "first_letter_case",
    LAST.lower(): "wrong_password",
    LAST.upper(): "wrong_password",
    "fG69 a*6jH": "extra_characters",
    "fG6 9a* 6jH": "extra_characters",
    f"{LAST}.": "extra_characters",
    f"«\u00a0{LAST}\u00a0»": "extra_characters",
    f"({LAST})": "extra_characters",
    f"**{LAST}**": "extra_characters",
    f"mot de passe : {LAST}": "extra_characters",
    f"{IDENTIFIER} {LAST}": "extra_characters",
    f"{LAST} Merci.": "extra_characters",
    "fG69a*6j": "wrong_length",
    "fG69a*6jHH": "extra_characters",
    "": "wrong_length",
    "x" * 100: "wrong_length",
    "é" * 9: "wrong_password",
    "fG69a*6jh": "wrong_password",
    "password1": "wrong_password",
    "fG69a\0*6j": "wrong_password",
}


@pytest.mark.parametrize("typed", TYPED)
def test_the_reason_names_the_fault_of_a_password(opened: Context, client: Client, typed: str) -> None:
    reason = TYPED[typed]
    assert explained(opened, IDENTIFIER, typed) == (reason == "accepted", reason)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("5079512743", "accepted"),
        ("\u200b5079512743 ", "accepted"),
        ("5097512743", "digits_swapped"),
        ("0579512743", "invalid_identifier"),
        ("5079512734", "digits_swapped"),
        ("5079512744", "wrong_digit"),
        ("9079512743", "wrong_digit"),
        ("5079512799", "unknown_identifier"),
        ("1234567890", "unknown_identifier"),
        ("507951274", "invalid_identifier"),
        ("50795127433", "invalid_identifier"),
        ("jeanne@example.org", "invalid_identifier"),
        ("", "invalid_identifier"),
        ("٥٠٧٩٥١٢٧٤٣", "invalid_identifier"),
    ],
)
def test_the_reason_names_the_fault_of_an_identifier(opened: Context, client: Client, typed: str, reason: str) -> None:
    assert explained(opened, typed, LAST) == (reason == "accepted", reason)


def test_two_clients_close_to_a_mistyped_identifier_give_no_hint(opened: Context, client: Client) -> None:
    records.create_client(opened, fields.parse_fields("marc@example.org", given_identifier="5079512745"))
    assert explained(opened, "5079512744", LAST) == (False, "unknown_identifier")


def test_the_hint_names_no_other_client(opened: Context, client: Client) -> None:
    for typed in ("5097512743", "5079512744"):
        hint = explain_login(opened, typed, "x").hint
        assert IDENTIFIER not in hint
        assert "jeanne" not in hint


def test_confused_lookalikes_are_recognised(opened: Context) -> None:
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    issued(opened, made, WITH_LOOKALIKES)
    for typed in ("lOOI1a*6j", "l00I1a*6j", "1OOI1a*6j", "IO0I1a*6j"):
        assert explained(opened, made.identifier, typed) == (False, "lookalikes_confused")


Change = Callable[[Context, Client], object]


def waits(context: Context, client: Client) -> None:
    Client.update(failed_logins=5, blocked_until=context.clock() + timedelta(minutes=1)).execute()


def is_blocked(_egec: Context, _client: Client) -> None:
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()


def is_disabled(context: Context, _client: Client) -> None:
    Client.update(disabled_at=context.clock()).execute()


def is_not_yet_valid(_context: Context, _client: Client) -> None:
    Client.update(valid_from="2099-01-01").execute()


def is_no_longer_valid(_context: Context, _client: Client) -> None:
    Client.update(valid_from="2020-01-01", valid_until="2020-12-31").execute()


def is_valid_and_expired(context: Context, client: Client) -> None:
    Client.update(valid_from="2020-01-01", valid_until="2099-12-31").execute()
    has_expired(context, client)


def has_expired(context: Context, _client: Client) -> None:
    Credential.update(expires_at=context.clock() - timedelta(days=1)).where(Credential.sequence == 4).execute()


def was_refused_since(context: Context, client: Client) -> None:
    issued(context, client, "Nn7#mM6%k", CredentialState.REFUSED)


def is_in_doubt_since(context: Context, client: Client) -> None:
    issued(context, client, "Nn7#mM6%k", CredentialState.IN_DOUBT)


def was_revoked(context: Context, client: Client) -> None:
    with context.database.atomic():
        new = NewCredential(client.id, "", None)
        recorded = states.record_credentials(
            [new], at=context.clock(), by="test", expires_at=context.clock() + timedelta(days=30), revoke=True
        )[client.id]
        states.settle_credentials([MailOutcome(recorded, CredentialState.REFUSED, "mail_refused")], at=context.clock())


@pytest.mark.parametrize(
    ("change", "typed", "reason"),
    [
        (waits, LAST, "waiting"),
        (is_blocked, LAST, "blocked"),
        (is_disabled, LAST, "disabled"),
        (is_not_yet_valid, LAST, "not_yet_valid"),
        (is_not_yet_valid, "x", "not_yet_valid"),
        (is_no_longer_valid, LAST, "no_longer_valid"),
        (is_valid_and_expired, LAST, "expired"),
        (has_expired, LAST, "expired"),
        (has_expired, "x", "wrong_password"),
        (was_refused_since, LAST, "accepted"),
        (was_refused_since, "Nn7#mM6%k", "last_mail_refused"),
        (is_in_doubt_since, "Nn7#mM6%k", "accepted"),
        (is_in_doubt_since, "Nn7#mM6%j", "last_mail_in_doubt"),
        (was_revoked, LAST, "last_mail_refused"),
    ],
)
def test_the_reason_names_the_fault_of_an_account(
    opened: Context, client: Client, change: Change, typed: str, reason: str
) -> None:
    change(opened, client)
    assert explained(opened, IDENTIFIER, typed) == (reason == "accepted", reason)


def test_a_client_who_never_got_a_password_is_recognised(opened: Context) -> None:
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    assert explained(opened, made.identifier, "x") == (False, "never_activated")


def test_an_explanation_counts_as_an_attempt_and_is_recorded(opened: Context, client: Client) -> None:
    for _ in range(5):
        assert explained(opened, IDENTIFIER, LAST.swapcase())[1] == "capitals_swapped"
    assert explained(opened, IDENTIFIER, LAST) == (False, "waiting")
    events = [
        (event.action, event.outcome) for event in Event.select().order_by(Event.id) if event.action != "client.create"
    ]
    assert events[:2] == [("login", "refused"), ("login.explain", "capitals_swapped")]
    assert len(events) == 12


def test_no_hint_contains_a_password(opened: Context, client: Client) -> None:
    for typed in (LAST.swapcase(), EARLIER, f"{LAST}.", "x"):
        found = explain_login(opened, IDENTIFIER, typed)
        assert not any(clear in found.hint for clear in (LAST, EARLIER, typed) if len(clear) > 1)


def test_the_password_of_a_delivery_in_doubt_that_has_expired_is_recognised(opened: Context, client: Client) -> None:
    clear = "Xy4#Zw9=q"
    issued(opened, client, clear, CredentialState.IN_DOUBT)
    moment = opened.clock() + timedelta(days=31)
    assert explained(opened._replace(clock=lambda: moment), IDENTIFIER, clear) == (False, "expired")


def state_of(client: Client) -> list[object]:
    """Return all that a login could change."""
    clients = Client.select().where(Client.id == client.id)
    credentials = Credential.select().where(Credential.client == client).order_by(Credential.id)
    return [*clients.tuples(), *credentials.tuples()]


@pytest.mark.parametrize("typed", [LAST, EARLIER, LAST.swapcase(), "wrong", ""])
@pytest.mark.parametrize("failures", [0, 4, 9])
def test_a_test_that_does_not_count_changes_nothing_but_the_audit_log(
    opened: Context, client: Client, typed: str, failures: int
) -> None:
    Client.update(failed_logins=failures).where(Client.id == client.id).execute()
    # A mail whose password is right, but not known to have arrived.
    issued(opened, client, OLDEST[::-1], CredentialState.IN_DOUBT)
    before = state_of(client)
    counted = explain_login(opened, IDENTIFIER, typed, count=False)
    assert state_of(client) == before
    events = Event.select().where(Event.action.startswith("login"))
    assert [(one.action, one.outcome, one.details) for one in events] == [
        ("login.explain", counted.reason, '{"counted": false}')
    ]
    assert counted == explain_login(opened, IDENTIFIER, typed)


def test_a_test_that_does_not_count_accepts_a_mail_in_doubt_without_settling_it(
    opened: Context, client: Client
) -> None:
    issued(opened, client, OLDEST[::-1], CredentialState.IN_DOUBT)
    before = state_of(client)
    assert explain_login(opened, IDENTIFIER, OLDEST[::-1], count=False).accepted
    assert state_of(client) == before


@pytest.mark.parametrize("until", [timedelta(minutes=1), None])
def test_a_wait_or_block_holds_for_a_test_that_does_not_count_too(
    opened: Context, client: Client, until: timedelta | None
) -> None:
    end = limits.UNTIL_NEW_CREDENTIAL if until is None else opened.clock() + until
    Client.update(blocked_until=end).where(Client.id == client.id).execute()
    found = explain_login(opened, IDENTIFIER, LAST, count=False)
    assert (found.accepted, found.reason) == (False, "blocked" if until is None else "waiting")


def test_a_disabled_or_unknown_client_fails_a_test_that_does_not_count(opened: Context, client: Client) -> None:
    assert explain_login(opened, "1111111111", LAST, count=False).reason == "unknown_identifier"
    Client.update(disabled_at=opened.clock()).where(Client.id == client.id).execute()
    assert explain_login(opened, IDENTIFIER, LAST, count=False).reason == "disabled"


def test_an_inactive_account_is_explained_with_its_day_and_the_command_that_changes_it(
    opened: Context, client: Client
) -> None:
    Client.update(valid_from="2099-01-01").execute()
    assert explain_login(opened, IDENTIFIER, LAST, count=False).hint == (
        f"The account is valid from 2099-01-01. To change that: `egec client update {IDENTIFIER} --valid-from DATE`."
    )
    Client.update(valid_from=None, valid_until="2020-12-31").execute()
    assert explain_login(opened, IDENTIFIER, LAST, count=False).hint == (
        f"The account was valid until 2020-12-31. To extend it: `egec client update {IDENTIFIER} --valid-until DATE`."
    )
    Client.update(disabled_at=opened.clock()).execute()
    assert explain_login(opened, IDENTIFIER, LAST, count=False).reason == "disabled"
    Client.update(blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    assert explain_login(opened, IDENTIFIER, LAST, count=False).reason == "blocked"
