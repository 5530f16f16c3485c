"""Which clients a bulk command selects, on both databases."""

import csv
import json
import random
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from io import BytesIO, RawIOBase, StringIO
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egec_cli import clock
from egec_cli import context as accounts_egec
from egec_cli.clients import fields, select
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.records import ClientStatus, create_client
from egec_cli.clients.select import SELECTED_LINE, Selected, Selection, Unmatched
from egec_cli.context import Context
from egec_cli.errors import InvalidInput, UsageError
from egec_cli.output.formats import remove_guard
from egec_cli.settings import load
from egec_cli.store import peewee
from egec_cli.store.models import MAIL_HAS_FAILED, Client, Credential, CredentialState, ReissueItem, ReissueRun
from egec_cli.store.sql import fetch_tuples, insert_many

SAVE_AS_CSV = "Save the file as CSV."
NOON = clock.parse_time("2026-07-01T12:00:00Z")


def made(egec: Context, email_given: str, *, reference: str = "", identifier: str = "", **state: Any) -> str:
    """Create a client in a given state, and return the identifier."""
    client = create_client(egec, fields.parse_fields(email_given, reference=reference, given_identifier=identifier))
    if state:
        Client.update(**state).where(Client.id == client.id).execute()
    return str(client.identifier)


def mailed(identifier: str, state: CredentialState = CredentialState.ACCEPTED, *, days_ago: float = 0) -> None:
    """Give a client one more credential, as an issue at that time leaves it."""
    client = Client.get(Client.identifier == identifier)
    sequence = client.last_sequence + 1
    Credential.create(
        client=client,
        sequence=sequence,
        state=state,
        created_at=NOON - timedelta(days=days_ago),
        issued_by="test",
    )
    accepted = {"active_sequence": sequence} if state is CredentialState.ACCEPTED else {}
    Client.update(last_sequence=sequence, **accepted).where(Client.id == client.id).execute()


def listing(content: str | bytes, column: str = "", name: str = "names.txt") -> ClientList:
    """Return a file of this content that names clients."""
    return ClientList(name, BytesIO(content.encode() if isinstance(content, str) else content), column)


def selected(egec: Context, **selectors: Any) -> Selected:
    """Return the clients selected at noon of 1 July 2026."""
    return Selected(egec._replace(clock=lambda: NOON), Selection(**selectors))


def found(chosen: Selected) -> list[str]:
    """Return the identifiers of the selected clients in order; all ways to ask must agree."""
    identifiers = [identifier for (identifier,) in fetch_tuples(chosen.query(Client.identifier))]
    assert [record.identifier for record in chosen.records()] == identifiers
    assert chosen.count() == len(identifiers)
    return identifiers


def with_lines(chosen: Selected) -> list[tuple[str, int]]:
    """Return the identifiers of the selected clients and the lines that named them."""
    return cast(list[tuple[str, int]], list(fetch_tuples(chosen.query(Client.identifier, SELECTED_LINE))))


def unmatched_lines(chosen: Selected) -> list[tuple[int, str]]:
    """Return the lines that match no client."""
    return [(unmatched.line, unmatched.value) for unmatched in chosen.unmatched()]


def recorded(egec: Context, chosen: Selected) -> list[tuple[str, int | None]]:
    """Record a run of the selection in one statement, and return its clients and lines in the order of its items."""
    run = ReissueRun.create(name="spring", selection="{}", state="running", options="{}", created_at=egec.clock())
    since = ReissueRun.select(ReissueRun.created_at).where(ReissueRun.id == run.id)
    query = chosen.query(
        peewee.SQL(str(run.id)), Client.id, peewee.SQL("'waiting'"), peewee.SQL("0"), since, SELECTED_LINE
    )
    columns = ["run", "client", "state", "attempts", "not_before", "line"]
    ReissueItem.insert_from(query, [getattr(ReissueItem, column) for column in columns]).execute()
    items = ReissueItem.select(Client.identifier, ReissueItem.line).join(Client).order_by(ReissueItem.id)
    return cast(list[tuple[str, int | None]], list(fetch_tuples(items)))


@pytest.fixture
def sqlite() -> Iterator[Context]:
    """Return a context on SQLite alone, for tests that only read files."""
    accounts_egec.create_database(load.load_settings())
    with accounts_egec.open_context(load.load_settings()) as opened_egec:
        yield opened_egec


def test_everyone_is_all_clients_who_can_get_a_mail_in_order_of_creation(opened: Context) -> None:
    identifiers = [made(opened, f"c{number}@example.org") for number in range(4)]
    made(opened, "disabled@example.org", disabled_at=NOON)
    made(opened, "early@example.org", valid_from="2099-01-01")
    made(opened, "late@example.org", valid_until="2020-12-31")
    made(opened, "erased@example.org", email=None, email_key=None)
    assert found(selected(opened, everyone=True)) == identifiers


def test_a_selection_without_a_selector_is_refused(opened: Context) -> None:
    made(opened, "a@example.org")
    for selectors in ({}, {"limit": 5}, {"excluded": listing("a@example.org")}, {"limit": 5, "excluded": listing("")}):
        with pytest.raises(UsageError, match="no client is selected"):
            selected(opened, **selectors)


