"""What is put on record, on both databases, and what a log is told of it."""

from io import BytesIO
from typing import Any

import pytest

from egec_cli import hashing, settings
from egec_cli.accounts import (
    audit,
    changing,
    clients,
    fields,
    import_rows,
    importing,
    issuing,
    login,
    reissue,
    tables,
    upkeep,
)
from egec_cli.accounts import egec as accounts_egec
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.import_options import Given, OnConflict
from egec_cli.accounts.issuing import HandedOver
from egec_cli.accounts.log import Act, Log
from egec_cli.accounts.selection import Selected, Selection
from egec_cli.clock import rfc3339
from egec_cli.settings import Database
from egec_cli.store.models import Client, Event, ReissueRun, RunState


def made(egec: Egec, email: str = "jeanne@example.org") -> Client:
    return clients.create(egec, fields.checked(email))


def recorded() -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in Event.select().order_by(Event.id)]


@pytest.fixture
def acts() -> list[Act]:
    """Return what the log is told."""
    return []


@pytest.fixture
def logged(opened: Egec, acts: list[Act]) -> Egec:
    """Return eGEC with a log."""
    return opened._replace(log=Log(acts.append))


def test_a_password_that_is_shown_is_on_record_before_it_is(opened: Egec) -> None:
    seen: list[list[tuple[str, str]]] = []

    def show(_handed_over: HandedOver) -> None:
        seen.append(recorded())

    issuing.hand_over(opened, made(opened), show, hashing=hashing.begin(opened.settings))
    assert seen == [[("client.create", "created"), ("credential.show", "begun")]]
    assert recorded()[-1] == ("credential.issue", "accepted")


def test_an_import_that_changes_files_records_which_fields_and_no_value(opened: Egec) -> None:
    jeanne, marc = made(opened), made(opened, "marc@example.org")
    table = b"email;nom;courriel2\njeanne@example.org;Dupont;\nMARC@example.org;;\nx@example.org;X;\n"
    read = tables.read(BytesIO(table), "table", import_rows.FIELD_OF_COLUMN, Given())
    importing.run(opened, read, lambda _: None, on_conflict=OnConflict.UPDATE, strict=False, dry_run=False)
    events = Event.select(Event.client, Event.details).where(Event.action == "client.update").tuples()
    assert list(events) == [(jeanne.id, '{"fields": ["last_name"], "source": "import"}')]
    assert Event.select().where(Event.client == marc).count() == 1
    assert [event.outcome for event in Event.select().where(Event.action == "client.import")] == ["begun", "done"]


@pytest.mark.parametrize("options", [{"strict": False, "dry_run": True}])
def test_what_is_only_tried_is_not_on_record_and_not_logged(
    logged: Egec, acts: list[Act], options: dict[str, Any]
) -> None:
    read = tables.read(BytesIO(b"email\nx@example.org\n"), "table", import_rows.FIELD_OF_COLUMN, Given())
    importing.run(logged, read, lambda _: None, on_conflict=OnConflict.FAIL, **options)
    assert recorded() == []
    assert acts == []


def test_a_run_that_goes_on_or_gets_another_rate_is_on_record_and_one_that_begins_is_not(opened: Egec) -> None:
    made(opened)
    run = reissue.begin(opened, "spring", Selected(opened, Selection(everyone=True)))
    reissue.resume(opened, run)
    assert ("reissue.resume", "resumed") not in recorded()
    reissue.resume(opened, run, rate=5)
    reissue.resume(opened, run, rate=5)
    assert recorded().count(("reissue.resume", "resumed")) == 1
    reissue.pause(opened, run, "mail_server_away")
    reissue.resume(opened, run)
    assert recorded().count(("reissue.resume", "resumed")) == 2
    # Who worked on it has left.
    reissue.work_goes_on(opened, run, alive=False)
    later = opened._replace(clock=lambda: ReissueRun.get().worked_until + reissue.HEARD_OF_FOR)
    reissue.resume(later, run)
    assert recorded().count(("reissue.resume", "resumed")) == 3
    assert ReissueRun.get().state == RunState.RUNNING


def test_a_backup_is_on_record(location: Database) -> None:
    acts: list[Act] = []
    assert upkeep.try_to_put_on_record(settings.load(), "db.backup", "done", log=Log(acts.append)) is None
    with accounts_egec.opened(settings.load()):
        assert recorded() == [("db.backup", "done")]
    assert [act.action for act in acts] == ["db.backup"]


def test_the_log_is_told_of_an_act_when_it_is_committed(logged: Egec, acts: list[Act]) -> None:
    client = made(logged)
    with logged.database.atomic():
        audit.record(logged, "login", "refused", client=client, reason="wrong")
        assert [act.action for act in acts] == ["client.create"]
    told = acts[-1]
    assert told[1:8] == ("login", "refused", client.identifier, None, *logged.actor, {"reason": "wrong"})
    assert told.ms >= 0
    assert told.at == rfc3339(Event.select().order_by(Event.id.desc()).get().at)


def test_the_log_is_told_nothing_of_what_is_rolled_back(logged: Egec, acts: list[Act]) -> None:
    def fail() -> None:
        with logged.database.atomic():
            audit.record(logged, "login", "refused")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with logged.database.atomic():
        audit.record(logged, "login", "accepted")
    assert [act.outcome for act in acts] == ["accepted"]


def test_the_log_names_each_client_of_many_and_holds_back_what_nobody_could_erase_there(
    logged: Egec, acts: list[Act]
) -> None:
    both = [made(logged), made(logged, "marc@example.org")]
    changing.disable(logged, [client.id for client in both], reason="M. Petit a déménagé")
    assert {(act.action, act.client) for act in acts[2:]} == {("client.disable", c.identifier) for c in both}
    assert [act.details for act in acts[2:]] == [{}, {}]
    assert "Petit" in Event.select().where(Event.action == "client.disable").get().details


def test_a_login_of_nobody_is_on_record_without_what_was_typed(logged: Egec, acts: list[Act]) -> None:
    login.verify(logged, "fG69a*6jH", "1234567890")
    assert recorded() == [("login", "refused")]
    assert acts[0][3:] == (None, None, *logged.actor, {"reason": "unknown_identifier"}, acts[0].ms)


def test_every_event_has_actor_and_host(opened: Egec) -> None:
    egec = opened._replace(actor=opened.actor._replace(user="www-data (for jeanne.martin)", host="portal"))
    client = made(egec)
    changing.disable(egec, [client.id], reason="left")
    changing.enable(egec, [client.id])
    issuing.hand_over(egec, client, lambda _: None, hashing=hashing.begin(egec.settings), revoke=True)
    login.verify(egec, client.identifier, "wrong")
    changing.erase(egec, [client.id])
    told = {(event.actor, event.host) for event in Event.select()}
    assert told == {("www-data (for jeanne.martin)", "portal")}
    assert [action for action, _ in recorded()] == [
        "client.create", "client.disable", "client.enable", "credential.show", "credential.revoke",
        "credential.issue", "login", "client.erase",
    ]  # fmt: skip
