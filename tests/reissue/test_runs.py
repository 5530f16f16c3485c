"""Runs on both databases with a mail server that fails: each client gets one accepted mail, or a recorded failure.

P1 to P4 are the promises of `test_promises`.
"""

import hashlib
import io
import itertools
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from html import escape
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest

from egec_cli import clock, hashing
from egec_cli.clients import fields, update
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.records import ClientStatus, create_client
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import leases, states
from egec_cli.credentials.issue import issue_by_mail, issue_to_operator
from egec_cli.credentials.states import NewCredential
from egec_cli.errors import AlreadyExists, ConfigError, InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.imports import tables
from egec_cli.imports.columns import FIELD_OF_COLUMN
from egec_cli.imports.formats import OnConflict, TableOptions
from egec_cli.imports.run import import_clients
from egec_cli.logins.verify import verify_login
from egec_cli.mail.compose.template import BUILT_IN, Kind
from egec_cli.mail.transports import choose
from egec_cli.password import Password
from egec_cli.reissue import backoff, items, preview, report, runs, threads, worker
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.worker import work_on_run
from egec_cli.settings import load
from egec_cli.settings.parsing import parse_rate
from egec_cli.settings.types import PostgresqlServer
from egec_cli.store import database as store
from egec_cli.store.models import Client, Credential, MailCount, ReissueItem, ReissueRun
from egec_cli.store.models import Event as AuditEvent
from egec_cli.store.postgresql import server_clock
from egec_cli.store.sql import fetch_tuples
from tests import children
from tests.activations import PATIENCE, Letter, letter, letters, once, wait_until
from tests.processes import egec_after, wrap
from tests.reissue_storm import QUICK
from tests.smtp_server import Fault, MailServer, Point

EVERYONE = Selection(everyone=True)
# The README promises that other workers take over from a dead one within two minutes.
PROMISED_SECONDS = 120


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits."""
    monkeypatch.setattr(backoff, "WAITS", (0.02, 0.02, 0.02))
    monkeypatch.setattr(backoff, "WAIT_FOR_ANOTHER", 0.02)
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.01)
    monkeypatch.setattr(threads, "LONGEST_WAIT_FOR_SERVER", 0.02)


@pytest.fixture
def context(server: MailServer, opened: Context) -> Context:
    """Return a context with five clients and the mail server."""
    for number in range(5):
        create_client(opened, fields.parse_fields(f"c{number}@example.org", last_name="Petit"))
    return opened._replace(settings=load.load_settings())


def start(context: Context, name: str = "spring", selection: Selection = EVERYONE) -> ReissueRun:
    return runs.start_run(context, name, Selected(context, selection))


def work(context: Context, run: ReissueRun, stop: Event | None = None) -> list[ItemRecord]:
    return list(work_on_run(context, run, partial(choose.open_transport, context.settings), stop or Event()))


def outcomes(records: list[ItemRecord]) -> dict[str | None, tuple[str, str | None]]:
    return {record.email: (record.outcome, record.failure) for record in records}


def mailed(server: MailServer) -> Counter[str]:
    return Counter(mail.recipient for mail in server.accepted)


def signs_in(context: Context, received: Letter) -> bool:
    return verify_login(context, received.identifier, received.password).accepted


def summary(context: Context, run: ReissueRun) -> tuple[str, int, int, int]:
    shown = report.load_run(context, run)
    return shown.state, shown.accepted, shown.failed, shown.remaining


def client(number: int) -> Client:
    found: Client = Client.get(Client.email == f"c{number}@example.org")
    return found


def poll(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Return whether the condition becomes true within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def require_nothing_held() -> None:
    assert Client.select().where(Client.lease_owner.is_null(False)).count() == 0
    assert ReissueItem.select().where(ReissueItem.lease_owner.is_null(False)).count() == 0
    assert Credential.select().where(Credential.state == "sending").count() == 0


def test_each_client_gets_one_mail_and_only_its_password_signs_in(context: Context, server: MailServer) -> None:
    work(context, start(context, "first"))
    earlier = letters(server)
    run = start(context)
    records = work(context, run)
    assert {record.outcome for record in records} == {"accepted"}
    assert mailed(server) == {f"c{number}@example.org": 2 for number in range(5)}
    assert [signs_in(context, letter) for letter in earlier] == [False] * 5
    assert [signs_in(context, letter) for letter in letters(server)[5:]] == [True] * 5
    assert summary(context, run) == ("done", 5, 0, 0)
    assert Credential.select().where(Credential.run == run).count() == 5
    require_nothing_held()


def test_every_mail_to_a_client_contains_the_same_identifier(context: Context, server: MailServer) -> None:
    """P4: in runs and in a single activation, even if other fields change in between."""
    work(context, start(context, "first"))
    for one in Client.select():
        update.update_client(context, one, {"last_name": "Grand", "reference": f"D-{one.id}"})
    work(context, start(context, "second"))
    issue(context, client(0))
    sent = Counter((mail.recipient, letter(mail.content).identifier) for mail in server.accepted)
    expected = {(str(one.email), one.identifier): 2 for one in Client.select()}
    assert sent == expected | {("c0@example.org", client(0).identifier): 3}


def test_a_mail_leaves_only_after_its_credential_is_committed(
    context: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: if the transaction fails, no mail has left with a password that was not recorded."""
    claim, failures = items.claim_items, iter([TemporaryFailure("database busy", code="database_busy")])

    def fail_once_after_credentials_are_recorded(*arguments: Any, **named: Any) -> Any:
        if Credential.select().where(Credential.state == "sending").exists() and (failure := next(failures, None)):
            # Long enough for a mail that does not wait for the commit to leave.
            assert not poll(lambda: bool(server.accepted), seconds=0.3)
            raise failure
        return claim(*arguments, **named)

    monkeypatch.setattr(items, "claim_items", fail_once_after_credentials_are_recorded)
    work(context, start(context))
    assert next(failures, None) is None
    received = letters(server)
    assert len(received) == 5
    assert [signs_in(context, one) for one in received] == [True] * 5


