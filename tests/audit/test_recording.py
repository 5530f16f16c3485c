"""What is recorded, on both databases, and what log lines contain."""

from io import BytesIO
from typing import Any

import pytest

from egec_cli import context, hashing
from egec_cli.audit.events import record_event
from egec_cli.clients import change, fields, records
from egec_cli.clients.select import Selected, Selection
from egec_cli.clock import to_rfc3339
from egec_cli.context import Act, Context, Log
from egec_cli.credentials import issue
from egec_cli.credentials.issue import NewPassword
from egec_cli.doctor import database
from egec_cli.imports import tables
from egec_cli.imports.columns import FIELD_OF_COLUMN
from egec_cli.imports.formats import OnConflict, TableOptions
from egec_cli.imports.run import import_clients
from egec_cli.logins.verify import verify_login
from egec_cli.reissue import runs
from egec_cli.settings import load
from egec_cli.settings.parsing import parse_rate
from egec_cli.settings.types import Database
from egec_cli.store.models import Client, Event, ReissueRun, RunState


def create(egec: Context, email: str = "jeanne@example.org") -> Client:
    return records.create_client(egec, fields.parse_fields(email))


def recorded() -> list[tuple[str, str]]:
    return [(event.action, event.outcome) for event in Event.select().order_by(Event.id)]


@pytest.fixture
def acts() -> list[Act]:
    """Return the log lines."""
    return []


@pytest.fixture
def logged(opened: Context, acts: list[Act]) -> Context:
    """Return a context with a log."""
    return opened._replace(log=Log(acts.append))


def test_a_password_is_recorded_before_it_is_shown(opened: Context) -> None:
    seen: list[list[tuple[str, str]]] = []

    def show(_password: NewPassword) -> None:
        seen.append(recorded())

    issue.issue_to_operator(opened, create(opened), show, hashing=hashing.start_hash(opened.settings))
    assert seen == [[("client.create", "created"), ("credential.show", "started")]]
    assert recorded()[-1] == ("credential.issue", "accepted")


def test_an_import_records_the_changed_fields_without_values(opened: Context) -> None:
    jeanne, marc = create(opened), create(opened, "marc@example.org")
    table = b"email;nom;courriel2\njeanne@example.org;Dupont;\nMARC@example.org;;\nx@example.org;X;\n"
    read = tables.read_table(BytesIO(table), "table", FIELD_OF_COLUMN, TableOptions())
    import_clients(opened, read, lambda _: None, on_conflict=OnConflict.UPDATE, strict=False, dry_run=False)
    events = Event.select(Event.client, Event.details).where(Event.action == "client.update").tuples()
    assert list(events) == [(jeanne.id, '{"fields": ["last_name"], "source": "import"}')]
    assert Event.select().where(Event.client == marc).count() == 1
    assert [event.outcome for event in Event.select().where(Event.action == "client.import")] == ["started", "done"]


@pytest.mark.parametrize("options", [{"strict": False, "dry_run": True}])
def test_a_dry_run_is_neither_recorded_nor_logged(logged: Context, acts: list[Act], options: dict[str, Any]) -> None:
    read = tables.read_table(BytesIO(b"email\nx@example.org\n"), "table", FIELD_OF_COLUMN, TableOptions())
    import_clients(logged, read, lambda _: None, on_conflict=OnConflict.FAIL, **options)
    assert recorded() == []
    assert acts == []


def test_a_resumed_run_or_a_new_rate_is_recorded_and_the_first_start_is_not(opened: Context) -> None:
    create(opened)
    run = runs.start_run(opened, "spring", Selected(opened, Selection(everyone=True)))
    runs.resume_run(opened, run)
    assert ("reissue.resume", "resumed") not in recorded()
    runs.resume_run(opened, run, rate=parse_rate("5"))
    runs.resume_run(opened, run, rate=parse_rate("5"))
    assert recorded().count(("reissue.resume", "resumed")) == 1
    runs.pause_run(opened, run, "mail_server_unavailable")
    runs.resume_run(opened, run)
    assert recorded().count(("reissue.resume", "resumed")) == 2
    # Its worker has left.
    runs.mark_alive(opened, run, alive=False)
    later = opened._replace(clock=lambda: ReissueRun.get().worked_until + runs.HEARTBEAT_LIFETIME)
    runs.resume_run(later, run)
    assert recorded().count(("reissue.resume", "resumed")) == 3
    assert ReissueRun.get().state == RunState.RUNNING


def test_a_backup_is_recorded(location: Database) -> None:
    acts: list[Act] = []
    assert database.try_to_record(load.load_settings(), "db.backup", "done", log=Log(acts.append)) is None
    with context.open_context(load.load_settings()):
        assert recorded() == [("db.backup", "done")]
    assert [act.action for act in acts] == ["db.backup"]


def test_an_act_is_logged_when_it_is_committed(logged: Context, acts: list[Act]) -> None:
    client = create(logged)
    with logged.database.atomic():
        record_event(logged, "login", "refused", client=client, reason="wrong_password")
        assert [act.action for act in acts] == ["client.create"]
    act = acts[-1]
    assert act[1:8] == ("login", "refused", client.identifier, None, *logged.actor, {"reason": "wrong_password"})
    assert act.ms >= 0
    assert act.at == to_rfc3339(Event.select().order_by(Event.id.desc()).get().at)


def test_a_rolled_back_act_is_not_logged(logged: Context, acts: list[Act]) -> None:
    def fail() -> None:
        with logged.database.atomic():
            record_event(logged, "login", "refused")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with logged.database.atomic():
        record_event(logged, "login", "accepted")
    assert [act.outcome for act in acts] == ["accepted"]


def test_log_lines_name_each_client_and_contain_no_personal_data(logged: Context, acts: list[Act]) -> None:
    both = [create(logged), create(logged, "marc@example.org")]
    change.disable_clients(logged, [client.id for client in both], reason="M. Petit a déménagé")
    assert {(act.action, act.client) for act in acts[2:]} == {("client.disable", c.identifier) for c in both}
    assert [act.details for act in acts[2:]] == [{}, {}]
    assert "Petit" in Event.select().where(Event.action == "client.disable").get().details


def test_a_login_with_an_unknown_identifier_is_recorded_without_the_input(logged: Context, acts: list[Act]) -> None:
    verify_login(logged, "fG69a*6jH", "1234567890")
    assert recorded() == [("login", "refused")]
    assert acts[0][3:] == (None, None, *logged.actor, {"reason": "unknown_identifier"}, acts[0].ms)


def test_every_event_has_actor_and_host(opened: Context) -> None:
    egec = opened._replace(actor=opened.actor._replace(user="www-data (for jeanne.martin)", host="portal"))
    client = create(egec)
    change.disable_clients(egec, [client.id], reason="left")
    change.enable_clients(egec, [client.id])
    issue.issue_to_operator(egec, client, lambda _: None, hashing=hashing.start_hash(egec.settings), revoke=True)
    verify_login(egec, client.identifier, "wrong")
    change.erase_clients(egec, [client.id])
    actors = {(event.actor, event.host) for event in Event.select()}
    assert actors == {("www-data (for jeanne.martin)", "portal")}
    assert [action for action, _ in recorded()] == [
        "client.create", "client.disable", "client.enable", "credential.show", "credential.revoke",
        "credential.issue", "login", "client.erase",
    ]  # fmt: skip
