"""Change the selected clients, on both databases."""

import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from io import BytesIO
from threading import Thread
from typing import Any

import psycopg
import pytest

from egec_cli import clock
from egec_cli.clients import bulk, change, fields
from egec_cli.clients.bulk import Changing
from egec_cli.clients.change import ChangeOutcome, ChangeRecord, Guard
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.records import create_client
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.settings.types import PostgresqlServer, SqliteFile
from egec_cli.store.models import Client, Event
from egec_cli.store.sql import insert_many
from tests.activations import wait_until

NOON = clock.parse_time("2026-07-01T12:00:00Z")
LONG_AGO = NOON - timedelta(days=1000)
disable = partial(change.disable_clients, reason="dormant")


def made(context: Context, name: str, **state: Any) -> Client:
    client = create_client(context, fields.parse_fields(f"{name}@example.org", reference=f"D-{name}"))
    if state:
        Client.update(**state).where(Client.id == client.id).execute()
    return client


def fill(context: Context, number: int) -> None:
    """Create this number of clients who logged in long ago, quickly."""
    columns = (
        "identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at",
        "updated_at", "last_login_at", "active_sequence", "revoked_below", "last_sequence", "failed_logins",
    )  # fmt: skip
    at = clock.to_rfc3339(LONG_AGO)
    emails = [f"c{one}@example.org" for one in range(number)]
    rows = [
        (str(10**9 + one), email, email, "", "", "", "", at, at, at, 0, 0, 0, 0) for one, email in enumerate(emails)
    ]
    insert_many(context.database, "client", columns, rows)


def changing(
    context: Context, outcome: ChangeOutcome = ChangeOutcome.DISABLED, **selectors: Any
) -> tuple[Context, Changing]:
    """Return a context at noon and the selected clients on which a change has an effect."""
    at_noon = context._replace(clock=lambda: NOON)
    return at_noon, Changing(Selected(at_noon, Selection(**selectors), to_mail=False), outcome)


def outcomes(records: Any) -> list[tuple[str | None, int | None, str]]:
    return [(one.identifier, one.line, one.outcome.value) for one in records]


def is_disabled(client: Client) -> bool:
    return Client.get_by_id(client.id).disabled_at is not None


def test_the_selected_clients_are_changed_once_and_the_log_says_by_which_selectors(opened: Context) -> None:
    one, two = (made(opened, name, last_login_at=LONG_AGO) for name in ("one", "two"))
    made(opened, "never")
    made(opened, "recent", last_login_at=NOON)
    done = made(opened, "done", last_login_at=LONG_AGO, disabled_at=LONG_AGO)
    context, selected = changing(opened, last_login_before="2y", email_domain="Example.org")
    assert selected.count() == 2
    expected = [(one.identifier, None, "disabled"), (two.identifier, None, "disabled")]
    assert outcomes(bulk.change_selected(context, selected, disable)) == expected
    assert (selected.count(), outcomes(bulk.change_selected(context, selected, disable))) == (0, [])
    assert [is_disabled(client) for client in (one, two, done)] == [True] * 3
    assert Client.select().where(Client.disabled_at.is_null()).count() == 2
    events = list(Event.select().where(Event.action == "client.disable").order_by(Event.id))
    assert [event.client for event in events] == [one, two]
    assert events[0].details == (
        '{"reason": "dormant", "selection": "--email-domain example.org --last-login-before 2y"}'
    )


def test_only_clients_for_whom_a_change_has_an_effect_are_changed(opened: Context) -> None:
    plain = made(opened, "plain")
    off = made(opened, "off", disabled_at=LONG_AGO)
    failed = made(opened, "failed", failed_logins=3)
    blocked = made(opened, "blocked", failed_logins=10, blocked_until=NOON + timedelta(hours=1))
    for outcome, change_clients, expected in (
        (ChangeOutcome.ENABLED, change.enable_clients, [off]),
        (ChangeOutcome.UNBLOCKED, change.unblock_clients, [failed, blocked]),
        (ChangeOutcome.ERASED, change.erase_clients, [plain, off, failed, blocked]),
    ):
        context, selected = changing(opened, outcome, everyone=True)
        assert selected.count() == len(expected)
        records = bulk.change_selected(context, selected, change_clients)
        assert outcomes(records) == [(client.identifier, None, outcome.value) for client in expected]
        assert selected.count() == 0