def test_the_same_start_again_continues_the_run_and_does_nothing_once_it_is_done(
    context: Context, server: MailServer
) -> None:
    run = start(context)
    work(context, run)
    again = start(context)
    assert again == run
    assert work(context, again) == []
    assert len(server.accepted) == 5


def test_a_used_name_with_different_selectors_is_refused(context: Context) -> None:
    start(context)
    with pytest.raises(AlreadyExists, match="different selectors: --all") as refused:
        start(context, selection=Selection(everyone=True, limit=2))
    assert refused.value.code == "run_exists"
    assert ReissueItem.select().count() == 5


def listed(text: str, column: str = "", *, excluded: str = "") -> Selection:
    """Return a selection by lists, whose files can be read only once."""
    without = ClientList("excluded.txt", io.BytesIO(excluded.encode())) if excluded else None
    return Selection(listed=ClientList("list.txt", io.BytesIO(text.encode()), column), excluded=without)


LIST = "c1@example.org\nc2@example.org\n"


def test_a_run_is_recognised_by_its_lists_without_a_plain_digest_in_the_database(context: Context) -> None:
    run = start(context, selection=listed(LIST, excluded="c2@example.org"))
    assert start(context, selection=listed(LIST, excluded="c2@example.org")) == run
    for other in (
        listed(LIST),
        listed(LIST + "\n", excluded="c2@example.org"),
        listed("email\nc1@example.org\n", "email", excluded="c2@example.org"),
        listed(LIST, excluded="c1@example.org"),
        Selection(everyone=True),
    ):
        with pytest.raises(AlreadyExists) as refused:
            start(context, selection=other)
        assert refused.value.code == "run_exists"
    assert refused.value.message.endswith(": --exclude FILE --from FILE")
    # The same list gets a different hash each time, slow enough to make guesses expensive.
    second = start(context, "second", listed(LIST, excluded="c2@example.org"))
    for stored, other in zip(*(json.loads(one.selection).values() for one in (run, second)), strict=True):
        assert stored["bcrypt"].startswith("$2b$04$")
        assert stored["bcrypt"] != other["bcrypt"]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (LIST, "c2@example.org")]
    assert not any(digest in one.selection for digest in digests for one in (run, second))


def test_a_run_that_an_older_version_stored_with_a_plain_digest_is_recognised(context: Context) -> None:
    run = start(context, selection=listed(LIST))
    earlier = {"listed": {"sha256": hashlib.sha256(LIST.encode()).hexdigest(), "column": ""}}
    ReissueRun.update(selection=json.dumps(earlier)).execute()
    assert start(context, selection=listed(LIST)) == run
    with pytest.raises(AlreadyExists):
        start(context, selection=listed("c1@example.org\n"))


def test_an_unexpected_number_starts_nothing(context: Context) -> None:
    with pytest.raises(InvalidInput, match="5 clients are selected, not 4"):
        runs.start_run(context, "spring", Selected(context, EVERYONE), expect=4)
    assert ReissueRun.select().count() == 0
    assert ReissueItem.select().count() == 0
    assert runs.start_run(context, "spring", Selected(context, EVERYONE), expect=5)


def test_an_empty_selection_is_done_immediately(context: Context, server: MailServer) -> None:
    run = start(context, selection=Selection(status=ClientStatus.ACTIVE))
    assert work(context, run) == []
    assert summary(context, run) == ("done", 0, 0, 0)


def test_a_refused_address_fails_alone_with_the_servers_reply_and_keeps_its_password(
    context: Context, server: MailServer
) -> None:
    work(context, start(context, "first"))
    earlier = next(letter for letter in letters(server) if letter.identifier == client(2).identifier)
    server.fail_always(Fault.RCPT_550, recipient="c2@example.org")
    run = start(context)
    records = work(context, run)
    assert summary(context, run) == ("done", 4, 1, 0)
    (failed,) = [record for record in records if record.outcome == "failed"]
    assert failed[1:] == ("c2@example.org", None, "failed", "mail_refused", "550 No such recipient", 1)
    assert list(items.list_failures(run)) == [failed]
    assert signs_in(context, earlier)
    require_nothing_held()


def test_a_temporarily_refused_mail_is_tried_again(context: Context, server: MailServer) -> None:
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    run = start(context)
    records = work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)
    assert sorted(record.attempts for record in records) in ([1, 1, 1, 2, 2], [1, 1, 1, 1, 3])
    assert sorted(items.list_items(run)) == sorted(records)
    assert set(mailed(server).values()) == {1}


