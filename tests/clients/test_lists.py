"""Which clients are listed and exported, and in what order, on both databases."""

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from egec_cli import clock
from egec_cli import context as accounts_egec
from egec_cli.clients import fields, lists
from egec_cli.clients.lists import ListQuery, SortField
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.records import ClientStatus, create_client, find_client
from egec_cli.clients.select import Selection
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.settings import load
from egec_cli.store.models import Client, Credential, CredentialState

NOON = clock.parse_time("2026-07-01T12:00:00Z")
SORTS = ["", *SortField, *(f"-{field}" for field in SortField)]


def made(egec: Context, email: str, *, state: dict[str, Any] | None = None, **given_fields: str) -> Client:
    """Create a client in a given state."""
    client = create_client(egec, fields.parse_fields(email, **given_fields))
    if state:
        Client.update(**state).where(Client.id == client.id).execute()
    return client


def emails(egec: Context, **wanted: Any) -> list[str]:
    return [str(record.email).partition("@")[0] for record in lists.list_clients(egec, ListQuery(**wanted))]


@pytest.fixture
def hundred(opened: Context) -> Context:
    """Return a context with clients, many of which share values or have none."""
    for number in range(40):
        made(
            opened,
            f"c{number * 7 % 40:02}@example.org",
            last_name=("", "Petit", "Dupont", "Élouard", "dupont")[number % 5],
            reference=f"D-{number * 3 % 40}" if number % 3 else "",
            state={
                "last_login_at": NOON + timedelta(days=number % 4) if number % 2 else None,
                "created_at": NOON - timedelta(days=number % 6),
                "active_sequence": number % 2,
            },
        )
    made(opened, "erased@example.org", state={"email": None, "email_key": None})
    return opened


@pytest.mark.parametrize("sort", SORTS)
def test_the_pages_of_a_list_make_up_the_whole_list_in_any_order(hundred: Context, sort: str) -> None:
    whole = list(lists.list_clients(hundred, ListQuery(sort=sort)))
    assert len(whole) == 40
    for size in (1, 7, 40, 41):
        paged = []
        after = None
        while page := list(lists.list_clients(hundred, ListQuery(Selection(limit=size), sort=sort, after=after))):
            assert len(page) <= size
            paged += page
            after = find_client(page[-1].identifier)
        assert paged == whole


@pytest.mark.parametrize("field", SortField)
def test_a_sorted_list_begins_with_what_has_no_value_and_the_descending_one_is_its_reverse(
    hundred: Context, field: SortField
) -> None:
    ascending = list(lists.list_clients(hundred, ListQuery(sort=field)))
    assert list(lists.list_clients(hundred, ListQuery(sort=f"-{field}"))) == ascending[::-1]
    values = [getattr(record, field) for record in ascending]
    given_values = [value for value in values if value is not None]
    assert values == [None] * (len(values) - len(given_values)) + given_values
    if field is not SortField.LAST_NAME:  # PostgreSQL has its own order of names
        assert given_values == sorted(given_values)


def test_a_page_after_a_client_who_is_no_longer_selected_continues_there(hundred: Context) -> None:
    selection = Selection(never_logged_in=True)
    whole = emails(hundred, selection=selection, sort="last_name")
    last = find_client(f"{whole[4]}@example.org")
    Client.update(last_login_at=NOON).where(Client.id == last.id).execute()
    assert emails(hundred, selection=selection, sort="last_name", after=last) == whole[5:]


def test_the_order_of_a_list_that_names_clients_is_kept_unless_it_is_sorted(hundred: Context) -> None:
    def named(**more: Any) -> Selection:
        content = b"c07@example.org\nc03@example.org\nunknown@example.org\nc07@example.org\nc05@example.org\n"
        return Selection(listed=ClientList("names.txt", BytesIO(content)), **more)

    assert emails(hundred, selection=named()) == ["c07", "c03", "c05"]
    assert emails(hundred, selection=named(), sort="email") == ["c03", "c05", "c07"]
    assert emails(hundred, selection=named(limit=1), after=find_client("c07@example.org")) == ["c03"]
    with pytest.raises(UsageError, match="not in the list"):
        emails(hundred, selection=named(), after=find_client("c01@example.org"))


def test_a_list_includes_disabled_clients_and_never_erased_ones(opened: Context) -> None:
    made(opened, "disabled@example.org", state={"disabled_at": NOON})
    made(opened, "erased@example.org", state={"email": None, "email_key": None, "disabled_at": NOON})
    assert emails(opened) == ["disabled"]
    assert emails(opened, selection=Selection(everyone=True)) == ["disabled"]
    assert emails(opened, selection=Selection(status=ClientStatus.DISABLED)) == ["disabled"]
    assert [record.email for record in lists.export_clients(opened)] == ["disabled@example.org"]