def test_the_event_of_an_erasure_does_not_keep_the_domain_of_the_client(opened: Context) -> None:
    client = made(opened, "a")
    context, selected = changing(opened, ChangeOutcome.ERASED, email_domain="example.org", created_after="1y")
    assert len(list(bulk.change_selected(context, selected, change.erase_clients))) == 1
    [event] = Event.select().where(Event.action == "client.erase")
    assert (event.client, event.details) == (
        client,
        '{"selection": "--created-after 1y --email-domain DOMAIN"}',
    )


def test_a_client_who_is_being_mailed_is_reported_and_the_others_are_erased(opened: Context) -> None:
    busy, other = made(opened, "busy"), made(opened, "other")
    context, selected = changing(opened, ChangeOutcome.ERASED, everyone=True)
    with opened.database.atomic():
        leases.take_leases(context, [busy.id], "elsewhere/1/x/y/z/0")
    records = list(bulk.change_selected(context, selected, change.erase_clients))
    assert [(one.identifier, one.outcome, one.failure) for one in records] == [
        (busy.identifier, ChangeOutcome.FAILED, "client_busy"),
        (other.identifier, ChangeOutcome.ERASED, None),
    ]
    assert selected.count() == 1


def test_a_client_who_logs_in_between_the_selection_and_the_change_is_left_out(opened: Context) -> None:
    clients = [made(opened, name, last_login_at=LONG_AGO) for name in "abc"]
    context, selected = changing(opened, last_login_before="2y")

    def log_in() -> None:
        Client.update(last_login_at=NOON).where(Client.id == clients[1].id).execute()

    records = bulk.change_selected(context, selected, disable, before_batch=log_in)
    assert outcomes(records) == [(clients[number].identifier, None, "disabled") for number in (0, 2)]
    assert [is_disabled(client) for client in clients] == [True, False, True]


def test_a_login_that_ends_while_the_change_waits_for_its_row_counts(opened: Context) -> None:
    location = opened.settings.database
    if isinstance(location, SqliteFile):
        pytest.skip("an SQLite transaction locks the whole database, so no login is in progress during a change")
    assert isinstance(location, PostgresqlServer)
    client = made(opened, "a", last_login_at=LONG_AGO)
    context, selected = changing(opened, last_login_before="2y")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(location.url) as login, psycopg.connect(location.url, autocommit=True) as observer:
        login.execute("UPDATE client SET last_login_at = %s", [clock.to_rfc3339(NOON)])

        def commit_when_waited_for() -> None:
            wait_until(lambda: observer.execute(waiting).fetchone() is not None)
            login.commit()

        thread = Thread(target=commit_when_waited_for)
        thread.start()
        assert list(bulk.change_selected(context, selected, disable)) == []
        thread.join()
    assert not is_disabled(client)


def test_clients_come_in_batches_and_after_a_kill_the_same_call_does_the_rest(opened: Context) -> None:
    fill(opened, 1203)
    batches: list[int] = []

    def disable_until_killed(context: Context, keys: Sequence[int], guard: Guard) -> Mapping[int, ChangeRecord]:
        batches.append(len(keys))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return disable(context, keys, guard)

    context, selected = changing(opened, last_login_before="2y")
    with pytest.raises(KeyboardInterrupt):
        list(bulk.change_selected(context, selected, disable_until_killed))
    assert batches == [500, 500, 203]
    context, again = changing(opened, last_login_before="2y")
    assert len(list(bulk.change_selected(context, again, disable))) == 203
    assert Event.select().where(Event.action == "client.disable").count() == 1203
    assert Event.select(Event.client).where(Event.action == "client.disable").distinct().count() == 1203