def test_a_mail_that_is_temporarily_refused_each_time_fails_and_stops_no_other(
    context: Context, server: MailServer
) -> None:
    server.fail_always(Fault.RCPT_451, recipient="c0@example.org")
    run = start(context)
    tries = 0

    def count_tries() -> None:
        nonlocal tries
        tries += 1

    server.at(Point.RCPT, count_tries)
    clock_of_day = context.clock
    late = context._replace(clock=lambda: clock_of_day() + timedelta(hours=25 * (tries >= 4 + 3)))
    records = work(late, run)
    assert summary(context, run) == ("done", 4, 1, 0)
    assert outcomes(records)["c0@example.org"] == ("failed", "mail_deferred")
    assert Credential.select().where(Credential.client == client(0)).count() == 3


def test_a_mail_whose_answer_was_lost_is_sent_again_and_the_last_one_signs_in(
    context: Context, server: MailServer
) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    run = start(context)
    work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)
    assert sorted(mailed(server).values()) == [1, 1, 1, 1, 2]
    last = {letter.identifier: letter for letter in letters(server)}
    assert [signs_in(context, letter) for letter in last.values()] == [True] * 5


def test_a_login_that_proves_a_delivery_in_doubt_prevents_a_second_mail(
    context: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (2.0,))
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    run = start(context)

    def log_in_once_it_is_in_doubt() -> None:
        with context.database.connection_context():
            in_doubt = Credential.select().where(Credential.state == "in_doubt")
            wait_until(in_doubt.exists)
            message_id = in_doubt.get().message_id
            received = next(letter for letter in letters(server) if letter.message_id == message_id)
            assert signs_in(context, received)

    guest = threading.Thread(target=log_in_once_it_is_in_doubt)
    guest.start()
    records = work(context, run)
    guest.join()
    assert summary(context, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}
    assert [record.attempts for record in records] == [1] * 5
    assert sorted(items.list_items(run)) == sorted(records)


def test_clients_who_may_not_be_mailed_fail_without_a_mail(context: Context, server: MailServer) -> None:
    run = start(context)
    Client.update(disabled_at=context.clock()).where(Client.id == client(0).id).execute()
    Client.update(email=None, email_key=None).where(Client.id == client(1).id).execute()
    Client.update(valid_until="2020-12-31").where(Client.id == client(2).id).execute()
    records = work(context, run)
    assert {record.failure for record in records} == {None, "client_disabled", "client_erased", "client_inactive"}
    assert summary(context, run) == ("done", 2, 3, 0)
    assert len(server.accepted) == 2
    require_nothing_held()


def test_a_client_with_too_many_deliveries_in_doubt_fails_and_keeps_all_of_them(
    context: Context, server: MailServer
) -> None:
    for _ in range(8):
        server.fail_next(Fault.CUT_AFTER_KEEPING)
        with pytest.raises(TemporaryFailure):
            issue_by_mail(
                context,
                client(3),
                choose.open_transport(context.settings),
                hashing=hashing.start_hash(context.settings),
            )
    run = start(context)
    assert outcomes(work(context, run))["c3@example.org"] == ("failed", "too_many_in_doubt")
    assert Credential.select().where((Credential.client == client(3)) & (Credential.state == "in_doubt")).count() == 8
    require_nothing_held()


def test_a_client_that_another_process_is_mailing_waits(context: Context, server: MailServer) -> None:
    lease = leases.take_lease(context, client(1))
    run, records = start(context), []
    for record in work_on_run(context, run, partial(choose.open_transport, context.settings), Event()):
        records.append(record)
        if len(records) == 4:
            assert "c1@example.org" not in outcomes(records)
            lease.release()
    assert outcomes(records)["c1@example.org"] == ("accepted", None)
    assert records[-1].attempts == 1


def test_an_unavailable_server_pauses_the_run_and_nothing_is_lost(context: Context, server: MailServer) -> None:
    server.stop()
    run = start(context)
    with pytest.raises(TemporaryFailure) as raised:
        work(context, run)
    assert raised.value.code == "mail_server_unavailable"
    assert "egec reissue resume spring" in raised.value.hint
    assert summary(context, run) == ("paused", 0, 0, 5)
    require_nothing_held()
    with pytest.raises(TemporaryFailure, match="paused by another worker"):
        work(context, run)
    server.start()
    runs.resume_run(context, run)
    work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}


@pytest.mark.parametrize("fault", [Fault.MAIL_421, Fault.BANNER_421, Fault.CUT_AT_EHLO])
def test_the_same_mail_is_sent_when_a_server_is_available_again_soon(
    context: Context, server: MailServer, fault: Fault
) -> None:
    server.fail_next(fault, fault)
    run = start(context)
    work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)
    assert Credential.select().count() == 5


@pytest.mark.parametrize("fault", [Fault.MAIL_550, Fault.MAIL_530])
def test_a_server_that_refuses_our_configuration_pauses_the_run(
    context: Context, server: MailServer, fault: Fault
) -> None:
    server.fail_always(fault)
    run = start(context)
    with pytest.raises(ConfigError, match="refuses the sender") as raised:
        work(context, run)
    assert str(raised.value.hint).startswith("Correct EGEC_MAIL_FROM, or the login in EGEC_MAIL_URL. The run is paused")
    assert summary(context, run) == ("paused", 0, 0, 5)
    require_nothing_held()


