"""Re-issue runs on both databases against a mail server that fails: each client gets one accepted mail, or a reason.

P1 to P4 are the promises of `test_promises`.
"""

import hashlib
import io
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
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
from egec_cli.clients import change, fields
from egec_cli.clients.named import ClientList
from egec_cli.clients.records import ClientStatus, create_client
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import leases, states
from egec_cli.credentials.issue import issue_by_mail, issue_to_operator
from egec_cli.credentials.states import NewCredential
from egec_cli.errors import AlreadyExists, ConfigError, InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.imports import tables
from egec_cli.imports.formats import OnConflict, TableOptions
from egec_cli.imports.rows import FIELD_OF_COLUMN
from egec_cli.imports.run import import_clients
from egec_cli.logins.verify import verify_login
from egec_cli.mail.compose.template import BUILT_IN
from egec_cli.mail.compose.wording import Kind
from egec_cli.mail.transports import choose
from egec_cli.password import Password
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import preview as reissue_preview
from egec_cli.reissue import runs, settle, threads
from egec_cli.reissue import worker as reissue_worker
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.worker import work_on_run
from egec_cli.settings import schema
from egec_cli.settings.schema import PostgresqlServer
from egec_cli.store import database as store
from egec_cli.store.models import Client, Credential, ReissueItem, ReissueRun
from egec_cli.store.models import Event as AuditEvent
from tests import children
from tests.activations import PATIENCE, Letter, letter, letters, once, wait_until
from tests.processes import egec_after, wrap
from tests.reissue_storm import QUICK
from tests.smtp_server import Fault, MailServer, Point

EVERYONE = Selection(everyone=True)
# The README promises that others take over from a dead worker within two minutes.
PROMISED_SECONDS = 120


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long."""
    monkeypatch.setattr(settle, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(settle, "WAIT_FOR_ANOTHER", 0.02)
    monkeypatch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.01)
    monkeypatch.setattr(threads, "LONGEST_WAIT_FOR_SERVER", 0.02)


@pytest.fixture
def egec(server: MailServer, opened: Context) -> Context:
    """Return an open eGEC with five clients and the mail server."""
    for number in range(5):
        create_client(opened, fields.parse_fields(f"c{number}@example.org", last_name="Petit"))
    return opened._replace(settings=schema.load_settings())


def begun(egec: Context, name: str = "spring", selection: Selection = EVERYONE) -> ReissueRun:
    return runs.start_run(egec, name, Selected(egec, selection))


def worked(egec: Context, run: ReissueRun, stop: Event | None = None) -> list[ItemRecord]:
    return list(work_on_run(egec, run, partial(choose.open_transport, egec.settings), stop or Event()))


def outcomes(records: list[ItemRecord]) -> dict[str | None, tuple[str, str | None]]:
    return {record.email: (record.outcome, record.failure) for record in records}


def mailed(server: MailServer) -> Counter[str]:
    return Counter(mail.recipient for mail in server.accepted)


def opens(egec: Context, received: Letter) -> bool:
    return verify_login(egec, received.identifier, received.password).accepted


def numbers(egec: Context, run: ReissueRun) -> tuple[str, int, int, int]:
    shown = runs.load_run(egec, run)
    return shown.state, shown.accepted, shown.failed, shown.remaining


def client(number: int) -> Client:
    found: Client = Client.get(Client.email == f"c{number}@example.org")
    return found


def poll(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Look again and again; tell whether the condition holds before this time has passed."""
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


def test_each_client_gets_one_mail_whose_password_alone_opens(egec: Context, server: MailServer) -> None:
    worked(egec, begun(egec, "first"))
    former = letters(server)
    run = begun(egec)
    records = worked(egec, run)
    assert {record.outcome for record in records} == {"accepted"}
    assert mailed(server) == {f"c{number}@example.org": 2 for number in range(5)}
    assert [opens(egec, letter) for letter in former] == [False] * 5
    assert [opens(egec, letter) for letter in letters(server)[5:]] == [True] * 5
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert Credential.select().where(Credential.run == run).count() == 5
    require_nothing_held()


def test_every_mail_of_a_client_carries_the_same_identifier(egec: Context, server: MailServer) -> None:
    """P4: those of a run and that of a single activation, whatever else changed in between."""
    worked(egec, begun(egec, "first"))
    for one in Client.select():
        change.update_client(egec, one, {"last_name": "Grand", "reference": f"D-{one.id}"})
    worked(egec, begun(egec, "second"))
    issue(egec, client(0))
    sent = Counter((mail.recipient, letter(mail.content).identifier) for mail in server.accepted)
    expected = {(str(one.email), one.identifier): 2 for one in Client.select()}
    assert sent == expected | {("c0@example.org", client(0).identifier): 3}


