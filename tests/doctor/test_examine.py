"""What the doctor finds in databases, on both engines, and in clocks and hash costs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import clock
from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.credentials.states import MAX_IN_DOUBT
from egec_cli.doctor import machine
from egec_cli.doctor.database import (
    check_failed_items,
    check_integrity,
    check_newest_entry,
    check_open_credentials,
    check_paused_runs,
    check_server_clock,
)
from egec_cli.doctor.findings import Finding, Severity, exit_code
from egec_cli.errors import ExitCode
from egec_cli.settings.types import SqliteFile
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, CredentialState, ItemState, ReissueItem, ReissueRun, RunState

LONG_AGO = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client."""
    records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    found: Client = Client.get()
    return found


def credential(client: Client, sequence: int, state: CredentialState) -> None:
    at = clock.now()
    Credential.create(client=client, sequence=sequence, state=state, created_at=at, settled_at=at, issued_by="egec")


def create_run(client: Client, state: RunState, item: ItemState) -> None:
    run = ReissueRun.create(
        name="spring",
        selection="{}",
        state=state,
        options='{"rate": null}',
        created_at=clock.now() - timedelta(hours=1),
    )
    ReissueItem.create(run=run, client=client, state=item, not_before=clock.now())


def verdict_and_fix(findings: list[Finding]) -> tuple[Severity, str]:
    [finding] = findings
    return finding.verdict, finding.fix


def test_a_client_with_too_many_deliveries_in_doubt_is_named(opened: Context, client: Client) -> None:
    for sequence in range(1, MAX_IN_DOUBT):
        credential(client, sequence, CredentialState.IN_DOUBT)
    [finding] = check_open_credentials()
    assert (finding.verdict, finding.details[:12]) == (Severity.OK, "7 deliveries")
    credential(client, MAX_IN_DOUBT, CredentialState.SENDING)
    fix = f"egec activate {client.identifier} --revoke"
    assert verdict_and_fix([*check_open_credentials()]) == (Severity.WARNING, fix)


@pytest.mark.parametrize(
    ("state", "worked_for", "is_named"),
    [
        (RunState.PAUSED, None, True),
        (RunState.RUNNING, -5, True),
        (RunState.RUNNING, 5, False),
        (RunState.DONE, None, False),
        (RunState.CANCELLED, None, False),
    ],
)
def test_a_paused_run_is_named(
    opened: Context, client: Client, state: RunState, worked_for: int | None, is_named: bool
) -> None:
    create_run(client, state, ItemState.WAITING)
    if worked_for is not None:
        ReissueRun.update(worked_until=clock.now() + timedelta(seconds=worked_for)).execute()
    wanted = (Severity.WARNING, "egec reissue resume spring") if is_named else (Severity.OK, "")
    assert verdict_and_fix([*check_paused_runs(opened)]) == wanted


def test_a_failed_client_is_counted_until_a_later_mail_is_accepted(opened: Context, client: Client) -> None:
    create_run(client, RunState.DONE, ItemState.FAILED)
    fix = "egec reissue status spring --failed; then: egec reissue retry spring"
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.WARNING, fix)
    credential(client, 1, CredentialState.REFUSED)
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.WARNING, fix)
    credential(client, 2, CredentialState.ACCEPTED)
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.OK, "")


def test_the_name_of_a_run_is_quoted_in_commands(opened: Context, client: Client) -> None:
    create_run(client, RunState.PAUSED, ItemState.FAILED)
    ReissueRun.update(name="odd name; rm -rf /").execute()
    resume, retry = check_paused_runs(opened), check_failed_items(opened)
    assert verdict_and_fix([*resume])[1] == "egec reissue resume 'odd name; rm -rf /'"
    assert verdict_and_fix([*retry])[1] == (
        "egec reissue status 'odd name; rm -rf /' --failed; then: egec reissue retry 'odd name; rm -rf /'"
    )


