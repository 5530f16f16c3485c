"""The history of a client, on both databases."""

from datetime import datetime, timedelta

from egec_cli import clock, hashing
from egec_cli.audit.events import record_event
from egec_cli.clients import change, fields, history, records, update
from egec_cli.context import Context
from egec_cli.credentials import issue, states
from egec_cli.credentials.issue import NewPassword
from egec_cli.credentials.states import NewCredential
from egec_cli.logins.verify import verify_login
from egec_cli.store.models import Client, Event

NOON = clock.parse_time("2026-07-01T12:00:00Z")


class Ticking:
    """A clock that is a second later each time."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


def load_outcomes(egec: Context, client: Client, **options: int | None) -> list[tuple[str, str]]:
    return [(entry.action, entry.outcome) for entry in history.load_history(egec, client, **options).entries]


def test_a_history_is_in_order_and_names_the_actor(opened: Context) -> None:
    egec = opened._replace(clock=Ticking())
    client = records.create_client(egec, fields.parse_fields("jeanne@example.org"))
    shown: list[NewPassword] = []
    issue.issue_to_operator(egec, client, shown.append, hashing=hashing.start_hash(egec.settings))
    verify_login(egec, client.identifier, "wrong")
    verify_login(egec, client.identifier, shown[0].password.reveal())
    update.update_client(egec, client, {"last_name": "Dupont"})
    change.disable_clients(egec, [client.id], reason="left")
    entries = history.load_history(egec, client).entries
    assert [(entry.action, entry.outcome) for entry in entries] == [
        ("client.create", "created"),
        ("credential.show", "started"),
        ("credential.issue", "accepted"),
        ("login", "refused"),
        ("login", "accepted"),
        ("client.update", "updated"),
        ("client.disable", "disabled"),
    ]
    assert {entry.actor for entry in entries} == {egec.actor.user}
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert entries[2].details == {"sequence": 1, "state": "accepted", "server_reply": "shown to the operator"}


def test_a_mail_without_a_recorded_result_is_shown_in_doubt(opened: Context) -> None:
    client = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    with opened.database.atomic():
        new = NewCredential(client.id, "hash", "<id@example.org>")
        states.record_credentials([new], at=opened.clock() + timedelta(seconds=1), by="cron", expires_at=None)
    entry = history.load_history(opened, client).entries[-1]
    assert (entry.action, entry.outcome, entry.actor) == ("credential.issue", "in_doubt", "cron")
    assert entry.details["message_id"] == "<id@example.org>"


def test_a_history_without_a_creation_event_begins_when_the_client_was_created(opened: Context) -> None:
    client = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    Event.delete().execute()
    [entry] = history.load_history(opened, client).entries
    assert (entry.at, entry.action, entry.actor) == (clock.to_rfc3339(client.created_at), "client.create", None)


def test_the_last_entries_are_loaded_with_a_note_that_there_are_more(opened: Context) -> None:
    egec = opened._replace(clock=Ticking())
    client, other = (records.create_client(egec, fields.parse_fields(f"{name}@example.org")) for name in ("a", "b"))
    for number in range(60):
        record_event(egec, "login", "refused", client=client if number % 2 else other, number=number)
    assert len(history.load_history(egec, client).entries) == 31
    last = history.load_history(egec, client, most=5)
    assert [entry.details["number"] for entry in last.entries] == [51, 53, 55, 57, 59]
    assert last.is_cut
    assert not history.load_history(egec, client, most=31).is_cut
    assert load_outcomes(egec, client, most=None) == [("client.create", "created"), *[("login", "refused")] * 30]


def test_the_history_of_an_erased_client_keeps_the_actions_and_no_personal_data(opened: Context) -> None:
    client = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    change.disable_clients(opened, [client.id], reason="Jeanne left")
    change.erase_clients(opened, [client.id])
    entries = history.load_history(opened, Client.get_by_id(client.id)).entries
    assert [entry.action for entry in entries] == ["client.create", "client.disable", "client.erase"]
    assert "eanne" not in str(entries)


def test_each_mail_of_an_erased_client_is_in_the_history_once(opened: Context) -> None:
    egec = opened._replace(clock=Ticking())
    client = records.create_client(egec, fields.parse_fields("jeanne@example.org"))
    for _ in range(3):
        issue.issue_to_operator(egec, client, lambda _new: None, hashing=hashing.start_hash(egec.settings))
    change.erase_clients(egec, [client.id])
    erased = Client.get_by_id(client.id)
    assert [what for what, _ in load_outcomes(egec, erased)].count("credential.issue") == 3
    # Those whose events were pruned are still in it.
    Event.delete().where((Event.client == erased) & (Event.at < NOON + timedelta(seconds=8))).execute()
    assert [what for what, _ in load_outcomes(egec, erased)].count("credential.issue") == 3