def test_a_status_selects_the_clients_who_have_it(opened: Context) -> None:
    later, earlier = NOON + timedelta(hours=1), NOON - timedelta(hours=1)
    new = made(opened, "new@example.org")
    active = made(opened, "active@example.org", active_sequence=2)
    revoked = made(opened, "revoked@example.org", active_sequence=2, revoked_below=3)
    blocked = made(opened, "blocked@example.org", active_sequence=1, blocked_until=later)
    unblocked = made(opened, "unblocked@example.org", active_sequence=1, blocked_until=earlier)
    made(opened, "disabled@example.org", active_sequence=1, disabled_at=earlier)
    assert found(selected(opened, status=ClientStatus.NEW)) == [new, revoked]
    assert found(selected(opened, status=ClientStatus.ACTIVE)) == [active, unblocked]
    assert found(selected(opened, status=ClientStatus.BLOCKED)) == [blocked]
    assert found(selected(opened, status=ClientStatus.EXPIRED)) == []
    mailed(active)
    mailed(unblocked)
    Credential.update(expires_at=earlier).where(Credential.client == Client.get(Client.identifier == active)).execute()
    assert found(selected(opened, status=ClientStatus.ACTIVE)) == [unblocked]
    assert found(selected(opened, status=ClientStatus.EXPIRED)) == [active]


def test_disabled_clients_cannot_be_selected(opened: Context) -> None:
    with pytest.raises(UsageError, match="disabled"):
        selected(opened, status=ClientStatus.DISABLED)


def test_inactive_clients_cannot_be_selected(opened: Context) -> None:
    with pytest.raises(UsageError, match="outside their validity dates"):
        selected(opened, status=ClientStatus.INACTIVE)


def test_an_inactive_client_stays_where_a_file_names_it(opened: Context) -> None:
    inactive, other = made(opened, "a@example.org", valid_until="2020-12-31"), made(opened, "b@example.org")
    assert found(selected(opened, listed=listing(f"{inactive}\n{other}"))) == [inactive, other]
    assert found(selected(opened, listed=listing(f"{inactive}\n{other}"), status=ClientStatus.NEW)) == [other]
    assert found(selected(opened, everyone=True)) == [other]


def test_clients_who_never_logged_in_are_selected(opened: Context) -> None:
    never = made(opened, "never@example.org")
    made(opened, "once@example.org", last_login_at=NOON)
    assert found(selected(opened, never_logged_in=True)) == [never]


def test_clients_are_selected_by_their_last_login_but_not_those_who_never_logged_in(opened: Context) -> None:
    made(opened, "never@example.org")
    old = made(opened, "old@example.org", last_login_at=NOON.replace(year=2024) - timedelta(milliseconds=1))
    made(opened, "young@example.org", last_login_at=NOON.replace(year=2024))
    for age in ("2y", "24m"):
        assert found(selected(opened, last_login_before=age)) == [old]
    assert found(selected(opened, last_login_before="2024-07-01")) == []
    assert len(found(selected(opened, last_login_before="2026-07-01"))) == 2


def test_who_never_logged_in_has_no_last_login_so_both_selectors_together_are_refused(sqlite: Context) -> None:
    with pytest.raises(UsageError, match="no client matches both") as refused:
        selected(sqlite, never_logged_in=True, last_login_before="2y")
    assert "--last-login-before 2y, one with --never-logged-in --created-before 2y" in refused.value.hint


def test_before_and_after_a_moment_share_no_client_and_leave_none_out(opened: Context) -> None:
    month = timedelta(days=30)
    identifiers = [made(opened, f"c{number}@example.org", created_at=NOON - number * month) for number in range(6)]
    assert found(selected(opened, created_before="60d")) == identifiers[3:]
    assert found(selected(opened, created_after="60d")) == identifiers[:3]
    assert found(selected(opened, created_after="90d", created_before="30d")) == identifiers[2:4]
    for after, before in (("30d", "90d"), ("30d", "30d"), ("2026-01-02", "2026-01-01")):
        with pytest.raises(UsageError, match="no client was created both after"):
            selected(opened, created_after=after, created_before=before)


@pytest.mark.parametrize(
    "domain", ["straße.example.org", "STRASSE.example.org".replace("SS", "ß"), "xn--strae-oqa.EXAMPLE.org",
               unicodedata.normalize("NFD", "straße.example.org"), " straße.example.org "]
)  # fmt: skip
def test_a_domain_is_matched_exactly_in_any_case_and_form(domain: str, opened: Context) -> None:
    one, other = made(opened, "a@straße.example.org"), made(opened, "B@Straße.Example.ORG")
    made(opened, "a@strasse.example.org")
    made(opened, "a@sub.xn--strae-oqa.example.org")
    made(opened, "a@example.org")
    chosen = selected(opened, email_domain=domain)
    assert found(chosen) == [one, other]
    # However it is typed, a run that continues recognises it.
    assert chosen.described == {"email_domain": "xn--strae-oqa.example.org"}


@pytest.mark.parametrize(
    "domain",
    [
        "@example.org", "a@example.org", "*.example.org", "example", "exa mple.org", ".", "-a.org", "[127.0.0.1]",
        "a" * 64 + ".org", "example.org\0", "example..org", "\udcff.org", " ",
    ],
)  # fmt: skip
def test_what_no_address_can_have_as_its_domain_is_refused(domain: str, sqlite: Context) -> None:
    with pytest.raises(UsageError, match="invalid e-mail domain"):
        selected(sqlite, email_domain=domain)


class Person(NamedTuple):
    """The facts about a client, in days before NOON, from which a plain filter selects."""

    created: int
    login: int | None
    password: int | None
    domain: str
    disabled: bool
    blocked: bool
    refused: bool
    bounced: bool
    cost: int


