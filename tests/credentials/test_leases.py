"""The lease of a client: which issuer waits for another, and how long."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from egec_cli.clients import fields, history, records
from egec_cli.context import Context
from egec_cli.credentials import leases, states
from egec_cli.credentials.issue import IssueResult, issue_by_mail
from egec_cli.credentials.states import NewCredential
from egec_cli.errors import TemporaryFailure
from egec_cli.hashing import start_hash
from egec_cli.mail.transports import choose
from egec_cli.settings import load
from egec_cli.settings.types import SqliteFile
from egec_cli.store import peewee
from egec_cli.store.models import Client, CredentialState
from tests import children
from tests.credentials.stepwise import End, Issue
from tests.processes import command_of
from tests.smtp_server import MailServer, Point

PARTS = ("host", "pid", "boot", "namespace", "started_at", "digits")
STRANGERS = {
    "another boot": {"boot": "00000000-0000-0000-0000-000000000000"},
    "another PID namespace": {"namespace": "1"},
    "a system without boot id": {"boot": ""},
    "a system without PID namespace": {"namespace": ""},
}


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client."""
    return records.create_client(opened, fields.parse_fields("jeanne@example.org"))


@pytest.fixture(scope="module")
def ended() -> str:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def owner(client: Client) -> str | None:
    holder: str | None = Client.get_by_id(client.id).lease_owner
    return holder


def owner_with(**other: str) -> str:
    """Return the name of this process as an owner, with other parts."""
    return "/".join((dict(zip(PARTS, leases.new_owner().split("/"), strict=True)) | other).values())


def held_by(client: Client, holder: str, egec: Context, *, ahead: timedelta = timedelta(seconds=30)) -> None:
    Client.update(lease_owner=holder, lease_until=egec.clock() + ahead).where(Client.id == client.id).execute()


def later(egec: Context, by: timedelta) -> Context:
    moment = egec.clock() + by
    return egec._replace(clock=lambda: moment)


def require_held(egec: Context, client: Client) -> None:
    with pytest.raises(TemporaryFailure):
        leases.take_lease(egec, client, patience=0)


def test_a_lease_that_another_issuer_keeps_is_a_temporary_failure(opened: Context, client: Client) -> None:
    leases.take_lease(opened, client)
    with pytest.raises(
        TemporaryFailure, match=f"client {client.identifier} is being mailed by another egec"
    ) as refused:
        leases.take_lease(opened, client, patience=0.1)
    host, process = leases.new_owner().split("/")[:2]
    assert str(refused.value.message).endswith(f": {host}/{process}")


def test_a_released_lease_is_free_immediately(opened: Context, client: Client) -> None:
    leases.take_lease(opened, client).release()
    assert leases.take_lease(opened, client, patience=0).owner


def test_a_lease_whose_process_has_ended_is_free_immediately(opened: Context, client: Client, ended: str) -> None:
    held_by(client, owner_with(pid=ended), opened)
    assert leases.take_lease(opened, client, patience=0).owner


def test_a_reused_process_number_does_not_hold_a_lease(opened: Context, client: Client) -> None:
    held_by(client, owner_with(pid=str(os.getppid()), started_at="1"), opened)
    assert leases.take_lease(opened, client, patience=0).owner