def test_a_faulty_template_stops_a_run_before_its_first_mail(
    context: Context, server: MailServer, tmp_path: Path
) -> None:
    (tmp_path / "reissue.en.txt").write_text("Subject: x\n\n$pasword")
    run = start(context)
    with pytest.raises(ConfigError, match=r"reissue\.en\.txt:3: unknown placeholder"):
        work(context._replace(settings=context.settings._replace(templates=tmp_path)), run)
    assert server.connections == 0
    assert summary(context, run)[1:] == (0, 0, 5)


def test_a_worker_asked_to_stop_settles_mails_under_way_and_gives_back_the_rest(
    context: Context, server: MailServer
) -> None:
    for number in range(5, 60):
        create_client(context, fields.parse_fields(f"c{number}@example.org"))
    stop = Event()
    server.at(Point.KEPT, stop.set)
    run = start(context)
    records = work(context, run, stop)
    kept = mailed(server)
    assert 1 <= len(records) == len(kept) < 60
    assert {record.email for record in records} == set(kept)
    assert summary(context, run) == ("paused", len(kept), 0, 60 - len(kept))
    require_nothing_held()
    work(context, run)
    assert summary(context, run) == ("done", 60, 0, 0)
    assert set(mailed(server).values()) == {1}


def test_a_reader_that_stops_ends_the_work_in_good_order(context: Context, server: MailServer) -> None:
    run = start(context)
    reader = work_on_run(context, run, partial(choose.open_transport, context.settings), Event())
    next(reader)
    reader.close()
    require_nothing_held()
    assert summary(context, run)[1] == len(server.accepted)


def test_leases_of_mails_under_way_are_renewed_while_the_reader_is_slow(
    context: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT", 0.05)
    read_on, mails = Event(), iter(range(5))

    def hold_up_all_but_the_first() -> None:
        if next(mails):
            assert read_on.wait(PATIENCE)

    server.at(Point.KEPT, hold_up_all_but_the_first)
    run = start(context)
    outcomes = work_on_run(context, run, partial(choose.open_transport, context.settings), Event())
    next(outcomes)
    # The caller reads nothing more for a while, as in `| less`.
    held = ReissueItem.select().where(ReissueItem.lease_owner.is_null(False))
    leased = Client.select().where(Client.lease_owner.is_null(False))
    before = [{one.id: one.lease_until for one in rows.clone()} for rows in (held, leased)]
    heartbeat = ReissueRun.get_by_id(run.id).worked_until
    assert all(before)

    def are_renewed() -> bool:
        after = [{one.id: one.lease_until for one in rows.clone()} for rows in (held, leased)]
        return all(now[key] > until for then, now in zip(before, after, strict=True) for key, until in then.items())

    wait_until(are_renewed)
    wait_until(lambda: ReissueRun.get_by_id(run.id).worked_until > heartbeat)
    read_on.set()
    assert len(list(outcomes)) == 4
    require_nothing_held()


def test_a_run_that_is_cancelled_ends_and_unmailed_clients_keep_their_passwords(
    context: Context, server: MailServer
) -> None:
    for number in range(5, 60):
        create_client(context, fields.parse_fields(f"c{number}@example.org"))
    server.at(Point.KEPT, lambda: time.sleep(0.02))
    run = start(context)
    reader = work_on_run(context, run, partial(choose.open_transport, context.settings), Event())
    next(reader)
    runs.cancel_run(context, run)
    with pytest.raises(PermissionDenied, match="was cancelled"):
        list(reader)
    state, accepted, failed, remaining = summary(context, run)
    assert (state, accepted, failed) == ("cancelled", len(server.accepted), 0)
    assert remaining == 60 - accepted > 0
    require_nothing_held()
    for again in (runs.resume_run, runs.retry_run):
        with pytest.raises(PermissionDenied, match="was cancelled"):
            again(context, run)
    runs.cancel_run(context, run)


def test_a_run_that_is_done_cannot_be_cancelled(context: Context) -> None:
    run = start(context)
    work(context, run)
    with pytest.raises(PermissionDenied, match="is done"):
        runs.cancel_run(context, run)


def test_a_retry_mails_only_failed_clients(context: Context, server: MailServer) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c2@example.org")
    run = start(context)
    work(context, run)
    server.work_again()
    assert report.load_run(context, run).finished_at is not None
    assert runs.retry_run(context, run) == 1
    assert report.load_run(context, run).finished_at is None
    assert outcomes(work(context, run)) == {"c2@example.org": ("accepted", None)}
    assert summary(context, run) == ("done", 5, 0, 0)
    assert runs.retry_run(context, run) == 0
    assert summary(context, run)[0] == "done"


def claimed_by(owner: str, context: Context, run: ReissueRun) -> None:
    """Claim all items, as a worker that then dies."""
    until = context.clock() + timedelta(minutes=5)
    with context.database.atomic():
        assert len(items.claim_items(run, owner, 10, at=context.clock(), until=until)) == 5


def test_items_of_a_dead_process_on_this_host_are_free_immediately(context: Context, server: MailServer) -> None:
    run = start(context)
    *place, _, digits = leases.new_owner().split("/")
    claimed_by("/".join([*place, "1", digits]), context, run)
    work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)