PEOPLE = [
    Person(
        created=chance.choice([0, 5, 30, 31, 90, 400, 800]),
        login=chance.choice([None, None, 1, 20, 30, 60, 365, 730, 731]),
        password=chance.choice([None, 0, 10, 90, 91, 300]),
        domain=chance.choice(["example.org", "café.example.org", "example.com"]),
        disabled=chance.random() < 0.2,
        blocked=chance.random() < 0.2,
        refused=chance.random() < 0.2,
        bounced=chance.random() < 0.2,
        cost=chance.choice([4, 12]),
    )
    for chance in map(random.Random, range(60))
]
optional_ages = st.sampled_from(["", "1d", "30d", "90d", "731d", "1000d"])
selections = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(
            [ClientStatus.NEW, ClientStatus.ACTIVE, ClientStatus.BLOCKED, ClientStatus.DISABLED]
        ),
        "never_logged_in": st.booleans(),
        "last_login_before": optional_ages,
        "created_before": optional_ages,
        "created_after": optional_ages,
        "email_domain": st.sampled_from(["", "EXAMPLE.org", "café.example.org", "nobody.example.net"]),
        "issued_before": optional_ages,
        "last_mail_failed": st.booleans(),
        "weak_hash": st.booleans(),
        "limit": st.sampled_from([1, 3, 100]),
    },
)  # fmt: skip


def add_person(egec: Context, number: int, one: Person) -> str:
    moment = NOON - timedelta(days=one.created)
    identifier = made(
        egec,
        f"c{number}@{one.domain}",
        created_at=moment,
        last_login_at=None if one.login is None else NOON - timedelta(days=one.login),
        disabled_at=NOON if one.disabled else None,
        blocked_until=NOON + timedelta(hours=1) if one.blocked else None,
    )
    if one.password is not None:
        mailed(identifier, days_ago=one.password)
        Credential.update(password_hash=f"$2b${one.cost:02}${'.' * 53}").where(
            Credential.client == Client.get(Client.identifier == identifier)
        ).execute()
    if one.refused:
        mailed(identifier, CredentialState.REFUSED)
    elif one.bounced:
        Credential.update(bounced_at=NOON).where(
            Credential.client == Client.get(Client.identifier == identifier)
        ).execute()
    return identifier


def matches(one: Person, wanted: dict[str, Any]) -> bool:
    """Return whether a person matches all selectors; the same as the program does in SQL, in plain Python."""

    def days(name: str) -> int | None:
        return int(wanted[name][:-1]) if wanted.get(name) else None

    has_password = one.password is not None
    status = "disabled" if one.disabled else "blocked" if one.blocked else "active" if has_password else "new"
    tests: dict[str, Callable[[], bool]] = {
        "status": lambda: status == wanted["status"],
        "never_logged_in": lambda: one.login is None,
        "last_login_before": lambda: one.login is not None and one.login > (days("last_login_before") or 0),
        "created_before": lambda: one.created > (days("created_before") or 0),
        "created_after": lambda: one.created <= (days("created_after") or 0),
        "email_domain": lambda: one.domain == wanted["email_domain"].lower(),
        "issued_before": lambda: one.password is not None and one.password > (days("issued_before") or 0),
        "last_mail_failed": lambda: one.refused or (has_password and one.bounced),
        "weak_hash": lambda: has_password and one.cost < 10,
    }
    return all(test() for name, test in tests.items() if wanted.get(name))


def test_the_selected_clients_are_those_whom_a_plain_filter_finds(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = opened._replace(settings=opened.settings._replace(bcrypt_cost=10))
    people = {add_person(opened, number, one): one for number, one in enumerate(PEOPLE)}
    made(opened, "erased@example.org", email=None, email_key=None)
    non_empty = 0

    @given(selections, st.sampled_from([0, 5, 10_000]))
    @settings(max_examples=150)
    def check(wanted: dict[str, Any], few_keys: int) -> None:
        nonlocal non_empty
        monkeypatch.setattr(select, "_FEW_KEYS", few_keys)
        expected = [identifier for identifier, one in people.items() if matches(one, wanted)][: wanted.get("limit")]
        try:
            chosen = Selected(opened._replace(clock=lambda: NOON), Selection(**wanted), to_mail=False)
        except UsageError:
            # Together they match no client.
            assert expected == []
            return
        assert found(chosen) == expected
        non_empty += bool(expected)

    check()
    assert non_empty > 30


def test_an_age_is_that_of_the_current_password(opened: Context) -> None:
    old, renewed, failed, new, revoked = (
        made(opened, f"{name}@example.org") for name in ("old", "renewed", "failed", "new", "revoked")
    )
    for identifier in (old, renewed, failed, revoked):
        mailed(identifier, days_ago=91)
    mailed(renewed, days_ago=2)
    mailed(failed, CredentialState.REFUSED, days_ago=2)
    mailed(new, CredentialState.REFUSED, days_ago=91)
    Client.update(revoked_below=2).where(Client.identifier == revoked).execute()
    assert found(selected(opened, issued_before="90d")) == [old, failed]
    assert found(selected(opened, issued_before="92d")) == []
    assert found(selected(opened, issued_before="1d")) == [old, renewed, failed]


def test_a_date_begins_at_midnight_in_the_time_zone_of_clients(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = made(opened, "a@example.org", last_login_at=NOON - timedelta(hours=39))
    mailed(identifier, days_ago=1.625)  # at 21:00 of 29 June in UTC, 23:00 in Paris
    Client.update(created_at=NOON - timedelta(hours=39)).execute()
    for zone, before, after in (
        ("Europe/Paris", "2026-06-29", "2026-06-30"),
        ("Asia/Tokyo", "2026-06-30", "2026-07-01"),
    ):
        there = opened._replace(settings=opened.settings._replace(timezone=zone))
        for selector in ("issued_before", "last_login_before", "created_before"):
            assert found(selected(there, **{selector: before})) == []
            assert found(selected(there, **{selector: after})) == [identifier]
        assert found(selected(there, created_after=before)) == [identifier]
        assert found(selected(there, created_after=after)) == []
    # The time zone of the machine does not matter.
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        assert found(selected(opened, last_login_before="2026-06-29")) == []
        assert found(selected(opened, last_login_before="2026-06-30")) == [identifier]
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "90",
        "90 d",
        "-1d",
        "٩d",
        "1000000d",
        "2026-02-30",
        "31/01/2026",
        "2026-01-31T00:00:00Z",
        "today",
        "d",
        "0001-01-01",
    ],
)
def test_an_invalid_date_or_age_is_refused(text: str, sqlite: Context) -> None:
    with pytest.raises(UsageError, match="invalid date or age"):
        selected(sqlite, issued_before=text)