def test_clients_who_are_disabled_inactive_or_in_a_cancelled_run_are_not_counted(
    opened: Context, client: Client
) -> None:
    create_run(client, RunState.CANCELLED, ItemState.FAILED)
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.OK, "")
    ReissueRun.update(state=RunState.DONE).execute()
    Client.update(disabled_at=clock.now()).execute()
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.OK, "")
    Client.update(disabled_at=None, valid_until="2020-12-31").execute()
    assert verdict_and_fix([*check_failed_items(opened)]) == (Severity.OK, "")


def test_an_entry_in_the_future_is_a_fault(opened: Context, client: Client) -> None:
    assert [one.verdict for one in check_newest_entry(clock.now)] == [Severity.OK]
    yesterday = clock.now() - timedelta(days=1)
    assert [one.verdict for one in check_newest_entry(lambda: yesterday)] == [Severity.ERROR]


def test_an_implausible_date_is_a_fault(opened: Context) -> None:
    assert [one.verdict for one in machine.check_clock(lambda: LONG_AGO)] == [Severity.ERROR]
    assert [one.verdict for one in machine.check_clock(clock.now)] == [Severity.OK]


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, Severity.OK), (-10, Severity.WARNING), (10, Severity.WARNING), (3600, Severity.ERROR)]
)
def test_the_clocks_of_server_and_machine_are_compared(opened: Context, seconds: int, wanted: Severity) -> None:
    found = [*check_server_clock(opened.database, lambda: clock.now() + timedelta(seconds=seconds))]
    is_server = isinstance(opened.database, peewee.PostgresqlDatabase)
    assert [one.verdict for one in found] == ([wanted] if is_server else [])


@pytest.mark.usefixtures("durable")
def test_a_dangling_reference_is_a_fault(opened: Context, client: Client) -> None:
    credential(client, 1, CredentialState.ACCEPTED)
    assert [one.verdict for one in check_integrity(opened.database)] == [Severity.OK]
    if isinstance(opened.database, peewee.SqliteDatabase):
        opened.database.execute_sql("PRAGMA foreign_keys = 0")  # type: ignore[no-untyped-call] # peewee is untyped
        Credential.update(client=99).execute()
        [finding] = check_integrity(opened.database)
        assert "a row of credential refers to a missing row of client" in finding.details
        assert "egec db restore" in finding.fix


@pytest.mark.usefixtures("durable")
def test_an_invalid_index_of_postgresql_is_a_fault(opened: Context) -> None:
    if isinstance(opened.database, peewee.PostgresqlDatabase):
        opened.database.execute_sql(  # type: ignore[no-untyped-call] # peewee is untyped
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'client_identifier'::regclass"
        )
        [finding] = check_integrity(opened.database)
        assert (finding.verdict, finding.details) == (Severity.ERROR, "the index client_identifier is not valid")


def test_a_long_log_is_a_warning(opened: Context) -> None:
    if isinstance(location := opened.settings.database, SqliteFile):
        with location.path.with_name(f"{location.path.name}-wal").open("r+b") as log:
            log.truncate(2**27)
        assert [one.check for one in machine.check_files(location) if one.verdict is Severity.WARNING] == ["log"]


@given(st.integers(4, 16), st.floats(0.1, 20_000))
def test_the_advised_cost_is_nearest_to_the_target(cost: int, milliseconds: float) -> None:
    finding = machine.judge_cost(cost, milliseconds)
    if finding.verdict is Severity.OK:
        assert finding.fix == ""
        assert 125 <= milliseconds <= 500 or (cost == 10 and milliseconds > 250) or (cost == 16 and milliseconds < 250)
    else:
        advised = int(finding.fix.partition("=")[2].partition(":")[0])
        assert 10 <= advised <= 16
        assert advised != cost
        takes = milliseconds * 2 ** (advised - cost)
        assert advised in {10, 16} or 250 / 1.5 <= takes <= 250 * 1.5


def test_the_worst_finding_sets_the_exit_code() -> None:
    found = {one: Finding("x", one, "", "") for one in Severity}
    assert exit_code([found[Severity.OK]]) == ExitCode.OK
    assert exit_code([found[Severity.OK], found[Severity.WARNING]]) == ExitCode.PARTLY_DONE
    assert exit_code(found.values()) == ExitCode.CONFIGURATION