def test_once_the_mail_of_a_dead_worker_is_settled_as_accepted_no_earlier_password_signs_in(
    context: Context, server: MailServer
) -> None:
    """P2: even if the answer to an earlier mail of the same run was lost."""
    run, one = start(context), client(0)
    *place, _, digits = leases.new_owner().split("/")
    dead = "/".join([*place, "1", digits])
    passwords = [hashing.start_hash(context.settings) for _ in range(2)]
    for number, made in enumerate(passwords):
        with context.database.atomic():
            new = NewCredential(one.id, made.result(), f"<{number}@example.org>")
            states.record_credentials(
                [new], at=context.clock(), by="test", expires_at=context.clock() + timedelta(days=30), run=run
            )
    with context.database.atomic():
        claimed = items.claim_items(run, dead, 5, at=context.clock(), until=context.clock() + leases.LEASE)
        # It was killed when it had the answer to the second mail.
        items.mark_sent(context.database, [item.key for item in claimed if item.client == one.id], dead)
    work(context, run)
    assert mailed(server)[str(one.email)] == 0
    rows = Credential.select().where(Credential.client == one).order_by(Credential.sequence)
    assert [row.state for row in rows] == ["superseded", "accepted"]
    signs_in = [verify_login(context, one.identifier, made.password.reveal()).accepted for made in passwords]
    assert signs_in == [False, True]


def test_items_of_a_worker_on_another_host_are_left_to_it_until_its_lease_ends(
    context: Context, server: MailServer
) -> None:
    run = start(context)
    claimed_by("elsewhere/1/1/x", context, run)
    stop = Event()
    threading.Timer(1.0, stop.set).start()
    assert work(context, run, stop) == []
    later = context.clock() + timedelta(minutes=6)
    began = time.monotonic()
    tomorrow = context._replace(clock=lambda: later + timedelta(seconds=time.monotonic() - began))
    assert len(work(tomorrow, run)) == 5


def test_a_remote_worker_that_dies_delays_others_no_longer_than_its_lease(context: Context, server: MailServer) -> None:
    run = start(context)
    owner = "far-away/1/boot/1/1/x"
    keys = [one.id for one in Client.select()]
    with context.database.atomic():
        items.claim_items(run, owner, 5, at=context.clock(), until=context.clock() + leases.LEASE)
        # Their mails are under way when it dies.
        assert leases.take_leases(context, keys, owner) == set(keys)
    assert leases.LEASE.total_seconds() + worker.HEARTBEAT <= PROMISED_SECONDS
    began, later = time.monotonic(), context.clock() + leases.LEASE
    then = context._replace(clock=lambda: later + timedelta(seconds=time.monotonic() - began))
    assert len(work(then, run)) == 5
    assert set(mailed(server).values()) == {1}


class SteppingClock:
    """The system's clock, which can be set back during the work."""

    def __init__(self) -> None:
        self.step = timedelta()

    def __call__(self) -> datetime:
        return clock.now() - self.step

    def set_back(self, step: timedelta) -> None:
        self.step = step


def test_a_worker_keeps_the_lease_of_a_client_whose_mail_is_with_a_slow_server(
    context: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT", 0.05)
    stepping = SteppingClock()
    context = context._replace(clock=stepping)
    held = Client.select().where(Client.lease_owner.is_null(False))
    taken: list[set[int]] = []

    def is_renewed() -> bool:
        return not held.clone().where(Client.lease_until < context.clock() + leases.LEASE / 2).exists()

    def try_to_take_the_lease_after_more_than_its_length() -> None:
        with context.database.connection_context():
            keys = [one.id for one in held.clone()]
            for _ in range(2):
                stepping.set_back(stepping.step - leases.LEASE * 0.7)
                poll(is_renewed, seconds=3)
            taken.append(leases.take_leases(context, keys, leases.new_owner()))

    server.at(Point.KEPT, once(try_to_take_the_lease_after_more_than_its_length))
    run = start(context, selection=Selection(everyone=True, limit=1))
    assert len(work(context, run)) == 1
    assert taken == [set()]
    require_nothing_held()


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(minutes=2)], ids=["an hour", "two minutes"])
def test_a_clock_set_back_during_a_run_delays_no_mail(context: Context, server: MailServer, step: timedelta) -> None:
    stepping = SteppingClock()
    context = context._replace(clock=stepping)
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    server.at(Point.KEPT, once(lambda: stepping.set_back(step)))
    run = runs.start_run(context, "spring", Selected(context, EVERYONE), rate=parse_rate("20/s"))
    stop = Event()
    # A run that waits for the clock to catch up fails.
    timer = threading.Timer(PATIENCE / 2, stop.set)
    timer.start()
    work(context, run, stop)
    timer.cancel()
    assert summary(context, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}
    require_nothing_held()


def test_a_run_recorded_before_the_clock_was_set_back_starts_immediately(context: Context, server: MailServer) -> None:
    run = start(context)
    stepping = SteppingClock()
    stepping.set_back(timedelta(hours=1))
    stop = Event()
    timer = threading.Timer(PATIENCE / 2, stop.set)
    timer.start()
    assert len(work(context._replace(clock=stepping), run, stop)) == 5
    timer.cancel()


def test_on_postgresql_the_clock_of_the_server_is_used(opened: Context) -> None:
    if not isinstance(opened.settings.database, PostgresqlServer):
        pytest.skip("an SQLite database has no clock of its own")
    assert isinstance(opened.clock, clock.ServerClock)
    assert abs(opened.clock() - server_clock(opened.database)) < timedelta(seconds=1)