TIMES = ("last_login_before", "created_before", "created_after", "issued_before")


@pytest.mark.parametrize("selector", TIMES)
@pytest.mark.parametrize(("zone", "today", "tomorrow"), [
    ("Europe/Paris", "2026-07-01", "2026-07-02"), ("Pacific/Kiritimati", "2026-07-02", "2026-07-03"),
])  # fmt: skip
def test_a_day_in_the_future_is_refused_and_today_is_not(
    sqlite: Context, selector: str, zone: str, today: str, tomorrow: str
) -> None:
    there = sqlite._replace(settings=sqlite.settings._replace(timezone=zone))
    assert found(selected(there, **{selector: today})) == []
    option = f"--{selector.replace('_', '-')}"
    for text in (tomorrow, "2062-01-01", "9999-12-30"):
        with pytest.raises(UsageError, match=f"^{option} {text} is in the future$") as caught:
            selected(there, **{selector: text})
        assert caught.value.hint == f"Use {today} or an earlier day, or an age such as 90d."


@pytest.mark.parametrize("selector", TIMES)
@pytest.mark.parametrize("age", ["0min", "00h", "0d", "00w", "0m", "0y"])
def test_an_age_of_zero_is_refused(sqlite: Context, selector: str, age: str) -> None:
    option = f"--{selector.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"^{option} {age}: an age must not be 0$") as caught:
        selected(sqlite, **{selector: age})
    assert caught.value.hint == "Use a longer age, such as 1d, or a date."


@pytest.mark.parametrize(("age", "minutes"), [("30min", 30), ("12h", 12 * 60), ("1d", 24 * 60)])
def test_an_age_may_be_in_minutes_hours_or_days(opened: Context, age: str, minutes: int) -> None:
    moment, a_minute = NOON - timedelta(minutes=minutes), timedelta(minutes=1)
    older = made(opened, "older@example.org", created_at=moment - a_minute)
    newer = made(opened, "newer@example.org", created_at=moment + a_minute)
    assert found(selected(opened, created_before=age)) == [older]
    assert found(selected(opened, created_after=age)) == [newer]


def test_a_refused_mail_counts_only_if_it_is_the_last_one(opened: Context) -> None:
    refused, resent, doubtful, accepted = (
        made(opened, f"{name}@example.org") for name in ("refused", "resent", "doubtful", "accepted")
    )
    made(opened, "new@example.org")
    mailed(refused)
    for identifier in (refused, resent):
        mailed(identifier, CredentialState.REFUSED)
    for identifier in (resent, accepted):
        mailed(identifier)
    mailed(doubtful, CredentialState.IN_DOUBT)
    assert found(selected(opened, last_mail_failed=True)) == [refused]


@pytest.mark.parametrize(
    ("column", "condition", "index"),
    [
        (Client.id, Client.blocked_until.is_null(False), "client_blocked"),
        (Credential.client, MAIL_HAS_FAILED, "credential_failed"),
    ],
)
def test_the_few_clients_who_are_blocked_or_lack_a_mail_are_found_without_reading_the_others(
    opened: Context, column: Any, condition: Any, index: str
) -> None:
    one = made(opened, "one@example.org", blocked_until=NOON)
    moment = clock.to_rfc3339(NOON)
    columns = ("identifier", "civility", "first_name", "last_name", "language", "created_at", "updated_at",
        "active_sequence", "revoked_below", "last_sequence", "failed_logins")  # fmt: skip
    rows = [(str(2_000_000_000 + number), "", "", "", "", moment, moment, 0, 0, 0, 0) for number in range(2000)]
    with opened.database.atomic():
        insert_many(opened.database, "client", columns, rows)
        mails = [(key, 1, "accepted", moment, "x") for (key,) in fetch_tuples(Client.select(Client.id))]
        insert_many(opened.database, "credential", ("client_id", "sequence", "state", "created_at", "issued_by"), mails)
        Credential.update(state="refused").where(Credential.client == Client.get(identifier=one)).execute()
    # peewee's methods have no types.
    execute: Any = opened.database.execute_sql
    execute("ANALYZE")
    sql, values = column.model.select(column).where(condition).sql()
    explain = "EXPLAIN QUERY PLAN " if isinstance(opened.database, peewee.SqliteDatabase) else "EXPLAIN "
    assert index in "\n".join(str(row) for row in execute(explain + sql, values))


def test_a_weak_hash_is_one_of_the_current_password_with_a_lower_cost_than_new_ones(opened: Context) -> None:
    def hashed(name: str, *costs: int | None, states: dict[int, CredentialState] | None = None) -> str:
        identifier = made(opened, f"{name}@example.org")
        for number, cost in enumerate(costs):
            mailed(identifier, (states or {}).get(number, CredentialState.ACCEPTED))
            Credential.update(password_hash=cost and f"$2b${cost:02}${'.' * 53}").where(
                (Credential.client == Client.get(Client.identifier == identifier)) & (Credential.sequence == number + 1)
            ).execute()
        return identifier

    weak, stronger, refused, strong, without = (
        hashed("weak", 12, 9),
        hashed("stronger", 4, 10),
        hashed("refused", 4, 12, states={1: CredentialState.REFUSED}),
        hashed("strong", 31, 4, states={1: CredentialState.IN_DOUBT}),
        hashed("without", None),
    )
    revoked = hashed("revoked", 4)
    Client.update(revoked_below=2).where(Client.identifier == revoked).execute()

    def weaker_than(cost: int) -> list[str]:
        dearer = opened._replace(settings=opened.settings._replace(bcrypt_cost=cost))
        return found(selected(dearer, weak_hash=True))

    assert weaker_than(4) == []
    assert weaker_than(10) == [weak, refused]
    assert weaker_than(12) == [weak, stronger, refused]
    assert {strong, without, revoked}.isdisjoint(weaker_than(31))