def test_a_zombie_process_does_not_hold_a_lease(opened: Context, client: Client) -> None:
    with subprocess.Popen(command_of(children.print_lease_owner), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.read().strip()
        # The parent has not collected the exit code.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        held_by(client, name, opened)
        assert leases.take_lease(opened, client, patience=0).owner


@pytest.mark.parametrize("difference", STRANGERS.values(), ids=STRANGERS)
def test_an_owner_out_of_sight_keeps_its_lease_until_it_expires(
    opened: Context, client: Client, ended: str, difference: dict[str, str]
) -> None:
    held_by(client, owner_with(pid=ended, **difference), opened)
    require_held(opened, client)
    assert leases.take_lease(later(opened, timedelta(seconds=31)), client, patience=0).owner


def test_an_owner_of_an_earlier_release_keeps_its_lease_until_it_expires(
    opened: Context, client: Client, ended: str
) -> None:
    host = leases.new_owner().split("/")[0]
    held_by(client, f"{host}/{ended}/12345/0123456789abcdef", opened)
    require_held(opened, client)
    assert leases.take_lease(later(opened, timedelta(seconds=31)), client, patience=0).owner


def test_a_running_process_keeps_its_lease_if_proc_shows_another_namespace(
    opened: Context, client: Client, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_can_see_processes", lambda: False)
    held_by(client, owner_with(pid=str(os.getppid()), started_at="1"), opened)
    require_held(opened, client)
    # An unused process number is certain nevertheless.
    held_by(client, owner_with(pid=ended), opened)
    assert leases.take_lease(opened, client, patience=0).owner


def test_the_lease_of_a_worker_that_died_out_of_sight_expires_within_two_minutes(
    opened: Context, client: Client
) -> None:
    left = owner_with(boot=STRANGERS["another boot"]["boot"])
    assert leases.take_leases(opened, [client.id], left) == {client.id}
    require_held(opened, client)
    assert leases.take_lease(later(opened, timedelta(minutes=2)), client, patience=0).owner


@pytest.mark.parametrize("ahead", [timedelta(minutes=2), timedelta(hours=1), timedelta(days=400)])
def test_a_lease_too_far_in_the_future_lasts_no_longer_than_a_new_one(
    opened: Context, client: Client, ahead: timedelta
) -> None:
    held_by(client, owner_with(boot="elsewhere"), opened, ahead=ahead)
    # Its owner may be sending a mail.
    require_held(opened, client)
    assert leases.take_lease(later(opened, leases.LEASE + timedelta(seconds=1)), client, patience=0).owner


def test_a_lease_too_far_in_the_future_is_shortened_beside_a_normal_one(opened: Context, client: Client) -> None:
    other = records.create_client(opened, fields.parse_fields("jean@example.org"))
    held_by(client, owner_with(boot="elsewhere"), opened, ahead=timedelta(hours=1))
    held_by(other, owner_with(boot="elsewhere"), opened)
    assert leases.take_leases(opened, [client.id, other.id], leases.new_owner()) == set()
    assert leases.take_lease(later(opened, leases.LEASE + timedelta(seconds=1)), client, patience=0).owner


def test_a_mail_under_a_lease_too_far_in_the_future_is_shown_as_in_doubt(opened: Context, client: Client) -> None:
    with opened.database.atomic():
        states.record_credentials(
            [NewCredential(client.id, "hash", "<1@x>")], at=opened.clock(), by="test", expires_at=None
        )
    for ahead, state in {leases.LEASE: CredentialState.SENDING, timedelta(hours=1): CredentialState.IN_DOUBT}.items():
        held_by(client, owner_with(), opened, ahead=ahead)
        assert [one.state for one in history.list_mails(opened, client)] == [state]


def test_releasing_a_lease_that_another_has_taken_over_changes_nothing(opened: Context, client: Client) -> None:
    first = leases.take_lease(opened, client)
    second = leases.take_lease(later(opened, timedelta(days=1)), client, patience=0)
    first.release()
    assert owner(client) == second.owner


def test_renewing_a_lease_that_another_has_taken_over_changes_nothing(opened: Context, client: Client) -> None:
    first = leases.take_lease(opened, client)
    second = leases.take_lease(later(opened, timedelta(days=1)), client, patience=0)
    until = Client.get_by_id(client.id).lease_until
    leases.extend_leases(later(opened, timedelta(days=2)), [client.id], first.owner)
    assert (owner(client), Client.get_by_id(client.id).lease_until) == (second.owner, until)


def test_an_issue_whose_lease_was_taken_over_does_not_replace_the_later_password(
    opened: Context, client: Client
) -> None:
    first = Issue(opened, client, revoke=False)
    first.advance()
    assert first.place == "delivering"
    second = Issue(later(opened, leases.LEASE + timedelta(seconds=1)), client, revoke=False)
    second.advance()
    holder = owner(client)
    first.advance(End.ACCEPT)
    assert isinstance(first.outcome, IssueResult)
    # Its mail may be the only one that arrives: its password signs in until the later one is accepted.
    assert first.outcome.state == "accepted"
    assert owner(client) == holder
    second.advance(End.ACCEPT)
    assert isinstance(second.outcome, IssueResult)
    assert second.outcome.state == "accepted"
    assert [one.state for one in history.list_mails(opened, client)] == ["accepted", "superseded"]
    assert owner(client) is None


def issue(egec: Context, client: Client) -> IssueResult:
    transport = choose.open_transport(egec.settings)
    try:
        return issue_by_mail(egec, client, transport, hashing=start_hash(egec.settings))
    finally:
        transport.close()


def lease_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lease"]


def test_an_issue_keeps_its_lease_while_a_slow_mail_server_answers(
    opened: Context, client: Client, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.6))
    egec = opened._replace(settings=load.load_settings())
    found: list[bool] = []

    def look_after_more_than_a_lease() -> None:
        time.sleep(1.5)
        with egec.database.connection_context():
            found.append(leases.is_being_mailed(egec, client))
            found.append(bool(leases.take_leases(egec, [client.id], leases.new_owner())))

    server.at(Point.KEPT, look_after_more_than_a_lease)
    assert issue(egec, client).state == "accepted"
    assert found == [True, False]
    assert owner(client) is None
    assert lease_threads() == []


def test_a_short_issue_does_not_renew_its_lease(
    opened: Context, client: Client, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals: list[Any] = []
    monkeypatch.setattr(leases, "extend_leases", lambda *arguments: renewals.append(arguments))
    assert issue(opened._replace(settings=load.load_settings()), client).state == "accepted"
    assert (renewals, lease_threads()) == ([], [])


def test_a_failed_renewal_does_not_stop_the_issue(
    opened: Context, client: Client, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.15))
    egec = opened._replace(settings=load.load_settings())
    location = egec.settings.database
    if isinstance(location, SqliteFile):
        assert isinstance(egec.database, peewee.SqliteDatabase)
        egec.database.timeout = 0.05
        path = location.path

        def keep_the_database_busy() -> None:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.6)
                other.execute("ROLLBACK")
    else:

        def keep_the_database_busy() -> None:
            with egec.database.connection_context(), egec.database.atomic():
                Client.select().where(Client.id == client.id).for_update().get()
                time.sleep(0.6)

    server.at(Point.KEPT, keep_the_database_busy)
    assert issue(egec, client).state == "accepted"
    assert owner(client) is None


def test_a_lease_that_is_released_soon_is_waited_for(opened: Context, client: Client) -> None:
    held = leases.take_lease(opened, client)

    def release() -> None:
        with opened.database.connection_context():
            held.release()

    soon = threading.Timer(0.2, release)
    soon.start()
    assert leases.take_lease(opened, client).owner != held.owner
    soon.join()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_the_start_of_a_process_is_in_the_name_of_its_owner() -> None:
    # The system says the same in seconds since the boot, after the 22nd field of proc_pid_stat(5).
    ticks = os.sysconf("SC_CLK_TCK")
    with subprocess.Popen(["sleep", "60"]) as process:
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        started = leases._start_time(process.pid)
        process.kill()
    assert started is not None
    assert int(started) / ticks == pytest.approx(since_boot, abs=5)
