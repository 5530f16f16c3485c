"""Read the audit log with filters, on both databases."""

from datetime import datetime, timedelta

import pytest

from egec_cli import clock
from egec_cli.audit import query
from egec_cli.audit.query import EventFilter
from egec_cli.audit.record import record_event
from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.errors import UsageError
from egec_cli.store.models import Client, ReissueRun

NOON = clock.parse_time("2026-07-10T12:00:00Z")


class Days:
    """A clock that tests set forward."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client with events on five days."""
    days = Days()
    egec = opened._replace(clock=days)
    client = records.create_client(egec, fields.parse_fields("jeanne@example.org"))
    run = ReissueRun.create(name="spring", selection="{}", state="done", options="{}", created_at=NOON)
    for action, outcome, user, about, within in (
        ("login", "refused", "www-data (for Élouard)", client, None),
        ("login.explain", "wrong_password", "www-data (for Élouard)", client, None),
        ("credential.issue", "accepted", "egec", client, run),
        ("client.export", "started", "egec", None, None),
    ):
        days.moment += timedelta(days=1)
        record_event(egec._replace(actor=egec.actor._replace(user=user)), action, outcome, client=about, run=within)
    return client


def actions(egec: Context, wanted: EventFilter) -> list[str]:
    now = egec._replace(clock=lambda: NOON + timedelta(days=4))
    return [event.action for event in query.list_events(now, wanted)]


ALL = ["client.create", "login", "login.explain", "credential.issue", "client.export"]


def test_everything_is_listed_with_the_newest_last(opened: Context, client: Client) -> None:
    events = list(query.list_events(opened))
    assert [event.action for event in events] == ALL
    issue = events[3]
    assert issue[1:] == (
        "2026-07-13T12:00:00.000Z", "credential.issue", "accepted", client.identifier, "spring", "egec",
        opened.actor.host, {},
    )  # fmt: skip
    assert (events[4].client, events[4].run) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(action="login"), ["login", "login.explain"]),
        (EventFilter(action="login.explain"), ["login.explain"]),
        (EventFilter(action="client"), ["client.create", "client.export"]),
        (EventFilter(action="log"), []),
        (EventFilter(action="%"), []),
        (EventFilter(outcome="refused"), ["login"]),
        (EventFilter(actor="élouard"), ["login", "login.explain"]),
        (EventFilter(since="2026-07-12"), ALL[2:]),
        (EventFilter(until="2026-07-12"), ALL[:3]),
        (EventFilter(since="2026-07-12", until="2026-07-12"), ["login.explain"]),
        (EventFilter(since="1d"), ALL[3:]),
        (EventFilter(until="1d"), ALL[:3]),
        (EventFilter(limit=2), ALL[3:]),
        (EventFilter(limit=2, action="login"), ["login", "login.explain"]),
        (EventFilter(limit=1, action="login"), ["login.explain"]),
        (EventFilter(since="2027-01-01"), []),
    ],
    ids=str,
)
def test_filters_must_all_hold(opened: Context, client: Client, wanted: EventFilter, expected: list[str]) -> None:
    assert actions(opened, wanted) == expected


def test_events_are_found_by_client_and_by_run(opened: Context, client: Client) -> None:
    assert actions(opened, EventFilter(client=client)) == ALL[:4]
    assert actions(opened, EventFilter(run=ReissueRun.get())) == ["credential.issue"]


def test_events_are_listed_page_by_page(opened: Context, client: Client) -> None:
    found: list[str] = []
    after = 0
    while page := list(query.list_events(opened, EventFilter(after=after, limit=2))):
        found += [event.action for event in page]
        after = page[-1].id
    assert found == ALL


@pytest.mark.parametrize(
    "wanted", [EventFilter(limit=0), EventFilter(since="yesterday"), EventFilter(until="2026-02-30")]
)
def test_invalid_filters_are_usage_errors(opened: Context, wanted: EventFilter) -> None:
    with pytest.raises(UsageError):
        list(query.list_events(opened, wanted))