def test_all_selectors_must_hold_and_the_limit_comes_last(opened: Context) -> None:
    identifiers = [made(opened, f"c{number}@example.org") for number in range(8)]
    for identifier in identifiers:
        mailed(identifier, days_ago=100)
    Client.update(last_login_at=NOON).where(Client.identifier == identifiers[7]).execute()
    mailed(identifiers[6], days_ago=1)
    mailed(identifiers[5], CredentialState.REFUSED)
    backwards = "".join(f"{identifier}\n" for identifier in reversed(identifiers[1:]))

    def chosen(**more: Any) -> Selected:
        return selected(
            opened,
            everyone=True,
            status=ClientStatus.ACTIVE,
            never_logged_in=True,
            issued_before="90d",
            listed=listing(backwards),
            excluded=listing(identifiers[4]),
            **more,
        )

    assert found(chosen()) == [identifiers[number] for number in (5, 3, 2, 1)]
    assert found(chosen(limit=3)) == [identifiers[number] for number in (5, 3, 2)]
    assert found(chosen(limit=99)) == [identifiers[number] for number in (5, 3, 2, 1)]
    assert found(chosen(last_mail_failed=True)) == [identifiers[5]]
    assert with_lines(chosen(limit=2)) == [(identifiers[5], 3), (identifiers[3], 5)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int, sqlite: Context) -> None:
    with pytest.raises(UsageError, match="limit"):
        selected(sqlite, everyone=True, limit=limit)


# Files that name clients


def test_a_client_is_named_by_email_identifier_or_reference_in_the_order_of_the_file(opened: Context) -> None:
    a, b, c, d = (made(opened, f"{name}@example.org", reference=f"D {name}-É") for name in "abcd")
    chosen = selected(opened, listed=listing(f"d@example.org\nref:D c-É\n{b}\nD a-É\n"))
    assert found(chosen) == [d, c, b, a]
    assert with_lines(chosen) == [(d, 1), (c, 2), (b, 3), (a, 4)]
    assert unmatched_lines(chosen) == []


@pytest.mark.parametrize(
    "name",
    [
        "JOSÉ@Straße.EXAMPLE.org",
        unicodedata.normalize("NFD", "josé@straße.example.org"),
        "josé@xn--strae-oqa.example.org",
        "  josé@straße.example.org\u00a0",
        unicodedata.normalize("NFD", "Dossier à 1"),
        "ref: Dossier  à\t1 ",
        unicodedata.normalize("NFD", "ref:Dossier à 1"),
    ],
)
def test_a_name_is_found_in_any_form(name: str, sqlite: Context) -> None:
    identifier = made(sqlite, "josé@straße.example.org", reference="Dossier à 1")
    assert found(selected(sqlite, listed=listing(name))) == [identifier]


def test_ten_digits_are_an_identifier_before_they_are_a_reference(opened: Context) -> None:
    first = made(opened, "a@example.org", identifier="1234567890")
    second = made(opened, "b@example.org", reference="1234567890")
    third = made(opened, "c@example.org", reference="2222222222")
    assert found(selected(opened, listed=listing("1234567890"))) == [first]
    assert found(selected(opened, listed=listing("ref:1234567890"))) == [second]
    chosen = selected(opened, listed=listing("2222222222\n3333333333"))
    assert with_lines(chosen) == [(third, 1)]
    assert unmatched_lines(chosen) == [(2, "3333333333")]


def test_what_looks_like_an_email_may_be_a_reference(opened: Context) -> None:
    first = made(opened, "a@example.org")
    second = made(opened, "b@example.org", reference="a@example.org")
    third = made(opened, "c@example.org", reference="2026@7")
    assert found(selected(opened, listed=listing("2026@7\na@example.org"))) == [third, first]
    assert found(selected(opened, listed=listing("ref:a@example.org"))) == [second]


def test_unmatched_lines_are_reported_with_their_file_and_number(opened: Context) -> None:
    a = made(opened, "a@example.org", reference="D-1")
    content = f"x@example.org\n\n{a}\nd-1\nref:\nnot an@address\n=?utf-8?q?a?=@example.org\n٣٣٣٣٣٣٣٣٣٣\n"
    chosen = selected(opened, listed=listing(content), excluded=listing("D-2\n\nD-3", name="but.txt"))
    assert found(chosen) == [a]
    assert list(chosen.unmatched()) == [
        Unmatched("names.txt", 1, "x@example.org"),
        Unmatched("names.txt", 4, "d-1"),
        Unmatched("names.txt", 5, "ref:"),
        Unmatched("names.txt", 6, "not an@address"),
        Unmatched("names.txt", 7, "=?utf-8?q?a?=@example.org"),
        Unmatched("names.txt", 8, "٣٣٣٣٣٣٣٣٣٣"),
        Unmatched("but.txt", 1, "D-2"),
        Unmatched("but.txt", 3, "D-3"),
    ]


def test_who_is_named_twice_is_selected_once_by_the_first_line(opened: Context) -> None:
    a, b = (made(opened, f"{name}@example.org", reference=f"D-{name}") for name in "ab")
    chosen = selected(opened, listed=listing(f"unknown\nA@example.org\nD-b\nD-a\n{b}\na@example.org\n"))
    assert with_lines(chosen) == [(a, 2), (b, 3)]
    assert chosen.count() == 2
    assert unmatched_lines(chosen) == [(1, "unknown")]