def test_a_mail_leaves_only_after_its_credential_is_committed(
    egec: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: a transaction that fails takes no mail with it whose password nobody would know."""
    claim, failures = reissue_items.claim_items, iter([TemporaryFailure("database busy", code="database_busy")])

    def fail_once_after_credentials_are_recorded(*of: Any, **more: Any) -> Any:
        if Credential.select().where(Credential.state == "sending").exists() and (failure := next(failures, None)):
            # Long enough for a mail to leave that does not wait for the commit.
            assert not poll(lambda: bool(server.accepted), seconds=0.3)
            raise failure
        return claim(*of, **more)

    monkeypatch.setattr(reissue_items, "claim_items", fail_once_after_credentials_are_recorded)
    worked(egec, begun(egec))
    assert next(failures, None) is None
    received = letters(server)
    assert len(received) == 5
    assert [opens(egec, one) for one in received] == [True] * 5


def test_the_same_run_again_goes_on_with_what_is_there_and_does_nothing_once_done(
    egec: Context, server: MailServer
) -> None:
    run = begun(egec)
    worked(egec, run)
    again = begun(egec)
    assert again == run
    assert worked(egec, again) == []
    assert len(server.accepted) == 5


def test_a_used_name_with_other_selectors_is_refused(egec: Context) -> None:
    begun(egec)
    with pytest.raises(AlreadyExists, match="different selectors: --all") as refused:
        begun(egec, selection=Selection(everyone=True, limit=2))
    assert refused.value.code == "run_exists"
    assert ReissueItem.select().count() == 5


def listed(text: str, column: str = "", *, excluded: str = "") -> Selection:
    """Return a selection by lists, whose files are read but once."""
    without = ClientList("excluded.txt", io.BytesIO(excluded.encode())) if excluded else None
    return Selection(listed=ClientList("list.txt", io.BytesIO(text.encode()), column), excluded=without)


LIST = "c1@example.org\nc2@example.org\n"


def test_a_run_is_recognised_by_its_lists_though_the_database_holds_no_plain_digest_of_them(egec: Context) -> None:
    run = begun(egec, selection=listed(LIST, excluded="c2@example.org"))
    assert begun(egec, selection=listed(LIST, excluded="c2@example.org")) == run
    for other in (
        listed(LIST),
        listed(LIST + "\n", excluded="c2@example.org"),
        listed("email\nc1@example.org\n", "email", excluded="c2@example.org"),
        listed(LIST, excluded="c1@example.org"),
        Selection(everyone=True),
    ):
        with pytest.raises(AlreadyExists) as refused:
            begun(egec, selection=other)
        assert refused.value.code == "run_exists"
    assert refused.value.message.endswith(": --exclude FILE --from FILE")
    # The same list is stored otherwise each time, and slowly enough that guesses are expensive.
    second = begun(egec, "second", listed(LIST, excluded="c2@example.org"))
    for stored, other in zip(*(json.loads(one.selection).values() for one in (run, second)), strict=True):
        assert stored["bcrypt"].startswith("$2b$04$")
        assert stored["bcrypt"] != other["bcrypt"]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (LIST, "c2@example.org")]
    assert not any(digest in one.selection for digest in digests for one in (run, second))


def test_a_run_that_an_older_version_stored_with_a_plain_digest_is_recognised_too(egec: Context) -> None:
    run = begun(egec, selection=listed(LIST))
    former = {"listed": {"sha256": hashlib.sha256(LIST.encode()).hexdigest(), "column": ""}}
    ReissueRun.update(selection=json.dumps(former)).execute()
    assert begun(egec, selection=listed(LIST)) == run
    with pytest.raises(AlreadyExists):
        begun(egec, selection=listed("c1@example.org\n"))


def test_an_unexpected_number_starts_nothing(egec: Context) -> None:
    with pytest.raises(InvalidInput, match="5 clients are selected, not 4"):
        runs.start_run(egec, "spring", Selected(egec, EVERYONE), expect=4)
    assert ReissueRun.select().count() == 0
    assert ReissueItem.select().count() == 0
    assert runs.start_run(egec, "spring", Selected(egec, EVERYONE), expect=5)


def test_a_selection_of_nobody_is_done_at_once(egec: Context, server: MailServer) -> None:
    run = begun(egec, selection=Selection(status=ClientStatus.ACTIVE))
    assert worked(egec, run) == []
    assert numbers(egec, run) == ("done", 0, 0, 0)


def test_a_refused_address_fails_alone_with_the_servers_words_and_keeps_its_password(
    egec: Context, server: MailServer
) -> None:
    worked(egec, begun(egec, "first"))
    former = next(letter for letter in letters(server) if letter.identifier == client(2).identifier)
    server.fail_always(Fault.RCPT_550, recipient="c2@example.org")
    run = begun(egec)
    records = worked(egec, run)
    assert numbers(egec, run) == ("done", 4, 1, 0)
    (failed,) = [record for record in records if record.outcome == "failed"]
    assert failed[1:] == ("c2@example.org", None, "failed", "mail_refused", "550 No such recipient", 1)
    assert list(reissue_items.list_failures(run)) == [failed]
    assert opens(egec, former)
    require_nothing_held()


def test_a_mail_that_is_refused_for_now_is_tried_again(egec: Context, server: MailServer) -> None:
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    run = begun(egec)
    records = worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert sorted(record.attempts for record in records) in ([1, 1, 1, 2, 2], [1, 1, 1, 1, 3])
    assert sorted(reissue_items.records(run)) == sorted(records)
    assert set(mailed(server).values()) == {1}


def test_a_mail_that_is_refused_for_now_again_and_again_fails_and_stops_nobody_else(
    egec: Context, server: MailServer
) -> None:
    server.fail_always(Fault.RCPT_451, recipient="c0@example.org")
    run = begun(egec)
    records = worked(egec, run)
    assert numbers(egec, run) == ("done", 4, 1, 0)
    assert outcomes(records)["c0@example.org"] == ("failed", "mail_deferred")
    assert Credential.select().where(Credential.client == client(0)).count() == settle.MOST_ATTEMPTS


def test_a_mail_whose_answer_was_lost_is_sent_again_and_the_last_one_opens(egec: Context, server: MailServer) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    run = begun(egec)
    worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert sorted(mailed(server).values()) == [1, 1, 1, 1, 2]
    last = {letter.identifier: letter for letter in letters(server)}
    assert [opens(egec, letter) for letter in last.values()] == [True] * 5


def test_a_login_that_proves_a_lost_answer_spares_the_client_a_second_mail(
    egec: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "FIRST_WAIT", 2.0)
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    run = begun(egec)

    def log_in_once_it_is_in_doubt() -> None:
        with egec.database.connection_context():
            in_doubt = Credential.select().where(Credential.state == "in_doubt")
            wait_until(in_doubt.exists)
            message_id = in_doubt.get().message_id
            received = next(letter for letter in letters(server) if letter.message_id == message_id)
            assert opens(egec, received)

    guest = threading.Thread(target=log_in_once_it_is_in_doubt)
    guest.start()
    records = worked(egec, run)
    guest.join()
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}
    assert [record.attempts for record in records] == [1] * 5
    assert sorted(reissue_items.records(run)) == sorted(records)


def test_who_may_get_no_mail_fails_without_one(egec: Context, server: MailServer) -> None:
    run = begun(egec)
    Client.update(disabled_at=egec.clock()).where(Client.id == client(0).id).execute()
    Client.update(email=None, email_key=None).where(Client.id == client(1).id).execute()
    records = worked(egec, run)
    assert {record.failure for record in records} == {None, "client_disabled", "client_erased"}
    assert numbers(egec, run) == ("done", 3, 2, 0)
    assert len(server.accepted) == 3
    require_nothing_held()


def test_a_client_with_too_many_mails_in_doubt_fails_and_no_open_one_is_evicted(
    egec: Context, server: MailServer
) -> None:
    for _ in range(8):
        server.fail_next(Fault.CUT_AFTER_KEEPING)
        with pytest.raises(TemporaryFailure):
            issue_by_mail(
                egec, client(3), choose.open_transport(egec.settings), hashing=hashing.start_hash(egec.settings)
            )
    run = begun(egec)
    assert outcomes(worked(egec, run))["c3@example.org"] == ("failed", "too_many_open")
    assert Credential.select().where((Credential.client == client(3)) & (Credential.state == "in_doubt")).count() == 8
    require_nothing_held()


def test_a_client_whom_another_is_mailing_waits_for_him(egec: Context, server: MailServer) -> None:
    lease = leases.take_lease(egec, client(1))
    run, records = begun(egec), []
    for record in work_on_run(egec, run, partial(choose.open_transport, egec.settings), Event()):
        records.append(record)
        if len(records) == 4:
            assert "c1@example.org" not in outcomes(records)
            lease.release()
    assert outcomes(records)["c1@example.org"] == ("accepted", None)
    assert records[-1].attempts == 1


def test_a_server_that_is_away_pauses_the_run_and_nothing_is_lost(egec: Context, server: MailServer) -> None:
    server.stop()
    run = begun(egec)
    with pytest.raises(TemporaryFailure) as told:
        worked(egec, run)
    assert told.value.code == "mail_server_away"
    assert "egec reissue resume spring" in told.value.hint
    assert numbers(egec, run) == ("paused", 0, 0, 5)
    require_nothing_held()
    with pytest.raises(TemporaryFailure, match="paused by another worker"):
        worked(egec, run)
    server.start()
    runs.resume_run(egec, run)
    worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}


@pytest.mark.parametrize("fault", [Fault.MAIL_421, Fault.BANNER_421, Fault.CUT_AT_EHLO, Fault.CUT_AT_RCPT])
def test_a_server_that_is_away_for_a_moment_is_waited_for_with_the_mail_in_hand(
    egec: Context, server: MailServer, fault: Fault
) -> None:
    server.fail_next(fault, fault)
    run = begun(egec)
    worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert Credential.select().count() == 5


@pytest.mark.parametrize("fault", [Fault.MAIL_550, Fault.MAIL_530])
def test_a_server_that_refuses_our_own_set_up_pauses_the_run(egec: Context, server: MailServer, fault: Fault) -> None:
    server.fail_always(fault)
    run = begun(egec)
    with pytest.raises(ConfigError, match="refuses the sender"):
        worked(egec, run)
    assert numbers(egec, run) == ("paused", 0, 0, 5)
    require_nothing_held()


def test_a_faulty_template_stops_a_run_before_its_first_mail(egec: Context, server: MailServer, tmp_path: Path) -> None:
    (tmp_path / "reissue.en.txt").write_text("Subject: x\n\n$pasword")
    run = begun(egec)
    with pytest.raises(ConfigError, match=r"reissue\.en\.txt:3: unknown placeholder"):
        worked(egec._replace(settings=egec.settings._replace(templates=tmp_path)), run)
    assert server.connections == 0
    assert numbers(egec, run)[1:] == (0, 0, 5)


def test_who_is_asked_to_stop_settles_what_is_under_way_and_gives_back_the_rest(
    egec: Context, server: MailServer
) -> None:
    for number in range(5, 60):
        create_client(egec, fields.parse_fields(f"c{number}@example.org"))
    stop = Event()
    server.at(Point.KEPT, stop.set)
    run = begun(egec)
    records = worked(egec, run, stop)
    kept = mailed(server)
    assert 1 <= len(records) == len(kept) < 60
    assert {record.email for record in records} == set(kept)
    assert numbers(egec, run) == ("paused", len(kept), 0, 60 - len(kept))
    require_nothing_held()
    worked(egec, run)
    assert numbers(egec, run) == ("done", 60, 0, 0)
    assert set(mailed(server).values()) == {1}


def test_who_reads_no_further_ends_the_work_in_good_order(egec: Context, server: MailServer) -> None:
    run = begun(egec)
    reader = work_on_run(egec, run, partial(choose.open_transport, egec.settings), Event())
    next(reader)
    reader.close()
    require_nothing_held()
    assert numbers(egec, run)[1] == len(server.accepted)


def test_a_reader_that_takes_its_time_does_not_cost_the_leases_of_what_is_with_the_server(
    egec: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reissue_worker, "HEARTBEAT", 0.05)
    read_on, mails = Event(), iter(range(5))

    def hold_up_all_but_the_first() -> None:
        if next(mails):
            assert read_on.wait(PATIENCE)

    server.at(Point.KEPT, hold_up_all_but_the_first)
    run = begun(egec)
    outcomes = work_on_run(egec, run, partial(choose.open_transport, egec.settings), Event())
    next(outcomes)
    # The caller reads nothing more for a while, as in `| less`.
    held = ReissueItem.select().where(ReissueItem.lease_owner.is_null(False))
    leased = Client.select().where(Client.lease_owner.is_null(False))
    before = [{one.id: one.lease_until for one in rows.clone()} for rows in (held, leased)]
    heard_of = ReissueRun.get_by_id(run.id).worked_until
    assert all(before)

    def are_renewed() -> bool:
        after = [{one.id: one.lease_until for one in rows.clone()} for rows in (held, leased)]
        return all(now[key] > until for then, now in zip(before, after, strict=True) for key, until in then.items())

    wait_until(are_renewed)
    wait_until(lambda: ReissueRun.get_by_id(run.id).worked_until > heard_of)
    read_on.set()
    assert len(list(outcomes)) == 4
    require_nothing_held()


def test_a_run_that_is_cancelled_meanwhile_ends_and_the_others_keep_their_passwords(
    egec: Context, server: MailServer
) -> None:
    for number in range(5, 60):
        create_client(egec, fields.parse_fields(f"c{number}@example.org"))
    server.at(Point.KEPT, lambda: time.sleep(0.02))
    run = begun(egec)
    reader = work_on_run(egec, run, partial(choose.open_transport, egec.settings), Event())
    next(reader)
    runs.cancel_run(egec, run)
    with pytest.raises(PermissionDenied, match="was cancelled"):
        list(reader)
    state, accepted, failed, remaining = numbers(egec, run)
    assert (state, accepted, failed) == ("cancelled", len(server.accepted), 0)
    assert remaining == 60 - accepted > 0
    require_nothing_held()
    for again in (runs.resume_run, runs.retry_run):
        with pytest.raises(PermissionDenied, match="was cancelled"):
            again(egec, run)
    runs.cancel_run(egec, run)


def test_a_run_that_is_done_cannot_be_cancelled(egec: Context) -> None:
    run = begun(egec)
    worked(egec, run)
    with pytest.raises(PermissionDenied, match="is done"):
        runs.cancel_run(egec, run)


def test_a_retry_mails_those_who_failed_and_nobody_else(egec: Context, server: MailServer) -> None:
    server.fail_always(Fault.RCPT_550, recipient="c2@example.org")
    run = begun(egec)
    worked(egec, run)
    server.work_again()
    assert runs.load_run(egec, run).finished_at is not None
    assert runs.retry_run(egec, run) == 1
    assert runs.load_run(egec, run).finished_at is None
    assert outcomes(worked(egec, run)) == {"c2@example.org": ("accepted", None)}
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert runs.retry_run(egec, run) == 0
    assert numbers(egec, run)[0] == "done"


def claimed_by(owner: str, egec: Context, run: ReissueRun) -> None:
    """Leave all items as a worker leaves them that has claimed them and died."""
    until = egec.clock() + timedelta(minutes=5)
    with egec.database.atomic():
        assert len(reissue_items.claim_items(run, owner, 10, at=egec.clock(), until=until)) == 5


def test_what_a_dead_process_of_this_host_had_claimed_comes_back_at_once(egec: Context, server: MailServer) -> None:
    run = begun(egec)
    *place, _, digits = leases.new_owner().split("/")
    claimed_by("/".join([*place, "1", digits]), egec, run)
    worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)


def test_once_the_mail_of_a_dead_worker_is_settled_as_accepted_no_earlier_password_signs_in(
    egec: Context, server: MailServer
) -> None:
    """P2: also where the answer to an earlier mail of the same run had been lost."""
    run, one = begun(egec), client(0)
    *place, _, digits = leases.new_owner().split("/")
    dead = "/".join([*place, "1", digits])
    passwords = [hashing.start_hash(egec.settings) for _ in range(2)]
    for number, made in enumerate(passwords):
        with egec.database.atomic():
            new = NewCredential(one.id, made.result(), f"<{number}@example.org>")
            states.record_credentials([new], at=egec.clock(), by="test", unused_days=30, run=run)
    with egec.database.atomic():
        claimed = reissue_items.claim_items(run, dead, 5, at=egec.clock(), until=egec.clock() + leases.LEASE)
        # It was killed when it had the answer to the second mail.
        reissue_items.mark_sent(egec.database, [item.key for item in claimed if item.client == one.id], dead)
    worked(egec, run)
    assert mailed(server)[str(one.email)] == 0
    rows = Credential.select().where(Credential.client == one).order_by(Credential.sequence)
    assert [row.state for row in rows] == ["superseded", "accepted"]
    signs_in = [verify_login(egec, one.identifier, made.password.reveal()).accepted for made in passwords]
    assert signs_in == [False, True]


def test_what_a_worker_of_another_host_holds_is_left_to_it_until_its_lease_ends(
    egec: Context, server: MailServer
) -> None:
    run = begun(egec)
    claimed_by("elsewhere/1/1/x", egec, run)
    stop = Event()
    threading.Timer(1.0, stop.set).start()
    assert worked(egec, run, stop) == []
    later = egec.clock() + timedelta(minutes=6)
    began = time.monotonic()
    tomorrow = egec._replace(clock=lambda: later + timedelta(seconds=time.monotonic() - began))
    assert len(worked(tomorrow, run)) == 5


def test_a_worker_out_of_sight_that_dies_holds_up_nobody_for_longer_than_its_lease(
    egec: Context, server: MailServer
) -> None:
    run = begun(egec)
    owner = "far-away/1/boot/1/1/x"
    keys = [one.id for one in Client.select()]
    with egec.database.atomic():
        reissue_items.claim_items(run, owner, 5, at=egec.clock(), until=egec.clock() + leases.LEASE)
        # Their mails are under way when it dies.
        assert leases.take_leases(egec, keys, owner) == set(keys)
    assert leases.LEASE.total_seconds() + reissue_worker.HEARTBEAT <= PROMISED_SECONDS
    began, later = time.monotonic(), egec.clock() + leases.LEASE
    then = egec._replace(clock=lambda: later + timedelta(seconds=time.monotonic() - began))
    assert len(worked(then, run)) == 5
    assert set(mailed(server).values()) == {1}


class SteppingClock:
    """The system's clock, which somebody sets back in the middle of the work."""

    def __init__(self) -> None:
        self.step = timedelta()

    def __call__(self) -> datetime:
        return clock.now() - self.step

    def set_back(self, step: timedelta) -> None:
        self.step = step


def test_a_worker_keeps_the_lease_of_a_client_whose_mail_is_with_a_slow_server(
    egec: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reissue_worker, "HEARTBEAT", 0.05)
    stepping = SteppingClock()
    egec = egec._replace(clock=stepping)
    held = Client.select().where(Client.lease_owner.is_null(False))
    taken: list[set[int]] = []

    def is_renewed() -> bool:
        return not held.clone().where(Client.lease_until < egec.clock() + leases.LEASE / 2).exists()

    def try_to_take_the_lease_after_more_than_its_length() -> None:
        with egec.database.connection_context():
            keys = [one.id for one in held.clone()]
            for _ in range(2):
                stepping.set_back(stepping.step - leases.LEASE * 0.7)
                poll(is_renewed, seconds=3)
            taken.append(leases.take_leases(egec, keys, leases.new_owner()))

    server.at(Point.KEPT, once(try_to_take_the_lease_after_more_than_its_length))
    run = begun(egec, selection=Selection(everyone=True, limit=1))
    assert len(worked(egec, run)) == 1
    assert taken == [set()]
    require_nothing_held()


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(minutes=2)], ids=["an hour", "two minutes"])
def test_a_clock_that_is_set_back_during_a_run_holds_up_no_mail(
    egec: Context, server: MailServer, step: timedelta
) -> None:
    stepping = SteppingClock()
    egec = egec._replace(clock=stepping)
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    server.at(Point.KEPT, once(lambda: stepping.set_back(step)))
    run = runs.start_run(egec, "spring", Selected(egec, EVERYONE), rate=20)
    stop = Event()
    # A run that stands still fails, rather than wait for the clock to catch up.
    timer = threading.Timer(PATIENCE / 2, stop.set)
    timer.start()
    worked(egec, run, stop)
    timer.cancel()
    assert numbers(egec, run) == ("done", 5, 0, 0)
    assert set(mailed(server).values()) == {1}
    require_nothing_held()