def test_a_limit_and_an_agreed_number_end_the_change(opened: Context) -> None:
    fill(opened, 30)
    context, selected = changing(opened, last_login_before="2y", limit=20)
    assert selected.count() == 20
    assert len(list(bulk.change_selected(context, selected, disable, at_most=7))) == 7
    assert len(list(bulk.change_selected(context, selected, disable))) == 20
    assert len(list(bulk.change_selected(context, selected, disable))) == 3
    assert list(bulk.change_selected(context, selected, disable, at_most=0)) == []


def test_a_list_with_other_selectors_is_walked_in_its_order_with_the_lines(opened: Context) -> None:
    names = [made(opened, f"n{number}", last_login_at=LONG_AGO) for number in range(1100)]
    Client.update(last_login_at=NOON).where(Client.id == names[7].id).execute()
    backwards = "\n".join(client.identifier for client in reversed(names)).encode()
    context, selected = changing(
        opened,
        last_login_before="2y",
        listed=ClientList("names.txt", BytesIO(backwards)),
        excluded=ClientList("but.txt", BytesIO(b"D-n3")),
    )
    expected = [
        (client.identifier, 1100 - number, "disabled")
        for number, client in reversed(list(enumerate(names)))
        if number not in {3, 7}
    ]
    assert selected.count() == 1098
    assert outcomes(bulk.change_selected(context, selected, disable)) == expected


def test_a_preview_changes_nothing_and_tells_for_each_client_why(opened: Context) -> None:
    one = made(opened, "one", last_login_at=LONG_AGO)
    made(opened, "two", last_login_at=LONG_AGO, disabled_at=NOON)
    context, selected = changing(
        opened,
        last_login_before="2y",
        created_after="1y",
        email_domain="example.org",
        listed=ClientList("names.txt", BytesIO(b"D-two\nD-one\n")),
    )
    [planned] = selected.preview(context)
    assert (planned.identifier, planned.email, planned.reference) == (one.identifier, "one@example.org", "D-one")
    assert (planned.line, planned.last_login_at) == (2, clock.to_rfc3339(LONG_AGO))
    created = clock.to_zone(one.created_at, context.settings.timezone).date()
    assert planned.why == f"line 2 of the list, last login 2023-10-05, created {created}, e-mail at example.org"
    assert Event.select().where(Event.action == "client.disable").count() == 0
    context, everyone = changing(opened, ChangeOutcome.ENABLED, everyone=True)
    assert [planned.why for planned in everyone.preview(context)] == ["all clients"]
    assert list(selected.preview(context, at_most=0)) == []


def test_a_preview_shows_dates_in_the_time_zone_of_the_selectors(opened: Context) -> None:
    context = opened._replace(clock=lambda: NOON)
    # It is 31 January in Paris, and still the 30th in UTC.
    made(context, "one", created_at=clock.parse_time("2026-01-30T23:30:00Z"))
    selected = Selected(context, Selection(created_after="2026-01-31"), to_mail=False)
    [planned] = Changing(selected, ChangeOutcome.DISABLED).preview(context)
    assert planned.why == "created 2026-01-31"


def test_the_memory_of_a_change_does_not_grow_with_the_number_of_clients(opened: Context) -> None:
    fill(opened, 30_000)
    peaks = []
    for number in (3_000, 24_000):
        context, selected = changing(opened, last_login_before="2y", limit=number)
        tracemalloc.start()
        for _ in bulk.change_selected(context, selected, disable):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert Client.select().where(Client.disabled_at.is_null(False)).count() == 27_000
    # The keys of a page are kept, and no more.
    assert peaks[1] < peaks[0] + 4_000_000