def test_who_is_in_both_files_is_left_out(opened: Context) -> None:
    a, b = (made(opened, f"{name}@example.org", reference=f"D-{name}") for name in "ab")
    chosen = selected(opened, listed=listing(f"{a}\n{b}\n"), excluded=listing("ref:D-a\nref:D-a\nD-9"))
    assert with_lines(chosen) == [(b, 2)]
    assert unmatched_lines(chosen) == [(3, "D-9")]


def test_of_everyone_those_of_a_file_are_left_out(opened: Context) -> None:
    a, b, c = (made(opened, f"{name}@example.org") for name in "abc")
    assert found(selected(opened, everyone=True, excluded=listing("unknown\nB@example.org"))) == [a, c]
    assert found(selected(opened, everyone=True, excluded=listing("unknown\n"))) == [a, b, c]
    assert found(selected(opened, everyone=True, excluded=listing(""))) == [a, b, c]


def test_an_erased_client_is_never_matched(opened: Context) -> None:
    erased = made(opened, "a@example.org", reference="D-1", email=None, email_key=None)
    chosen = selected(opened, listed=listing(f"{erased}\nD-1\na@example.org"))
    assert found(chosen) == []
    assert unmatched_lines(chosen) == [(1, erased), (2, "D-1"), (3, "a@example.org")]


def test_a_disabled_client_stays_where_a_file_names_it(opened: Context) -> None:
    disabled, other = made(opened, "a@example.org", disabled_at=NOON), made(opened, "b@example.org")
    assert found(selected(opened, listed=listing(f"{disabled}\n{other}"))) == [disabled, other]
    assert found(selected(opened, everyone=True)) == [other]
    assert found(selected(opened, listed=listing(f"{disabled}\n{other}"), status=ClientStatus.NEW)) == [other]


# Forms of files


@pytest.mark.parametrize(
    "content",
    [
        b"a@example.org\nD-2\n",
        b"a@example.org\nD-2",
        b"a@example.org\r\nD-2\r\n",
        b"\xef\xbb\xbfa@example.org\r\nD-2\r\n",
        b"a@example.org\n\xef\xbb\xbfD-2\n",
        b"a@example.org\r\r\nD-2\r\r\n",
        b"  a@example.org\t\n\tD-2 \n   \n",
    ],
)
def test_a_list_may_come_from_any_system(content: bytes, sqlite: Context) -> None:
    a, b = made(sqlite, "a@example.org"), made(sqlite, "b@example.org", reference="D-2")
    chosen = selected(sqlite, listed=listing(content))
    assert with_lines(chosen) == [(a, 1), (b, 2)]
    assert unmatched_lines(chosen) == []


def test_blank_lines_count_but_are_not_unmatched(opened: Context) -> None:
    a = made(opened, "a@example.org")
    chosen = selected(opened, listed=listing("\n \r\n\t\na@example.org\n\nunknown\n\n"))
    assert with_lines(chosen) == [(a, 4)]
    assert unmatched_lines(chosen) == [(6, "unknown")]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_list_selects_no_client(content: bytes, opened: Context) -> None:
    made(opened, "a@example.org")
    chosen = selected(opened, listed=listing(content))
    assert found(chosen) == []
    assert unmatched_lines(chosen) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a@example.org\nJos\xe9\n", "names.txt:2: not UTF-8 text"),
        ("a@example.org\n".encode("utf-16"), "names.txt:1: not UTF-8 text"),
        ("a@example.org\n".encode("utf-16-be"), "names.txt:1: not UTF-8 text"),
        (b"a@example.org\nD\0-1\n", "names.txt:2: not UTF-8 text"),
        (b"\xef\xbb", "names.txt:1: not UTF-8 text"),
        (b"a@example.org\rb@example.org\r", "names.txt:1: carriage return within a line"),
        (b"a\n" + b"x" * 100_001, "names.txt:2: the line is longer than 100000 bytes"),
        (b"a\n" + b"x" * 100_000 + b"\n", "names.txt:2: the line is longer than 100000 bytes"),
    ],
)
def test_an_invalid_list_is_refused_with_the_line(content: bytes, message: str, opened: Context) -> None:
    with pytest.raises(InvalidInput) as raised:
        selected(opened, listed=listing(content))
    assert raised.value.message == message
    assert raised.value.hint


def test_a_long_line_is_unmatched_and_cut(opened: Context) -> None:
    a = made(opened, "a@example.org")
    long = "é@" * 30_000
    chosen = selected(opened, listed=listing(f"{long}\na@example.org\n"))
    assert with_lines(chosen) == [(a, 2)]
    assert unmatched_lines(chosen) == [(1, long[:1000])]


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_table_names_clients(delimiter: str, sqlite: Context) -> None:
    a, b = made(sqlite, "a@example.org"), made(sqlite, "b@example.org", reference="D,;2")
    rows = [["Nom", " E-Mail ", "n"], ["Z", "A@example.org", "1"], ["", '"ref:D,;2"', ""], ["Y", "unknown", "3"]]
    content = "\ufeff" + "".join(f"{delimiter.join(row)}\r\n" for row in rows)
    chosen = selected(sqlite, listed=listing(content, column="e-mail"))
    assert with_lines(chosen) == [(a, 2), (b, 3)]
    assert unmatched_lines(chosen) == [(4, "unknown")]


@pytest.mark.parametrize(
    "header", ['"nom, prénom, titre";Référence', "nom;RÉFÉRENCE", unicodedata.normalize("NFD", "nom;référence")]
)
def test_a_column_is_found_by_any_form_of_its_header(header: str, sqlite: Context) -> None:
    a = made(sqlite, "a@example.org", reference="D-1")
    assert found(selected(sqlite, listed=listing(f"{header}\nx;D-1\n", column="référence"))) == [a]


