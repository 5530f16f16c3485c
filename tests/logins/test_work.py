"""A refused login takes the same work for every account, whatever the cost of its hash, and for unknown ones."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import bcrypt
import pytest

from egec_cli.clients import change, fields, records
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.logins import limits
from egec_cli.logins.verify import LoginReason, check_login, verify_login
from egec_cli.store.models import Client, Credential, Event, Installation, LoginPlace
from tests.imports.test_run import imported
from tests.logins.test_verify import activated

COST = 8
UNKNOWN = "1111111111"


class Work:
    """Counts bcrypt rounds: two to the power of the cost for each hash made or compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        for name in ("checkpw", "hashpw"):
            monkeypatch.setattr(bcrypt, name, self._counting(getattr(bcrypt, name)))

    def _counting(self, act: Callable[[bytes, bytes], Any]) -> Callable[[bytes, bytes], Any]:
        def counted(secret: bytes, stored: bytes) -> Any:
            done = act(secret, stored)
            self.done += 2 ** int(stored.split(b"$")[2])
            return done

        return counted

    def rounds(self, context: Context, identifier: str, password: str, expected: LoginReason) -> int:
        """Log in and return the rounds it took."""
        before = self.done
        assert check_login(context, identifier, password).reason is expected
        return self.done - before


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def today(opened: Context) -> Context:
    """Return a context whose new hashes cost more than those of `opened`."""
    return opened._replace(settings=opened.settings._replace(bcrypt_cost=COST))


class Account(NamedTuple):
    """An account that refuses a login, why, and the password of that login."""

    identifier: str
    reason: LoginReason
    password: str = "wrong"


def wrong(context: Context) -> Account:
    return Account(activated(context)[0].identifier, LoginReason.WRONG_PASSWORD)


def blocked(context: Context) -> Account:
    client, password = activated(context)
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    return Account(client.identifier, LoginReason.BLOCKED, password)


def waiting(context: Context) -> Account:
    client, password = activated(context)
    Client.update(failed_logins=5, blocked_until=context.clock() + timedelta(minutes=1)).execute()
    return Account(client.identifier, LoginReason.WAITING, password)


def disabled(context: Context) -> Account:
    client, _ = activated(context)
    change.disable_clients(context, [client.id], reason="moved")
    return Account(client.identifier, LoginReason.WRONG_PASSWORD)


def disabled_with_the_right_password(context: Context) -> Account:
    client, password = activated(context)
    change.disable_clients(context, [client.id], reason="moved")
    return Account(client.identifier, LoginReason.DISABLED, password)


def not_yet_valid(context: Context) -> Account:
    client, _ = activated(context)
    Client.update(valid_from="2099-01-01").execute()
    return Account(client.identifier, LoginReason.WRONG_PASSWORD)


def not_yet_valid_with_the_right_password(context: Context) -> Account:
    client, password = activated(context)
    Client.update(valid_from="2099-01-01").execute()
    return Account(client.identifier, LoginReason.INACTIVE, password)


def no_longer_valid_with_the_right_password(context: Context) -> Account:
    client, password = activated(context)
    Client.update(valid_until="2020-12-31").execute()
    return Account(client.identifier, LoginReason.INACTIVE, password)


def erased(context: Context) -> Account:
    client, password = activated(context)
    change.erase_clients(context, [client.id])
    return Account(client.identifier, LoginReason.NO_PASSWORD, password)


def expired(context: Context) -> Account:
    client, password = activated(context)
    Credential.update(expires_at=context.clock() - timedelta(days=1)).execute()
    return Account(client.identifier, LoginReason.NO_PASSWORD, password)


def never_activated(context: Context) -> Account:
    return Account(
        records.create_client(context, fields.parse_fields("jeanne@example.org")).identifier, LoginReason.NO_PASSWORD
    )


def with_a_malformed_hash(context: Context) -> Account:
    client, password = activated(context)
    Credential.update(password_hash="$2b$04$short").execute()
    return Account(client.identifier, LoginReason.WRONG_PASSWORD, password)


def imported_at(cost: int) -> Callable[[Context], Account]:
    def account(context: Context) -> Account:
        hashed = bcrypt.hashpw(b"fG69a*6jH", bcrypt.gensalt(cost)).decode()
        imported(context, f"email;hash\njeanne@example.org;{hashed}\n")
        return Account(Client.get().identifier, LoginReason.WRONG_PASSWORD)

    account.__name__ = f"imported_at_{cost}"
    return account


