"""Client records on both databases."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from egec_cli import context, hashing
from egec_cli.clients import fields, lists, records
from egec_cli.clients.lists import ListQuery
from egec_cli.clients.records import ClientStatus
from egec_cli.clients.select import Selection
from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.credentials.validity import LocalMoment, local_moment
from egec_cli.errors import AlreadyExists, ClientNotFound, EgecError
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.store.models import Client, Credential, CredentialState, Event


def test_what_is_created_is_found_by_email_identifier_and_reference(opened: Context) -> None:
    made = records.create_client(
        opened, fields.parse_fields("Jeanne@Example.org", reference="D-1", last_name="Œuvre 山田")
    )
    for wanted in ("jeanne@EXAMPLE.org", made.identifier, "ref:D-1", f" {made.identifier} "):
        found = records.load_record(records.find_client(wanted), local_moment(opened))
        assert (found.email, found.last_name, found.status) == ("Jeanne@Example.org", "Œuvre 山田", ClientStatus.NEW)
    with pytest.raises(ClientNotFound):
        records.find_client("ref:d-1")


def test_a_taken_email_reference_or_identifier_is_refused(opened: Context) -> None:
    made = records.create_client(
        opened, fields.parse_fields("a@example.org", reference="D-1", given_identifier="1234567890")
    )
    for taken in (
        fields.parse_fields("A@example.org"),
        fields.parse_fields("b@example.org", reference="D-1"),
        fields.parse_fields("b@example.org", given_identifier="1234567890"),
    ):
        with pytest.raises(AlreadyExists):
            records.create_client(opened, taken)
    assert records.find_or_create(opened, fields.parse_fields("A@example.org")) == (made, False)
    assert Client.select().count() == 1


def test_an_existing_client_keeps_the_identifier_whatever_identifier_is_given(opened: Context) -> None:
    """P4: `create --if-missing` returns the client as it is."""
    made = records.create_client(opened, fields.parse_fields("a@example.org"))
    given = fields.parse_fields(
        "A@example.org", given_identifier="1234567890" if made.identifier[0] != "1" else "2345678901"
    )
    assert records.find_or_create(opened, given) == (made, False)
    assert [one.identifier for one in Client.select()] == [made.identifier]


def test_only_one_of_many_concurrent_creations_of_a_client_succeeds(opened: Context, location: Database) -> None:
    def create(_number: int) -> str:
        try:
            return records.create_client(opened, fields.parse_fields("jeanne@example.org")).identifier
        except EgecError as error:
            return type(error).__name__
        finally:
            opened.database.close()

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(create, range(8)))
    assert results[1:] == ["AlreadyExists"] * 7
    assert Client.select().count() == 1


def test_the_status_of_a_record_is_the_one_by_which_lists_select_it(opened: Context) -> None:
    now = opened.clock()
    later, earlier = now + timedelta(hours=1), now - timedelta(hours=1)
    # The first password of each client expired before it was used; the second did not.
    credentials = [{"sequence": 1, "expires_at": earlier}, {"sequence": 2, "expires_at": later}]
    for number, state in enumerate(
        {
            "active_sequence": active, "revoked_below": revoked, "blocked_until": blocked, "disabled_at": disabled,
            "valid_from": begins, "valid_until": ends,
        }
        for active in (0, 1, 2)
        for revoked in (0, 1, 2)
        for blocked in (None, earlier, later)
        for disabled in (None, earlier)
        for begins, ends in ((None, None), ("2020-01-01", "2099-12-31"), ("2099-01-01", None), (None, "2020-12-31"))
    ):  # fmt: skip
        made = records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
        Client.update(**state).where(Client.id == made.id).execute()
        for more in credentials:
            Credential.create(client=made, state=CredentialState.ACCEPTED, created_at=now, issued_by="test", **more)
    everyone = list(lists.list_clients(opened))
    assert len(everyone) == 216
    for status in ClientStatus:
        assert [c for c in everyone if c.status is status] == list(
            lists.list_clients(opened, ListQuery(Selection(status=status)))
        )
        assert any(c.status is status for c in everyone)


@pytest.mark.parametrize(
    ("credential", "state", "status"),
    [
        ({"expires_at": -1}, {}, ClientStatus.EXPIRED),
        ({"expires_at": 0}, {}, ClientStatus.EXPIRED),
        ({"expires_at": 1}, {}, ClientStatus.ACTIVE),
        ({"expires_at": None}, {}, ClientStatus.ACTIVE),
        ({"expires_at": -1, "first_used_at": -2}, {}, ClientStatus.ACTIVE),
        ({"expires_at": -1}, {"blocked_until": 1}, ClientStatus.BLOCKED),
        ({"expires_at": -1}, {"blocked_until": -1}, ClientStatus.EXPIRED),
        ({"expires_at": -1}, {"disabled_at": -1}, ClientStatus.DISABLED),
        ({"expires_at": -1}, {"valid_until": "2020-01-01"}, ClientStatus.INACTIVE),
        ({"expires_at": 1}, {"valid_from": "2099-01-01", "blocked_until": 1}, ClientStatus.INACTIVE),
        ({"expires_at": 1}, {"valid_from": "2099-01-01", "disabled_at": -1}, ClientStatus.DISABLED),
        ({"expires_at": -1}, {"revoked_below": 2}, ClientStatus.NEW),
        ({"expires_at": -1}, {"active_sequence": 0}, ClientStatus.NEW),
    ],
)
def test_a_client_is_expired_if_the_current_password_was_not_used_in_time(
    opened: Context, credential: dict[str, int | None], state: dict[str, Any], status: ClientStatus
) -> None:
    now = opened.clock()

    def moments(numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value
            if value is None or name.endswith(("below", "sequence", "valid_from", "valid_until"))
            else now + timedelta(hours=value)
            for name, value in numbers.items()
        }

    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    Credential.create(
        client=made,
        sequence=1,
        state=CredentialState.ACCEPTED,
        created_at=now,
        issued_by="test",
        **moments(credential),
    )
    Client.update(**({"active_sequence": 1} | moments(state))).where(Client.id == made.id).execute()
    assert records.load_record(made, LocalMoment(now, opened.settings.timezone)).status is status


def test_a_new_password_makes_an_expired_client_active_again(opened: Context) -> None:
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    issue.issue_to_operator(opened, made, lambda _: None, hashing=hashing.start_hash(opened.settings))
    Credential.update(expires_at=opened.clock() - timedelta(days=1)).execute()
    assert records.load_record(made, local_moment(opened)).status is ClientStatus.EXPIRED
    issue.issue_to_operator(opened, made, lambda _: None, hashing=hashing.start_hash(opened.settings))
    assert records.load_record(made, local_moment(opened)).status is ClientStatus.ACTIVE


def test_the_list_comes_in_the_order_of_creation(opened: Context) -> None:
    for number in range(5):
        records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    assert [c.email for c in lists.list_clients(opened, ListQuery(Selection(limit=3)))] == [
        f"c{n}@example.org" for n in range(3)
    ]


def test_a_creation_is_recorded_with_its_actor_and_without_the_address(opened: Context) -> None:
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    event = Event.get()
    assert (event.action, event.outcome, event.client) == ("client.create", "created", made)
    assert (event.actor, event.host) == (opened.actor.user, opened.actor.host)
    assert "jeanne" not in event.details


def test_stored_times_are_read_back_unchanged_in_utc(opened: Context) -> None:
    made = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    again = Client.get_by_id(made.id)
    assert again.created_at == made.created_at
    assert again.created_at.utcoffset() == timedelta(0)
    assert abs(again.created_at - opened.clock()) < timedelta(minutes=1)


def test_creating_the_tables_again_changes_nothing(opened: Context) -> None:
    assert not context.create_database(load.load_settings())