def test_a_table_of_one_column_needs_no_delimiter(sqlite: Context) -> None:
    a = made(sqlite, "a@example.org")
    assert with_lines(selected(sqlite, listed=listing("email\n\na@example.org", column="EMAIL"))) == [(a, 3)]


def test_a_row_has_the_number_of_the_line_where_it_begins(opened: Context) -> None:
    a, b = made(opened, "a@example.org"), made(opened, "b@example.org")
    content = (
        'email;"note\nof us"\r\na@example.org;"one\r\ntwo\n\nthree"\r\n\r\nno;"x\ny"\nb@example.org;\n"D-1\nD-2";\n'
    )
    chosen = selected(opened, listed=listing(content, column="email"))
    assert with_lines(chosen) == [(a, 3), (b, 10)]
    assert unmatched_lines(chosen) == [(8, "no"), (11, "D-1\nD-2")]


def test_a_row_without_the_cell_is_reported_and_an_empty_row_is_not(opened: Context) -> None:
    a = made(opened, "a@example.org")
    chosen = selected(opened, listed=listing("nom;email\nZoé;\nYves\n;\n\n ; \nX;a@example.org\n", column="email"))
    assert with_lines(chosen) == [(a, 7)]
    assert unmatched_lines(chosen) == [(2, ""), (3, "")]


def test_a_cell_guarded_against_spreadsheets_names_the_same_client(sqlite: Context) -> None:
    a, b = made(sqlite, "+a@example.org", reference="-1"), made(sqlite, "b@example.org", reference="'2")
    assert found(selected(sqlite, listed=listing("reference\n'2\n'-1\n", column="reference"))) == [b, a]
    assert found(selected(sqlite, listed=listing("email\n'+a@example.org\n", column="email"))) == [a]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("", "names.txt has no column 'email'", "Its columns are: none."),
        ("nom;mail\n", "names.txt has no column 'email'", "Its columns are: nom, mail."),
        ("nom;mail\nemail;x", "names.txt has no column 'email'", "Its columns are: nom, mail."),
        ("a\rb;email\n", "names.txt:1: new-line character", SAVE_AS_CSV),
        ("nom;email\nx\ry;a@example.org\n", "names.txt:2: new-line character", SAVE_AS_CSV),
        (
            'email;nom\na@example.org;"Dupont\nb@example.org;Durand\n',
            "names.txt:3: unexpected end",
            SAVE_AS_CSV,
        ),
        ('email;nom\na@example.org;"Du"pont\n', "names.txt:2: ';' expected after '\"'", SAVE_AS_CSV),
        ('email\n"' + "x" * 70_000 + "\n" + "x" * 70_000 + '"\n', "names.txt:3: field larger", SAVE_AS_CSV),
        ("email\nx\0y\n", "names.txt:2: not UTF-8 text", "Save the file as UTF-8."),
    ],
)
def test_an_invalid_table_is_refused(content: str, message: str, hint: str, sqlite: Context) -> None:
    with pytest.raises(InvalidInput) as raised:
        selected(sqlite, listed=listing(content, column="email"))
    assert raised.value.message.startswith(message)
    assert raised.value.hint == hint


def test_a_table_that_is_only_a_header_selects_no_client(opened: Context) -> None:
    made(opened, "a@example.org", reference="email")
    chosen = selected(opened, listed=listing("nom;email\n", column="email"))
    assert found(chosen) == []
    assert unmatched_lines(chosen) == []


# A run


def test_a_run_is_recorded_in_one_statement_with_the_lines_of_the_file(opened: Context) -> None:
    a, b, c = (made(opened, f"{name}@example.org") for name in "abc")
    assert recorded(opened, selected(opened, listed=listing(f"{c}\nunknown\n{a}\n{b}\n"), limit=2)) == [(c, 1), (a, 3)]


def test_a_run_without_a_file_is_recorded_without_lines(opened: Context) -> None:
    identifiers = [made(opened, f"{name}@example.org") for name in "abc"]
    chosen = selected(opened, everyone=True, limit=2)
    assert recorded(opened, chosen) == [(identifier, None) for identifier in identifiers[:2]]


def test_a_second_selection_is_independent_of_the_first(opened: Context) -> None:
    a, b, c = (made(opened, f"{name}@example.org") for name in "abc")
    first = selected(opened, listed=listing(f"{a}\n{b}\nunknown\n"), excluded=listing(b))
    assert (found(first), unmatched_lines(first)) == ([a], [(3, "unknown")])
    with pytest.raises(InvalidInput):
        selected(opened, listed=listing(f"{a}\n{b}\n" * 3000 + "\0"))
    second = selected(opened, listed=listing(f"{c}\n"), excluded=listing("no one"))
    assert (found(second), unmatched_lines(second)) == ([c], [(1, "no one")])
    third = selected(opened, everyone=True)
    assert (found(third), unmatched_lines(third)) == ([a, b, c], [])


def test_the_same_selectors_and_bytes_have_the_same_description(sqlite: Context) -> None:
    made(sqlite, "a@example.org")

    def described(**selectors: Any) -> str:
        chosen = selected(sqlite, **selectors)
        return json.dumps([chosen.described, chosen.lists], sort_keys=True)

    def variants() -> Iterator[dict[str, Any]]:
        yield {"everyone": True}
        yield {"everyone": True, "limit": 1}
        yield {"everyone": True, "limit": 2}
        for status in (ClientStatus.NEW, ClientStatus.ACTIVE, ClientStatus.EXPIRED, ClientStatus.BLOCKED):
            yield {"status": status}
        yield {"never_logged_in": True}
        yield {"last_mail_failed": True}
        yield {"weak_hash": True}
        yield {"issued_before": "90d"}
        yield {"issued_before": "91d"}
        yield {"issued_before": "2026-01-31"}
        for content in ("email\n", "email\r\n", "email", "email;nom\n", "nom;email\na;\n", "nom;email\na;b\n"):
            yield {"listed": listing(content)}
            yield {"listed": listing(content, column="email")}
            yield {"everyone": True, "excluded": listing(content)}
            yield {"everyone": True, "excluded": listing(content, column="email")}
        yield {"listed": listing("email;nom\n", column="nom")}
        yield {"listed": listing("a"), "excluded": listing("b")}
        yield {"listed": listing("b"), "excluded": listing("a")}

    first, again = ([described(**selectors) for selectors in variants()] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)
    elsewhere = selected(sqlite, listed=listing("a", name="elsewhere.txt"), excluded=listing("b", name="-"))
    wanted = selected(sqlite, listed=listing("a"), excluded=listing("b"))
    assert (elsewhere.described, elsewhere.lists) == (wanted.described, wanted.lists)