def command_at_shifted_time(by: timedelta) -> list[str]:
    """Return the command of a worker on a machine whose clock is wrong."""
    return egec_after(*QUICK, wrap(clock, "now", partial(children.shift_time, by)))


def test_workers_with_different_clocks_neither_mail_twice_nor_wait(context: Context, server: MailServer) -> None:
    if not isinstance(context.settings.database, PostgresqlServer):
        pytest.skip("one machine has one clock")
    for number in range(5, 40):
        create_client(context, fields.parse_fields(f"c{number}@example.org"))
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    server.at(Point.KEPT, lambda: time.sleep(0.1))
    command = ["reissue", "start", "spring", "--all", "--yes", "--rate", "50", "--format", "jsonl"]
    workers = [
        subprocess.Popen(
            [*command_at_shifted_time(timedelta(hours=hours)), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for hours in (0, 1, -1)
    ]
    errors = [process.communicate(timeout=PATIENCE)[1] for process in workers]
    assert errors == [b""] * 3
    assert (len(mailed(server)), set(mailed(server).values())) == (40, {1})
    found = fetch_tuples(Credential.select(Credential.created_at, Credential.settled_at))
    now = server_clock(context.database)
    assert all(now - timedelta(seconds=PATIENCE) < moment <= now for times in found for moment in times)


def test_a_worker_asked_to_stop_sends_no_mail_that_waits_for_the_rate_limit(
    context: Context, server: MailServer
) -> None:
    run = runs.start_run(context, "slow", Selected(context, EVERYONE), rate=parse_rate("2/s"))
    stop = Event()
    # The next one leaves half a second later.
    server.at(Point.KEPT, stop.set)
    assert len(work(context, run, stop)) == 1
    assert len(server.accepted) == 1
    assert summary(context, run) == ("paused", 1, 0, 4)
    require_nothing_held()


def test_a_mail_that_was_never_started_changes_nothing_for_its_client(context: Context, server: MailServer) -> None:
    """P3: its credential is refused, and takes none of the places of deliveries in doubt."""
    run = runs.start_run(context, "slow", Selected(context, EVERYONE), rate=parse_rate("2/s"))
    stop = Event()
    # Two credentials are recorded; the second mail would leave half a second later.
    server.at(Point.KEPT, stop.set)
    work(context, run, stop)
    found = sorted(fetch_tuples(Credential.select(Credential.state, Credential.failure)))
    assert found == [("accepted", None), ("refused", "not_sent")]
    require_answered(1)


def require_answered(mails: int) -> None:
    """Require that this number of mails counts for the quotas, each until its answer."""
    assert sum(one.mails for one in MailCount.select() if one.owner is None) == mails
    assert MailCount.select().where(MailCount.owner.is_null(False)).count() == 0


def test_mails_keep_to_the_rate_limit(context: Context, server: MailServer) -> None:
    run = runs.start_run(context, "slow", Selected(context, EVERYONE), rate=parse_rate("5/s"))
    arrivals: list[datetime] = []
    server.at(Point.KEPT, lambda: arrivals.append(context.clock()))
    began = time.monotonic()
    work(context, run)
    assert time.monotonic() - began >= 4 / 5
    recorded_at = min(one.created_at for one in Credential.select())
    earliest = [recorded_at + number * timedelta(seconds=1) / 5 for number in range(5)]
    # Times are in whole milliseconds.
    too_early = [
        (arrival, moment)
        for arrival, moment in zip(sorted(arrivals), earliest, strict=True)
        if arrival < moment - timedelta(milliseconds=2)
    ]
    assert too_early == []
    require_answered(5)


def test_a_run_is_paused_at_the_moment_when_its_last_worker_leaves(context: Context) -> None:
    run, moment = start(context), context.clock()
    frozen = context._replace(clock=lambda: moment)
    runs.mark_alive(frozen, run)
    assert report.load_run(frozen, run).state == "running"
    runs.mark_alive(frozen, run, alive=False)
    assert report.load_run(frozen, run).state == "paused"


def test_a_run_without_workers_is_shown_as_paused(context: Context) -> None:
    run = start(context)
    assert summary(context, run)[0] == "paused"
    runs.mark_alive(context, run)
    assert summary(context, run)[0] == "running"
    until = ReissueRun.get().worked_until
    for moment in (until + timedelta(seconds=1), until - timedelta(hours=1)):
        assert summary(context._replace(clock=partial(lambda at: at, moment)), run)[0] == "paused"


def test_a_run_is_recorded_in_the_audit_log(context: Context, server: MailServer) -> None:
    run = start(context)
    work(context, run)
    events = list(AuditEvent.select().where(AuditEvent.run == run).order_by(AuditEvent.id))
    assert [event.action for event in events] == ["reissue.start", *["credential.issue"] * 5, "reissue.finish"]
    assert {event.client and event.client.id for event in events} == {None, *(one.id for one in Client.select())}
    assert json.loads(events[1].details) == {"sequence": 1}
    assert {event.outcome for event in events} == {"recorded", "accepted", "done"}


def test_a_database_that_is_briefly_unavailable_does_not_end_a_run(
    context: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(context)
    location = context.settings.database
    if isinstance(location, PostgresqlServer):
        backend = fetch_tuples(Client.raw("SELECT pg_backend_pid()"))
        number = next(backend)[0]

        def interrupt_database() -> None:
            with psycopg.connect(location.url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [number])
    else:
        monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.05)
        context.database.connection().execute("PRAGMA busy_timeout = 50")  # type: ignore[no-untyped-call]
        path = location.path

        def interrupt_database() -> None:
            import sqlite3

            with sqlite3.connect(path, isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.5)
                other.execute("ROLLBACK")
            other.close()

    server.at(Point.KEPT, once(interrupt_database))
    work(context, run)
    assert summary(context, run) == ("done", 5, 0, 0)
    require_nothing_held()


def refused(context: Context, server: MailServer, one: Client, *, revoke: bool = False) -> None:
    server.fail_next(Fault.RCPT_550)
    with pytest.raises(InvalidInput):
        issue(context, one, revoke=revoke)


def in_doubt(context: Context, server: MailServer, one: Client) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    with pytest.raises(TemporaryFailure):
        issue(context, one)


def issue(context: Context, one: Client, *, revoke: bool = False) -> None:
    transport = choose.open_transport(context.settings)
    try:
        issue_by_mail(context, one, transport, hashing=hashing.start_hash(context.settings), revoke=revoke)
    finally:
        transport.close()


def accepted(context: Context, _server: MailServer, one: Client) -> None:
    issue(context, one)


def accepted_then_refused(context: Context, server: MailServer, one: Client) -> None:
    issue(context, one)
    refused(context, server, one)


def accepted_then_superseded(context: Context, _server: MailServer, one: Client) -> None:
    issue(context, one)
    issue(context, one)


def accepted_then_revoked(context: Context, server: MailServer, one: Client) -> None:
    issue(context, one)
    refused(context, server, one, revoke=True)


def accepted_then_expired(context: Context, _server: MailServer, one: Client) -> None:
    issue(context, one)
    Credential.update(expires_at=context.clock() - timedelta(days=1)).where(Credential.client == one).execute()


def revoked_in_doubt(context: Context, server: MailServer, one: Client) -> None:
    in_doubt(context, server, one)
    refused(context, server, one, revoke=True)


def proven_by_a_login(context: Context, server: MailServer, one: Client) -> None:
    in_doubt(context, server, one)
    assert signs_in(context, letter(server.accepted[-1].content))


def shown_to_the_operator(context: Context, _server: MailServer, one: Client) -> None:
    issue_to_operator(context, one, lambda _shown: None, hashing=hashing.start_hash(context.settings))


def imported(context: Context, _server: MailServer, one: Client) -> None:
    password_hash = hashing.hash_password(Password("fG69a*6jH"), 4)
    rows = f"email,password_hash\n{one.email},{password_hash}\n".encode()
    table = tables.read_table(io.BytesIO(rows), "clients.csv", FIELD_OF_COLUMN, TableOptions())
    done = import_clients(context, table, lambda _rejected: None, on_conflict=OnConflict.UPDATE)
    assert done.updated == 1


def never_issued(_egec: Context, _server: MailServer, _one: Client) -> None:
    pass


HISTORIES: dict[Callable[[Context, MailServer, Client], None], Kind] = {
    never_issued: Kind.CREDENTIALS,
    refused: Kind.CREDENTIALS,
    in_doubt: Kind.CREDENTIALS,
    revoked_in_doubt: Kind.CREDENTIALS,
    accepted: Kind.REISSUE,
    accepted_then_refused: Kind.REISSUE,
    accepted_then_superseded: Kind.REISSUE,
    accepted_then_revoked: Kind.REISSUE,
    accepted_then_expired: Kind.REISSUE,
    proven_by_a_login: Kind.REISSUE,
    shown_to_the_operator: Kind.REISSUE,
    imported: Kind.REISSUE,
}
SUBJECTS = {
    "Votre identifiant et votre mot de passe eGEC": Kind.CREDENTIALS,
    "Votre nouveau mot de passe eGEC": Kind.REISSUE,
}


def kinds(server: MailServer) -> list[tuple[str, Kind]]:
    """Return the recipient and the kind of each accepted mail."""
    return [
        (mail.recipient, SUBJECTS[str(message_from_bytes(mail.content, policy=policy.default)["Subject"])])
        for mail in server.accepted
    ]


def require_last_day(context: Context, content: bytes) -> str:
    """Return the last day that a mail names, if its password works to the end of that day and not any longer."""
    text = message_from_bytes(content, policy=policy.default).get_body(("plain",))
    assert text is not None
    named = re.search("d\u2019ici au (.*), ce mot", text.get_content())
    assert named is not None
    received = letter(content)
    ends = Credential.select().join(Client).where(Client.identifier == received.identifier).get().expires_at
    last = ends - timedelta(milliseconds=1)
    zone = context.settings.timezone
    assert f"{clock.to_zone(last, zone).day} " in named[1]
    assert clock.to_zone(ends, zone).day != clock.to_zone(last, zone).day
    assert not signs_in(context._replace(clock=lambda: ends), received)
    assert signs_in(context._replace(clock=lambda: last), received)
    return named[1]


@pytest.mark.parametrize("in_bulk", [False, True])
@pytest.mark.parametrize(
    ("zone", "issued_at", "named"),
    [
        ("Europe/Paris", "2026-11-29T08:00:00Z", "29 décembre 2026"),
        # The first day lasts 23 hours; the second case has a day of 25 hours before the last.
        ("Europe/Paris", "2026-03-29T21:59:59Z", "28 avril 2026"),
        ("Europe/Paris", "2026-09-30T22:00:00Z", "31 octobre 2026"),
        # After the last day the clocks go from 23:59:59 to 01:00.
        ("Africa/Cairo", "2026-03-24T08:00:00Z", "23 avril 2026"),
    ],
)
def test_a_password_works_to_the_end_of_the_day_that_its_mail_names(
    context: Context, server: MailServer, zone: str, issued_at: str, named: str, in_bulk: bool
) -> None:
    context = context._replace(
        settings=context.settings._replace(timezone=zone), clock=lambda: clock.parse_time(issued_at)
    )
    if in_bulk:
        work(context, start(context))
    else:
        issue(context, client(0))
    assert require_last_day(context, server.accepted[0].content) == named


def test_a_password_works_to_the_end_of_the_named_day_if_midnight_comes_during_the_issue(
    context: Context, server: MailServer
) -> None:
    midnight = datetime(2026, 11, 29, 23, tzinfo=UTC)
    for before in range(12):
        # The clock advances at each look at it, so that the day ends between any two of them.
        ticks = itertools.count(-before)
        issue(context._replace(clock=lambda: midnight + timedelta(milliseconds=next(ticks))), client(0))  # noqa: B023
        require_last_day(context, server.accepted[-1].content)
        Credential.delete().execute()


def test_only_clients_who_had_a_password_get_the_mail_about_a_new_one(opened: Context, server: MailServer) -> None:
    context = opened._replace(settings=load.load_settings())
    for history in HISTORIES:
        one = create_client(context, fields.parse_fields(f"{history.__name__}@example.org", last_name="Petit"))
        history(context, server, one)
    before = len(server.accepted)
    selected = Selected(context, EVERYONE)
    planned = {record.email: record.mail for record in preview.list_planned_clients(context, selected)}
    transport = choose.open_transport(context.settings)
    previewed = preview.preview_run(context, selected, transport, rate=None)
    records = work(context, start(context))
    assert {record.outcome for record in records} == {"accepted"}
    expected = {f"{history.__name__}@example.org": kind for history, kind in HISTORIES.items()}
    assert dict(kinds(server)[before:]) == expected
    assert len(server.accepted) == before + len(HISTORIES)
    assert planned == expected
    assert previewed.mails == Counter(expected.values())
    most_frequent = max(Kind.CREDENTIALS, Kind.REISSUE, key=previewed.mails.__getitem__)
    assert [subject for subject in SUBJECTS if f"Subject: {subject}\n" in previewed.sample] == [
        subject for subject, kind in SUBJECTS.items() if kind is most_frequent
    ]


def test_a_first_mail_sent_again_after_a_lost_answer_is_still_a_first_mail(
    context: Context, server: MailServer
) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    work(context, start(context))
    assert Counter(kinds(server)).total() == 6
    assert {kind for _, kind in kinds(server)} == {Kind.CREDENTIALS}


@pytest.mark.parametrize("sentence", ["", "Votre agence passe à eGEC."])
def test_a_first_mail_of_a_run_differs_from_a_single_activation_only_in_the_sentence(
    context: Context, server: MailServer, sentence: str
) -> None:
    issue(context, create_client(context, fields.parse_fields("alone@example.org", last_name="Petit")))
    run = runs.start_run(
        context, "spring", Selected(context, Selection(status=ClientStatus.NEW, limit=1)), sentence=sentence
    )
    work(context, run)
    alone, of_run = (anonymous(mail.content) for mail in server.accepted)
    paragraph = f"{sentence}\n\n" if sentence else ""
    assert of_run[0] == alone[0].replace("Pour vous connecter à", f"{paragraph}Pour vous connecter à", 1)
    paragraph = f"<p>{sentence}</p>\n" if sentence else ""
    assert of_run[1] == alone[1].replace("<p>Pour vous", f"{paragraph}<p>Pour vous", 1)


def anonymous(content: bytes) -> list[str]:
    """Return the text and the HTML of a mail without what differs between clients."""
    parsed = message_from_bytes(content, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    read = letter(content)
    parts = []
    for kind in ("plain", "html"):
        part = parsed.get_body((kind,))
        assert part is not None
        text = part.get_content().replace("\r\n", "\n")
        for value in (read.identifier, read.password, escape(read.password)):
            text = text.replace(value, "…")
        parts.append(re.sub(r"\d\d:\d\d:\d\d", "…", text))
    return parts


def test_own_first_mail_templates_without_a_sentence_stop_only_a_run_that_has_one(
    context: Context, server: MailServer, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    own = folder / "credentials.fr.txt"
    own.write_text((BUILT_IN / own.name).read_text(encoding="utf-8").replace("$sentence\n\n", ""), encoding="utf-8")
    context = context._replace(settings=context.settings._replace(templates=folder))
    run = runs.start_run(context, "spring", Selected(context, EVERYONE), sentence="Votre agence passe à eGEC.")
    with pytest.raises(ConfigError, match=rf"{re.escape(str(own))}:1: the text does not use \$sentence"):
        work(context, run)
    assert server.accepted == []
    # Without a sentence, the HTML, which has the paragraph, and the text, which has none, say the same.
    work(context, start(context, "other"))
    assert len(server.accepted) == 5