@pytest.mark.parametrize("sort", ["status", "id", "--email", "Email", "-"])
def test_an_unknown_sort_field_is_refused_with_the_list_of_known_ones(opened: Context, sort: str) -> None:
    with pytest.raises(UsageError) as refused:
        emails(opened, sort=sort)
    assert "last_login_at" in refused.value.hint


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ÉLOUARD", ["a"]),
        ("élouard", ["a"]),
        ("Elouard", []),
        ("E\u0301louard", ["a"]),
        ("noël élou", ["a"]),
        ("élouard  noël", ["a"]),
        ("10%", ["b"]),
        ("%", ["b"]),
        ("_", ["b"]),
        ("d-7_", ["b"]),
        ("D-7/", []),
        ("B@EXAMPLE", ["b"]),
        ("3456789", ["a"]),
        ("żółw", ["b"]),
        ("a@example.org d", []),
        ("unknown", []),
        ("\udcff", []),
        ("'; DROP TABLE client; --", []),
    ],
)
def test_a_search_ignores_case_but_not_accents_and_has_no_wildcards(
    opened: Context, search: str, found: list[str]
) -> None:
    made(opened, "a@example.org", first_name="Noël", last_name="Élouard", given_identifier="1234567890")
    made(opened, "b@example.org", first_name="10%", last_name="ŻÓŁW", reference="D-7_", given_identifier="2222222222")
    assert emails(opened, search=search) == found


@pytest.fixture
def sqlite() -> Iterator[Context]:
    accounts_egec.create_database(load.load_settings())
    with accounts_egec.open_context(load.load_settings()) as opened_egec:
        yield opened_egec


def test_any_part_of_any_name_finds_its_client(sqlite: Context) -> None:
    letters = st.characters(codec="utf-8", categories=["L", "N", "P", "S"])

    @hypothesis_settings(max_examples=60)
    @given(name=st.text(letters, min_size=1, max_size=8), data=st.data())
    def check(name: str, data: st.DataObject) -> None:
        name = fields.normalize(name)
        begin = data.draw(st.integers(0, len(name) - 1))
        part = name[begin : data.draw(st.integers(begin + 1, len(name)))]
        Client.update(last_name=name).where(Client.id == client.id).execute()
        for typed in (part, part.upper(), part.casefold()):
            if fields.normalize(typed).casefold() in name.casefold():
                assert emails(sqlite, search=typed) == ["a"]

    client = made(sqlite, "a@example.org")
    check()


def test_times_are_rfc_3339_in_utc_on_both_databases(opened: Context) -> None:
    made(opened, "a@example.org", state={"created_at": NOON, "last_login_at": NOON + timedelta(milliseconds=7)})
    [record] = lists.list_clients(opened)
    assert (record.created_at, record.last_login_at) == ("2026-07-01T12:00:00.000Z", "2026-07-01T12:00:00.007Z")


def test_an_export_has_the_hash_of_the_current_password_and_no_other(opened: Context) -> None:
    def with_credential(
        email: str, *, revoked_below: int = 0, state: str = CredentialState.ACCEPTED, **more: Any
    ) -> None:
        client = made(opened, email, state={"active_sequence": 1, "last_sequence": 2, "revoked_below": revoked_below})
        for sequence, hash_ in ((1, f"hash of {email}"), (2, "hash of a mail under way")):
            Credential.create(
                client=client,
                sequence=sequence,
                state=state if sequence == 1 else CredentialState.SENDING,
                password_hash=hash_,
                created_at=NOON,
                issued_by="test",
                **(more if sequence == 1 else {}),
            )

    with_credential("used@example.org", expires_at=NOON, first_used_at=NOON)
    with_credential("expired@example.org", expires_at=NOON)
    with_credential("revoked@example.org", revoked_below=2)
    made(opened, "new@example.org")
    records = [record._asdict() for record in lists.export_clients(opened, with_hashes=True)]
    assert [record.pop("password_hash") for record in records] == ["hash of used@example.org", None, None, None]
    assert records == [record._asdict() for record in lists.export_clients(opened)]


def test_htpasswd_has_a_line_for_each_client_who_can_log_in_and_for_no_other(opened: Context) -> None:
    now = opened.clock()
    later, earlier = now + timedelta(hours=1), now - timedelta(hours=1)

    def with_password(name: str, *, expires_at: Any = None, hash_: str | None = "hash", **state: Any) -> Client:
        client = made(opened, f"{name}@example.org", state={"active_sequence": 1, "last_sequence": 1, **state})
        Credential.create(
            client=client, sequence=1, state=CredentialState.ACCEPTED, password_hash=hash_ and f"{hash_} of {name}",
            created_at=now, expires_at=expires_at, issued_by="test",
        )  # fmt: skip
        return client

    with_password("blocked", blocked_until=later)
    with_password("disabled", disabled_at=earlier)
    with_password("expired", expires_at=earlier)
    with_password("revoked", revoked_below=2)
    with_password("erased", email=None, email_key=None, disabled_at=earlier)
    with_password("without", hash_=None)
    made(opened, "new@example.org")
    a, b = with_password("a", blocked_until=earlier, failed_logins=5), with_password("b", expires_at=later)
    lines = [f"{a.identifier}:hash of a", f"{b.identifier}:hash of b"]
    assert [record.line for record in lists.list_htpasswd(opened)] == lines
    assert [record.line for record in lists.list_htpasswd(opened, ListQuery(Selection(limit=1)))] == lines[:1]
    assert [record.line for record in lists.list_htpasswd(opened, ListQuery(search="b@", sort="-email"))] == lines[1:]
    assert list(lists.list_htpasswd(opened, ListQuery(Selection(status=ClientStatus.BLOCKED)))) == []
