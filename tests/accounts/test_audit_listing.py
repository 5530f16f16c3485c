"""The record of what was done, read with filters, on both databases."""

from datetime import datetime, timedelta

import pytest

from egec_cli import clock
from egec_cli.accounts import audit, audit_listing, clients, fields
from egec_cli.accounts.audit_listing import Wanted
from egec_cli.accounts.egec import Egec
from egec_cli.errors import Usage
from egec_cli.store.models import Client, ReissueRun

NOON = clock.parse("2026-07-10T12:00:00Z")


class Days:
    """A clock that is a day later each time it is set on."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def client(opened: Egec) -> Client:
    """Return a client, and put five days on record."""
    days = Days()
    egec = opened._replace(clock=days)
    client = clients.create(egec, fields.checked("jeanne@example.org"))
    run = ReissueRun.create(name="spring", selection="{}", state="done", options="{}", created_at=NOON)
    for action, outcome, user, whom, which in (
        ("login", "refused", "www-data (for Élouard)", client, None),
        ("login.explain", "wrong", "www-data (for Élouard)", client, None),
        ("credential.issue", "accepted", "egec", client, run),
        ("client.export", "begun", "egec", None, None),
    ):
        days.moment += timedelta(days=1)
        audit.record(egec._replace(actor=egec.actor._replace(user=user)), action, outcome, client=whom, run=which)
    return client


def actions(egec: Egec, wanted: Wanted) -> list[str]:
    now = egec._replace(clock=lambda: NOON + timedelta(days=4))
    return [event.action for event in audit_listing.listed(now, wanted)]


ALL = ["client.create", "login", "login.explain", "credential.issue", "client.export"]


def test_everything_is_listed_with_the_newest_last(opened: Egec, client: Client) -> None:
    events = list(audit_listing.listed(opened))
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
        (Wanted(action="login"), ["login", "login.explain"]),
        (Wanted(action="login.explain"), ["login.explain"]),
        (Wanted(action="client"), ["client.create", "client.export"]),
        (Wanted(action="log"), []),
        (Wanted(action="%"), []),
        (Wanted(outcome="refused"), ["login"]),
        (Wanted(actor="élouard"), ["login", "login.explain"]),
        (Wanted(since="2026-07-12"), ALL[2:]),
        (Wanted(until="2026-07-12"), ALL[:3]),
        (Wanted(since="2026-07-12", until="2026-07-12"), ["login.explain"]),
        (Wanted(since="1d"), ALL[3:]),
        (Wanted(until="1d"), ALL[:3]),
        (Wanted(limit=2), ALL[3:]),
        (Wanted(limit=2, action="login"), ["login", "login.explain"]),
        (Wanted(limit=1, action="login"), ["login.explain"]),
        (Wanted(since="2027-01-01"), []),
    ],
    ids=str,
)
def test_filters_must_all_hold(opened: Egec, client: Client, wanted: Wanted, expected: list[str]) -> None:
    assert actions(opened, wanted) == expected


def test_those_of_a_client_or_a_run_are_found(opened: Egec, client: Client) -> None:
    assert actions(opened, Wanted(client=client)) == ALL[:4]
    assert actions(opened, Wanted(run=ReissueRun.get())) == ["credential.issue"]


def test_who_reads_on_gets_what_follows_page_by_page(opened: Egec, client: Client) -> None:
    found: list[str] = []
    after = 0
    while page := list(audit_listing.listed(opened, Wanted(after=after, limit=2))):
        found += [event.action for event in page]
        after = page[-1].id
    assert found == ALL


@pytest.mark.parametrize("wanted", [Wanted(limit=0), Wanted(since="yesterday"), Wanted(until="2026-02-30")])
def test_what_selects_nothing_is_a_wrong_command_line(opened: Egec, wanted: Wanted) -> None:
    with pytest.raises(Usage):
        list(audit_listing.listed(opened, wanted))