# Any list


@pytest.fixture
def crowd(opened: Context) -> dict[str, str]:
    """Create a few clients, and return the identifier for each of their names."""
    names: dict[str, str] = {}
    for number in range(4):
        identifier = made(
            opened, f"c{number}@example.org", reference=f"D {number}", identifier=f"{number + 1}000000000"
        )
        names |= dict.fromkeys((identifier, f"c{number}@example.org", f"D {number}"), identifier)
    # A reference that is another client's identifier, and one that belongs to no other client.
    names["ref:1000000000"] = made(opened, "x@example.org", reference="1000000000")
    names["9000000000"] = made(opened, "y@example.org", reference="9000000000")
    return names


def test_every_line_is_selected_or_reported(opened: Context, crowd: dict[str, str]) -> None:
    words = st.sampled_from(sorted(crowd)) | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
    )
    padding = st.text(" \t\u00a0", max_size=2)

    @given(st.lists(st.tuples(padding, words, padding)), st.sampled_from(["\n", "\r\n"]), st.lists(words, max_size=3))
    def check(parts: list[tuple[str, str, str]], ending: str, but: list[str]) -> None:
        lines = "\n".join("".join(part) for part in parts).split("\n")
        chosen = selected(opened, listed=listing(ending.join(lines)), excluded=listing("\n".join(but), name="but"))
        left_out = {crowd.get(line.strip()) for line in "\n".join(but).split("\n")}
        first_lines: dict[str, int] = {}
        unknown = []
        for number, line in enumerate(lines, 1):
            if (name := line.removeprefix("\ufeff").strip()) in crowd:
                first_lines.setdefault(crowd[name], number)
            elif name:
                unknown.append((number, name))
        assert with_lines(chosen) == [named for named in first_lines.items() if named[0] not in left_out]
        assert [(line, value) for file, line, value, _ in chosen.unmatched() if file == "names.txt"] == unknown

    check()


def test_any_table_gives_back_the_cells_that_were_written(sqlite: Context) -> None:
    cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)

    @given(st.lists(st.tuples(cells, cells), min_size=1), st.sampled_from(";,\t"))
    def check(rows: list[tuple[str, str]], delimiter: str) -> None:
        written = StringIO(newline="")
        begins = []
        writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
        writer.writerow(("note", "x"))
        for row in rows:
            begins.append(written.getvalue().count("\n") + 1)
            writer.writerow(row)
        chosen = selected(sqlite, listed=listing(written.getvalue(), column="x"))
        told = [(begin, row[1].strip()) for begin, row in zip(begins, rows, strict=True) if "".join(row).strip()]
        assert unmatched_lines(chosen) == [(begin, remove_guard(value)) for begin, value in told]

    check()


# Large files


class Endless(RawIOBase):
    """A file whose lines are generated while it is read."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)

    def readline(self, _size: int | None = -1, /) -> bytes:
        return next(self._lines, b"")


def test_memory_stays_flat_as_a_file_grows(opened: Context) -> None:
    a = made(opened, "a@example.org", reference="D-000009")

    def peak(lines: int) -> int:
        content = chain([b"id;n\n"], (b"D-%06d\n" % number for number in range(lines)))
        tracemalloc.start()
        chosen = selected(opened, listed=ClientList("-", cast(BinaryIO, Endless(content)), "id"))
        assert found(chosen) == [a]
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(25_000) < peak(15_000) * 1.1


def test_a_long_list_is_resolved_by_the_indexes(opened: Context) -> None:
    number = 3_000
    columns = ("identifier", "email", "email_key", "reference", "civility", "first_name", "last_name", "language")
    rows = [(str(10**9 + n), f"c{n}@example.org", f"c{n}@example.org", f"D-{n}", *[""] * 4) for n in range(number)]
    numbers = ("created_at", "updated_at", "active_sequence", "revoked_below", "last_sequence", "failed_logins")
    with opened.database.atomic():
        insert_many(
            opened.database,
            "client",
            (*columns, *numbers),
            [(*row, clock.to_rfc3339(NOON), clock.to_rfc3339(NOON), 0, 0, 0, 0) for row in rows],
        )
    names = [name for n in range(number) for name in (f"D-{n}", f"C{n}@example.org", str(10**9 + n), f"X-{n}")]
    chosen = selected(opened, listed=listing("\n".join(names)), excluded=listing("\n".join(names[: number * 2])))
    assert chosen.count() == number // 2
    assert len(unmatched_lines(chosen)) == number + number // 2
    explain = "EXPLAIN QUERY PLAN" if isinstance(opened.database, peewee.SqliteDatabase) else "EXPLAIN"
    statement, parameters = chosen.query(Client.id, SELECTED_LINE).sql()
    steps = opened.database.execute_sql(f"{explain} {statement}", parameters)  # type: ignore[no-untyped-call] # it has none
    plan = "\n".join(map(str, steps))
    assert "SubPlan" not in plan
    assert plan.count("SCAN t") <= 1