def test_a_run_that_was_started_before_the_clock_was_set_back_begins_at_once(egec: Context, server: MailServer) -> None:
    run = begun(egec)
    stepping = SteppingClock()
    stepping.set_back(timedelta(hours=1))
    stop = Event()
    timer = threading.Timer(PATIENCE / 2, stop.set)
    timer.start()
    assert len(worked(egec._replace(clock=stepping), run, stop)) == 5
    timer.cancel()


def test_on_postgresql_the_clock_of_the_server_counts(opened: Context) -> None:
    if not isinstance(opened.settings.database, PostgresqlServer):
        pytest.skip("an SQLite database has no clock of its own")
    assert isinstance(opened.clock, clock.ServerClock)
    assert abs(opened.clock() - store.server_clock(opened.database)) < timedelta(seconds=1)


def of_another_time(by: timedelta) -> list[str]:
    """Return the command of a worker on a machine whose clock is wrong."""
    return egec_after(*QUICK, wrap(clock, "now", partial(children.shift_time, by)))


def test_workers_whose_machines_disagree_about_the_time_neither_mail_twice_nor_wait(
    egec: Context, server: MailServer
) -> None:
    if not isinstance(egec.settings.database, PostgresqlServer):
        pytest.skip("one machine has one clock")
    for number in range(5, 40):
        create_client(egec, fields.parse_fields(f"c{number}@example.org"))
    server.fail_next(Fault.RCPT_451, Fault.MESSAGE_451)
    server.at(Point.KEPT, lambda: time.sleep(0.1))
    command = ["reissue", "start", "spring", "--all", "--yes", "--rate", "50", "--format", "jsonl"]
    workers = [
        subprocess.Popen(
            [*of_another_time(timedelta(hours=hours)), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for hours in (0, 1, -1)
    ]
    said = [worker.communicate(timeout=PATIENCE)[1] for worker in workers]
    assert said == [b""] * 3
    assert (len(mailed(server)), set(mailed(server).values())) == (40, {1})
    found = store.fetch_tuples(Credential.select(Credential.created_at, Credential.settled_at))
    now = store.server_clock(egec.database)
    assert all(now - timedelta(seconds=PATIENCE) < moment <= now for times in found for moment in times)


def test_who_is_asked_to_stop_lets_no_mail_leave_that_waits_for_its_moment(egec: Context, server: MailServer) -> None:
    run = runs.start_run(egec, "slow", Selected(egec, EVERYONE), rate=2)
    stop = Event()
    # The next one leaves half a second later.
    server.at(Point.KEPT, stop.set)
    assert len(worked(egec, run, stop)) == 1
    assert len(server.accepted) == 1
    assert numbers(egec, run) == ("paused", 1, 0, 4)
    require_nothing_held()


def test_a_mail_that_was_never_begun_changes_nothing_for_its_client(egec: Context, server: MailServer) -> None:
    """P3: its credential is refused, and takes none of the places of deliveries in doubt."""
    run = runs.start_run(egec, "slow", Selected(egec, EVERYONE), rate=2)
    stop = Event()
    # Two credentials are recorded; the second mail would leave half a second later.
    server.at(Point.KEPT, stop.set)
    worked(egec, run, stop)
    found = sorted(store.fetch_tuples(Credential.select(Credential.state, Credential.failure)))
    assert found == [("accepted", None), ("refused", "not_sent")]


def test_mails_keep_to_the_rate(egec: Context, server: MailServer) -> None:
    run = runs.start_run(egec, "slow", Selected(egec, EVERYONE), rate=5)
    arrivals: list[datetime] = []
    server.at(Point.KEPT, lambda: arrivals.append(egec.clock()))
    began = time.monotonic()
    worked(egec, run)
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


def test_a_run_whose_workers_are_gone_is_shown_as_paused(egec: Context) -> None:
    run = begun(egec)
    assert numbers(egec, run)[0] == "paused"
    runs.mark_alive(egec, run)
    assert numbers(egec, run)[0] == "running"
    until = ReissueRun.get().worked_until
    for moment in (until + timedelta(seconds=1), until - timedelta(hours=1)):
        assert numbers(egec._replace(clock=partial(lambda at: at, moment)), run)[0] == "paused"


def test_what_a_run_has_done_is_on_record(egec: Context, server: MailServer) -> None:
    run = begun(egec)
    worked(egec, run)
    events = list(AuditEvent.select().where(AuditEvent.run == run).order_by(AuditEvent.id))
    assert [event.action for event in events] == ["reissue.start", *["credential.issue"] * 5, "reissue.finish"]
    assert {event.client and event.client.id for event in events} == {None, *(one.id for one in Client.select())}
    assert json.loads(events[1].details) == {"sequence": 1}
    assert {event.outcome for event in events} == {"recorded", "accepted", "done"}


def test_a_database_that_is_away_for_a_moment_does_not_end_a_run(
    egec: Context, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(egec)
    location = egec.settings.database
    if isinstance(location, PostgresqlServer):
        backend = store.fetch_tuples(Client.raw("SELECT pg_backend_pid()"))
        number = next(backend)[0]

        def take_away() -> None:
            with psycopg.connect(location.url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [number])
    else:
        monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.05)
        egec.database.connection().execute("PRAGMA busy_timeout = 50")  # type: ignore[no-untyped-call]
        path = location.path

        def take_away() -> None:
            import sqlite3

            with sqlite3.connect(path, isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.5)
                other.execute("ROLLBACK")
            other.close()

    server.at(Point.KEPT, once(take_away))
    worked(egec, run)
    assert numbers(egec, run) == ("done", 5, 0, 0)
    require_nothing_held()


def refused(egec: Context, server: MailServer, one: Client, *, revoke: bool = False) -> None:
    server.fail_next(Fault.RCPT_550)
    with pytest.raises(InvalidInput):
        issue(egec, one, revoke=revoke)


def in_doubt(egec: Context, server: MailServer, one: Client) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    with pytest.raises(TemporaryFailure):
        issue(egec, one)


def issue(egec: Context, one: Client, *, revoke: bool = False) -> None:
    way = choose.open_transport(egec.settings)
    try:
        issue_by_mail(egec, one, way, hashing=hashing.start_hash(egec.settings), revoke=revoke)
    finally:
        way.close()


def accepted(egec: Context, _server: MailServer, one: Client) -> None:
    issue(egec, one)


def accepted_then_refused(egec: Context, server: MailServer, one: Client) -> None:
    issue(egec, one)
    refused(egec, server, one)


def accepted_then_superseded(egec: Context, _server: MailServer, one: Client) -> None:
    issue(egec, one)
    issue(egec, one)


def accepted_then_revoked(egec: Context, server: MailServer, one: Client) -> None:
    issue(egec, one)
    refused(egec, server, one, revoke=True)


def accepted_then_expired(egec: Context, _server: MailServer, one: Client) -> None:
    issue(egec, one)
    Credential.update(expires_at=egec.clock() - timedelta(days=1)).where(Credential.client == one).execute()


def revoked_in_doubt(egec: Context, server: MailServer, one: Client) -> None:
    in_doubt(egec, server, one)
    refused(egec, server, one, revoke=True)


def proved_by_a_login(egec: Context, server: MailServer, one: Client) -> None:
    in_doubt(egec, server, one)
    assert opens(egec, letter(server.accepted[-1].content))


def shown_to_the_operator(egec: Context, _server: MailServer, one: Client) -> None:
    issue_to_operator(egec, one, lambda _shown: None, hashing=hashing.start_hash(egec.settings))


def imported(egec: Context, _server: MailServer, one: Client) -> None:
    password_hash = hashing.hash_password(Password("fG69a*6jH"), 4)
    rows = f"email,password_hash\n{one.email},{password_hash}\n".encode()
    table = tables.read_table(io.BytesIO(rows), "clients.csv", FIELD_OF_COLUMN, TableOptions())
    done = import_clients(egec, table, lambda _rejected: None, on_conflict=OnConflict.UPDATE)
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
    proved_by_a_login: Kind.REISSUE,
    shown_to_the_operator: Kind.REISSUE,
    imported: Kind.REISSUE,
}
SUBJECTS = {
    "Votre identifiant et votre mot de passe eGEC": Kind.CREDENTIALS,
    "Votre nouveau mot de passe eGEC": Kind.REISSUE,
}


def kinds(server: MailServer) -> list[tuple[str, Kind]]:
    """Return to whom the server took which mail."""
    return [
        (mail.recipient, SUBJECTS[str(message_from_bytes(mail.content, policy=policy.default)["Subject"])])
        for mail in server.accepted
    ]


def test_only_clients_who_have_had_a_password_are_told_that_the_former_one_ends(
    opened: Context, server: MailServer
) -> None:
    egec = opened._replace(settings=schema.load_settings())
    for history in HISTORIES:
        one = create_client(egec, fields.parse_fields(f"{history.__name__}@example.org", last_name="Petit"))
        history(egec, server, one)
    before = len(server.accepted)
    selected = Selected(egec, EVERYONE)
    planned = {record.email: record.mail for record in reissue_preview.planned(egec, selected)}
    way = choose.open_transport(egec.settings)
    previewed = reissue_preview.preview_run(egec, selected, way, rate=None)
    records = worked(egec, begun(egec))
    assert {record.outcome for record in records} == {"accepted"}
    expected = {f"{history.__name__}@example.org": kind for history, kind in HISTORIES.items()}
    assert dict(kinds(server)[before:]) == expected
    assert len(server.accepted) == before + len(HISTORIES)
    assert planned == expected
    assert previewed.mails == Counter(expected.values())
    assert list(previewed.samples) == [Kind.CREDENTIALS, Kind.REISSUE]


def test_a_first_mail_that_is_sent_again_after_a_lost_answer_is_still_a_first_mail(
    egec: Context, server: MailServer
) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    worked(egec, begun(egec))
    assert Counter(kinds(server)).total() == 6
    assert {kind for _, kind in kinds(server)} == {Kind.CREDENTIALS}


@pytest.mark.parametrize("sentence", ["", "Votre agence passe à eGEC."])
def test_a_first_mail_is_that_of_a_single_activation_but_for_the_sentence_of_the_run(
    egec: Context, server: MailServer, sentence: str
) -> None:
    issue(egec, create_client(egec, fields.parse_fields("alone@example.org", last_name="Petit")))
    run = runs.start_run(egec, "spring", Selected(egec, Selection(status=ClientStatus.NEW, limit=1)), sentence=sentence)
    worked(egec, run)
    alone, of_run = (anonymous(mail.content) for mail in server.accepted)
    paragraph = f"{sentence}\n\n" if sentence else ""
    assert of_run[0] == alone[0].replace("Pour vous connecter à", f"{paragraph}Pour vous connecter à", 1)
    paragraph = f"<p>{sentence}</p>\n" if sentence else ""
    assert of_run[1] == alone[1].replace("<p>Pour vous", f"{paragraph}<p>Pour vous", 1)


def anonymous(content: bytes) -> list[str]:
    """Return the text and the page of a mail without what differs from client to client."""
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
    egec: Context, server: MailServer, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    own = folder / "credentials.fr.txt"
    own.write_text((BUILT_IN / own.name).read_text(encoding="utf-8").replace("$sentence\n\n", ""), encoding="utf-8")
    egec = egec._replace(settings=egec.settings._replace(templates=folder))
    run = runs.start_run(egec, "spring", Selected(egec, EVERYONE), sentence="Votre agence passe à eGEC.")
    with pytest.raises(ConfigError, match=rf"{re.escape(str(own))}:1: the text does not use \$sentence"):
        worked(egec, run)
    assert server.accepted == []
    # The page has the paragraph and the text has none; without a sentence both say the same.
    worked(egec, begun(egec, "other"))
    assert len(server.accepted) == 5