BRANCHES = (
    wrong, blocked, waiting, disabled, disabled_with_the_right_password, not_yet_valid,
    not_yet_valid_with_the_right_password, no_longer_valid_with_the_right_password, erased, expired, never_activated,
    with_a_malformed_hash, *map(imported_at, (4, 6, 8, 10)),
)  # fmt: skip


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.__name__)
def test_a_refusal_takes_as_much_work_as_for_an_unknown_identifier(
    opened: Context, today: Context, work: Work, branch: Callable[[Context], Account]
) -> None:
    account = branch(opened)
    for _ in range(2):
        assert work.rounds(today, account.identifier, account.password, account.reason) == work.rounds(
            today, UNKNOWN, account.password, LoginReason.UNKNOWN_IDENTIFIER
        )


@pytest.mark.parametrize("typed", ["", "x" * 100, "a\0b"], ids=["empty", "long", "NUL"])
def test_a_password_that_bcrypt_rejects_takes_as_much_work(
    opened: Context, today: Context, work: Work, typed: str
) -> None:
    account = wrong(opened)
    assert work.rounds(today, account.identifier, typed, LoginReason.WRONG_PASSWORD) == 2**COST


def test_after_the_cost_was_lowered_refusals_take_the_time_of_the_hashes_that_are_stored(
    opened: Context, today: Context, work: Work
) -> None:
    account = wrong(today)
    assert opened.settings.bcrypt_cost < COST
    for identifier, reason in (
        (account.identifier, LoginReason.WRONG_PASSWORD),
        (UNKNOWN, LoginReason.UNKNOWN_IDENTIFIER),
    ):
        assert work.rounds(opened, identifier, "wrong", reason) == 2**COST


def test_the_cost_of_a_hash_replaced_at_login_is_recorded(opened: Context, today: Context, work: Work) -> None:
    client, password = activated(opened)
    assert verify_login(today, client.identifier, password).accepted
    assert work.rounds(opened, UNKNOWN, "wrong", LoginReason.UNKNOWN_IDENTIFIER) == 2**COST


def test_the_cost_of_a_new_hash_is_recorded(opened: Context, today: Context, work: Work) -> None:
    work.rounds(opened, UNKNOWN, "wrong", LoginReason.UNKNOWN_IDENTIFIER)
    activated(today)
    assert work.rounds(opened, UNKNOWN, "wrong", LoginReason.UNKNOWN_IDENTIFIER) == 2**COST


@pytest.fixture
def earlier_version(today: Context) -> Context:
    """Return the context of a database with hashes whose costs are not recorded."""
    activated(today)
    activated(today, "marc@example.org")
    Credential.update(password_hash="$2b$no hash").where(Credential.id == 1).execute()
    Installation.delete().execute()
    return today._replace(settings=today.settings._replace(bcrypt_cost=4))


def test_the_first_login_finds_the_costs_of_an_earlier_version(earlier_version: Context) -> None:
    assert [states.get_refusal_cost(earlier_version) for _ in range(2)] == [COST, COST]
    assert Installation.select().count() == 1


def test_the_first_new_hash_finds_the_costs_of_an_earlier_version(earlier_version: Context) -> None:
    activated(earlier_version, "paul@example.org")
    assert states.get_refusal_cost(earlier_version) == COST


def test_an_unknown_identifier_is_recorded_once_and_leaves_no_place(opened: Context) -> None:
    verify_login(opened, UNKNOWN, "wrong")
    assert [event.action for event in Event.select()] == ["login"]
    assert LoginPlace.select().count() == 0


def statements(context: Context, identifier: str, password: str, expected: LoginReason) -> list[str]:
    """Log in and return the statements that the database executed, without their values."""
    executed: list[str] = []
    original: Callable[..., Any] = context.database.execute_sql

    def execute_sql(sql: str, *arguments: Any) -> Any:
        executed.append(sql)
        return original(sql, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.database, "execute_sql", execute_sql)
        assert check_login(context, identifier, password).reason is expected
    return executed


def test_an_inactive_account_takes_the_same_statements_as_a_disabled_one(opened: Context) -> None:
    client, password = activated(opened)
    Client.update(disabled_at=opened.clock()).execute()
    for typed in (password, "wrong"):
        right = typed == password
        Client.update(disabled_at=opened.clock(), valid_until=None, failed_logins=0).execute()
        disabled = statements(
            opened, client.identifier, typed, LoginReason.DISABLED if right else LoginReason.WRONG_PASSWORD
        )
        Client.update(disabled_at=None, valid_until="2020-12-31", failed_logins=0).execute()
        inactive = statements(
            opened, client.identifier, typed, LoginReason.INACTIVE if right else LoginReason.WRONG_PASSWORD
        )
        assert inactive == disabled
