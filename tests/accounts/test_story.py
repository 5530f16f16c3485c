"""A client's story, on both databases."""

from datetime import datetime, timedelta

from egec_cli import clock, hashing
from egec_cli.accounts import audit, changing, clients, credentials, fields, issuing, login, story
from egec_cli.accounts.credentials import NewCredential
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.issuing import HandedOver
from egec_cli.store.models import Client, Event

NOON = clock.parse("2026-07-01T12:00:00Z")


class Ticking:
    """A clock that is a second later each time."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


def told(egec: Egec, client: Client, **options: int | None) -> list[tuple[str, str]]:
    return [(entry.what, entry.outcome) for entry in story.of(egec, client, **options).entries]


def test_a_story_is_told_in_order_with_who_did_it(opened: Egec) -> None:
    egec = opened._replace(clock=Ticking())
    client = clients.create(egec, fields.checked("jeanne@example.org"))
    shown: list[HandedOver] = []
    issuing.hand_over(egec, client, shown.append, hashing=hashing.begin(egec.settings))
    login.verify(egec, client.identifier, "wrong")
    login.verify(egec, client.identifier, shown[0].password.reveal())
    changing.update(egec, client, {"last_name": "Dupont"})
    changing.disable(egec, [client.id], reason="left")
    entries = story.of(egec, client).entries
    assert [(entry.what, entry.outcome) for entry in entries] == [
        ("client.create", "created"),
        ("credential.show", "begun"),
        ("credential.issue", "accepted"),
        ("login", "refused"),
        ("login", "accepted"),
        ("client.update", "updated"),
        ("client.disable", "disabled"),
    ]
    assert {entry.by for entry in entries} == {egec.actor.user}
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert entries[2].details == {"sequence": 1, "state": "accepted", "server_reply": "shown to the operator"}


def test_a_mail_whose_fate_nobody_has_recorded_is_told_too(opened: Egec) -> None:
    client = clients.create(opened, fields.checked("jeanne@example.org"))
    with opened.database.atomic():
        new = NewCredential(client.id, "hash", "<id@example.org>")
        credentials.record([new], at=opened.clock() + timedelta(seconds=1), by="cron", unused_days=0)
    entry = story.of(opened, client).entries[-1]
    assert (entry.what, entry.outcome, entry.by) == ("credential.issue", "in_doubt", "cron")
    assert entry.details["message_id"] == "<id@example.org>"


def test_a_file_without_an_event_of_its_beginning_begins_when_it_was_made(opened: Egec) -> None:
    client = clients.create(opened, fields.checked("jeanne@example.org"))
    Event.delete().execute()
    [entry] = story.of(opened, client).entries
    assert (entry.at, entry.what, entry.by) == (clock.rfc3339(client.created_at), "client.create", None)


def test_the_last_is_told_and_that_there_is_more(opened: Egec) -> None:
    egec = opened._replace(clock=Ticking())
    client, other = (clients.create(egec, fields.checked(f"{name}@example.org")) for name in ("a", "b"))
    for number in range(60):
        audit.record(egec, "login", "refused", client=client if number % 2 else other, number=number)
    assert len(story.of(egec, client).entries) == 31
    last = story.of(egec, client, most=5)
    assert [entry.details["number"] for entry in last.entries] == [51, 53, 55, 57, 59]
    assert last.is_cut
    assert not story.of(egec, client, most=31).is_cut
    assert told(egec, client, most=None) == [("client.create", "created"), *[("login", "refused")] * 30]


def test_the_story_of_an_erased_client_tells_what_was_done_and_nothing_of_the_person(opened: Egec) -> None:
    client = clients.create(opened, fields.checked("jeanne@example.org"))
    changing.disable(opened, [client.id], reason="Jeanne left")
    changing.erase(opened, [client.id])
    entries = story.of(opened, Client.get_by_id(client.id)).entries
    assert [entry.what for entry in entries] == ["client.create", "client.disable", "client.erase"]
    assert "eanne" not in str(entries)
