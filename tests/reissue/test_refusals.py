"""Runs at a mail server that limits, blocks and defers: what is counted, who fails, and when a worker ends."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from threading import Event, Timer
from typing import Any

import pytest

from egec_cli import clock
from egec_cli.clients import fields
from egec_cli.clients.records import create_client
from egec_cli.clients.select import Selected
from egec_cli.commands import reissue_texts
from egec_cli.context import Context
from egec_cli.errors import TemporaryFailure
from egec_cli.mail.transports import choose
from egec_cli.reissue import backoff, messages, report, runs, threads, worker
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.worker import work_on_run
from egec_cli.settings import load
from egec_cli.settings.parsing import parse_rate
from egec_cli.store.models import Client, Credential, ItemState, ReissueItem, ReissueRun
from egec_cli.store.models import Event as AuditEvent
from egec_cli.store.sql import fetch_tuples
from egec_cli.translation import Words
from tests.activations import PATIENCE
from tests.conftest import Egec
from tests.provider_server import OVER_QUOTA, Block, ConnectionLimit, MailLimit, ProviderServer, Rule, Visit
from tests.reissue.test_runs import EVERYONE, SteppingClock, issue, mailed, require_nothing_held, start, summary
from tests.smtp_server import Fault, Point

POLICY = "550 5.7.1 Rejected by the policy of this organisation"
FEW = 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits."""
    monkeypatch.setattr(backoff, "WAITS", (0.02, 0.02, 0.02))
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(threads, "FIRST_WAIT_FOR_SERVER", 0.01)


class RefusesSome(Rule):
    """Refuse some recipients with the same answer."""

    def __init__(self, answer: str, *clients: int) -> None:
        self.text = answer
        self.recipients = {f"c{number}@example.org" for number in clients}

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        return self.text if point is Point.RCPT and visit.attempt.recipient in self.recipients else None


Open = Callable[..., tuple[Context, ProviderServer]]


@pytest.fixture
def at_provider(opened: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return a function that starts a provider with rules and creates clients."""
    with ExitStack() as stack:

        def open_provider(*rules: Rule, clients: int = FEW, **changes: Any) -> tuple[Context, ProviderServer]:
            server = stack.enter_context(ProviderServer(*rules))
            monkeypatch.setenv("EGEC_MAIL_URL", server.url)
            with opened.database.atomic():
                for number in range(clients):
                    create_client(opened, fields.parse_fields(f"c{number}@example.org"))
            return opened._replace(settings=load.load_settings()._replace(**changes)), server

        yield open_provider


def work(
    context: Context,
    run: ReissueRun,
    *,
    stop: Event | None = None,
    patience: timedelta = worker.PATIENCE,
    tell: Callable[[Words], None] = lambda _words: None,
) -> list[ItemRecord]:
    transport = partial(choose.open_transport, context.settings)
    return list(work_on_run(context, run, transport, stop or Event(), patience=patience, tell=tell))


def work_again(context: Context, run: ReissueRun, *, now: bool = False, **options: Any) -> list[ItemRecord]:
    runs.resume_run(context, run, now=now)
    return work(context, run, **options)


def require_pause(context: Context, run: ReissueRun, **options: Any) -> TemporaryFailure:
    with pytest.raises(TemporaryFailure) as paused:
        work_again(context, run, **options)
    assert summary(context, run)[0] == "paused"
    require_nothing_held()
    return paused.value


def items_by_email() -> dict[str, ReissueItem]:
    return {str(one.client.email): one for one in ReissueItem.select(ReissueItem, Client).join(Client)}


def attempts() -> list[int]:
    return [one.attempts for one in ReissueItem.select().order_by(ReissueItem.id)]


class Stopping:
    """Asks a worker to stop shortly after it has told something, and keeps what it told."""

    def __init__(self) -> None:
        self.event = Event()
        self.told: list[str] = []
        self.asked_at = 0.0

    def tell(self, words: Words) -> None:
        self.told.append(str(words))
        Timer(0.3, self._ask).start()

    def _ask(self) -> None:
        self.asked_at = time.monotonic()
        self.event.set()

    def require_quick_end(self) -> None:
        assert self.event.is_set()
        assert time.monotonic() - self.asked_at < PATIENCE / 4


# Who is mailed.


@pytest.mark.parametrize("with_retry", [False, True])
def test_clients_who_got_a_password_after_the_start_are_not_mailed_again(at_provider: Open, with_retry: bool) -> None:
    refuses = RefusesSome("550 5.1.1 User unknown", 0, 1)
    context, server = at_provider(refuses)
    run = start(context)
    if with_retry:
        work(context, run)
        assert summary(context, run) == ("done", FEW - 2, 2, 0)
    refuses.recipients.clear()
    # One is activated, the other one gets the mail of another run.
    issue(context, Client.get(Client.email == "c0@example.org"))
    work(context, start(context, "other"))
    before = mailed(server)
    if with_retry:
        assert runs.retry_run(context, run) == 2
    found = {record.email: record.outcome for record in work_again(context, run)}
    assert mailed(server) == before
    assert {found["c0@example.org"], found["c1@example.org"]} == {"skipped"}
    shown = report.load_run(context, run)
    assert (shown.state, shown.failed, shown.remaining) == ("done", 0, 0)
    assert shown.skipped + shown.accepted == FEW


def test_starting_again_and_again_mails_nobody_twice(at_provider: Open) -> None:
    limit = MailLimit((3, 86_400))
    context, server = at_provider(limit, clients=12)
    run = start(context)
    for allowed in (3, 9, 15, 21, 1000):
        limit.limits = ((allowed, 86_400),)
        assert start(context) == run
        if allowed < 1000:
            require_pause(context, run)
        else:
            work_again(context, run)
    assert summary(context, run) == ("done", 12, 0, 0)
    assert set(mailed(server).values()) == {1}
    for _ in range(2):
        assert work_again(context, start(context)) == []
    assert mailed(server).total() == 12


def test_a_retry_says_how_many_clients_it_tries_again(at_provider: Open, egec: Egec) -> None:
    refuses = RefusesSome("550 5.1.1 User unknown", 0, 1)
    _, server = at_provider(refuses)
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 3
    refuses.recipients.clear()
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 3
    assert mailed(server).total() == FEW - 2
    ended = egec("reissue", "retry", "spring")
    assert "egec: clients to try again: 2\n" in ended.err
    assert ended.code == 0
    assert "egec: clients to try again: 0\n" in egec("reissue", "retry", "spring").err
    assert set(mailed(server).values()) == {1}


# Refusals of one and of all.


def test_one_unclear_refusal_among_sixty_fails_only_its_client_and_only_at_the_end(at_provider: Open) -> None:
    context, _ = at_provider(RefusesSome(POLICY, 7), clients=60)
    run = start(context)
    records = work(context, run)
    assert summary(context, run) == ("done", 59, 1, 0)
    failed = [number for number, record in enumerate(records) if record.outcome == "failed"]
    assert [(records[number].email, records[number].failure) for number in failed] == [
        ("c7@example.org", "mail_refused")
    ]
    # Until then, more of the same might have come.
    assert failed[0] >= 50
    assert items_by_email()["c7@example.org"].attempts == 1
    require_nothing_held()


def test_a_refusal_that_is_decided_while_the_worker_stops_is_recorded_as_reported(at_provider: Open) -> None:
    context, server = at_provider(RefusesSome(POLICY, 0), clients=60, mail_connections=1)
    stop = Event()
    server.at(Point.KEPT, lambda: stop.set() if len(server.accepted) >= 50 else None)
    run = start(context)
    reported = Counter(record.outcome for record in work(context, run, stop=stop))
    shown = report.load_run(context, run)
    assert (reported[ItemState.ACCEPTED], reported[ItemState.FAILED]) == (shown.accepted, shown.failed)
    require_nothing_held()


def test_a_block_fails_nobody_and_counts_no_attempt(at_provider: Open) -> None:
    block = Block()
    context, server = at_provider(block, clients=20)
    run = start(context)
    for pauses in (1, 2):
        error = require_pause(context, run)
        assert error.code == "mail_server_refuses"
        assert "554 5.7.1" in error.message
        assert attempts() == [0] * 20
        stored = ReissueRun.get()
        assert (stored.pauses, stored.paused_until is not None) == (pauses, True)
    assert len({one.recipient for one in server.mails_tried}) <= 2 * 8
    block.relent()
    work_again(context, run)
    assert summary(context, run) == ("done", 20, 0, 0)
    assert set(mailed(server).values()) == {1}
    assert (ReissueRun.get().pauses, ReissueRun.get().paused_until) == (0, None)


def test_a_used_up_quota_counts_no_attempt_and_the_run_goes_on_at_its_normal_rate(at_provider: Open) -> None:
    limit = MailLimit((10, 86_400))
    context, _ = at_provider(limit, clients=20)
    run = start(context)
    error = require_pause(context, run)
    assert OVER_QUOTA in error.message
    assert attempts() == [0] * 20
    assert summary(context, run) == ("paused", 10, 0, 10)
    assert ReissueRun.get().throttle is None
    shown = report.load_run(context, run)
    assert (shown.throttled_rate, shown.throttled_by, shown.deferred) == (None, None, 0)
    limit.limits = ()
    told: list[Words] = []
    work_again(context, run, tell=told.append)
    assert told == []
    assert summary(context, run) == ("done", 20, 0, 0)


def test_a_worker_whose_last_mails_are_accepted_after_a_pause_leaves_its_end(at_provider: Open) -> None:
    context, _ = at_provider()
    run = start(context)
    runs.pause_run(context, run, "mail_throttled", waits=True)
    until = ReissueRun.get().paused_until
    runs.forget_pauses(run)
    assert (ReissueRun.get().paused_until, ReissueRun.get().pauses) == (until, 1)
    runs.resume_run(context, run)
    runs.forget_pauses(run)
    assert (ReissueRun.get().paused_until, ReissueRun.get().pauses) == (None, 0)


def test_a_server_that_answers_no_mail_pauses_the_run_and_its_mails_stay_in_doubt(at_provider: Open) -> None:
    context, server = at_provider(clients=20)
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    run = start(context)
    error = require_pause(context, run)
    assert error.code == "in_doubt"
    assert "answers to all last mails were lost" in error.message
    tried = {one.recipient for one in server.mails_tried}
    assert 5 <= len(tried) < 20
    in_doubt = Credential.select().where(Credential.state == "in_doubt").count()
    assert in_doubt == sum(attempts()) == len(server.mails_tried)
    shown = report.load_run(context, run)
    assert (shown.failed, shown.remaining, shown.waits_because) == (0, 20, "in_doubt")
    server.work_again()
    work_again(context, run, now=True)
    assert summary(context, run) == ("done", 20, 0, 0)


@pytest.mark.parametrize("poison", [(0,), (0, 1), (3, 15, 27)], ids=str)
@pytest.mark.parametrize("fault", [Fault.CUT_AT_RCPT, Fault.RCPT_WITHOUT_CODE, Fault.CUT_IN_354, Fault.CUT_IN_MESSAGE])
def test_clients_at_whom_the_server_drops_the_connection_are_deferred_and_all_others_mailed(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch, fault: Fault, poison: tuple[int, ...]
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (60.0,))
    context, server = at_provider(clients=30)
    recipients = {f"c{number}@example.org" for number in poison}
    for one in recipients:
        server.fail_always(fault, recipient=one)
    run = start(context)
    error = require_pause(context, run, patience=timedelta())
    assert error.code == "run_deferred"
    assert summary(context, run) == ("paused", 30 - len(poison), 0, len(poison))
    deferred = {email: item for email, item in items_by_email().items() if item.state == ItemState.WAITING}
    assert deferred.keys() == recipients
    reason = "in_doubt" if fault is Fault.CUT_IN_MESSAGE else "mail_server_unavailable"
    assert {(one.attempts, one.failure) for one in deferred.values()} == {(1, reason)}
    assert all(one.details and one.not_before > context.clock() for one in deferred.values())
    assert set(mailed(server).values()) == {1}
    assert report.load_run(context, run).next_attempt_at is not None


@pytest.mark.parametrize("fault", [Fault.CUT_AT_RCPT, Fault.RCPT_WITHOUT_CODE, Fault.CUT_BEFORE_354, Fault.RCPT_421])
@pytest.mark.parametrize("before", [0, 10])
def test_a_server_that_drops_every_connection_pauses_the_run_and_counts_no_attempt(
    at_provider: Open, fault: Fault, before: int
) -> None:
    context, server = at_provider(clients=40, mail_connections=4)
    has_begun = Event()

    def begin() -> None:
        if len(server.accepted) >= before and not has_begun.is_set():
            has_begun.set()
            server.fail_always(fault)

    begin()
    server.at(Point.KEPT, begin)
    run = start(context)
    for _ in range(2):
        error = require_pause(context, run, now=True)
        assert error.code == "mail_server_unavailable"
        assert "closed the connection" in error.message
    tried = {one.recipient for one in server.mails_tried}
    assert 5 + before <= len(tried) < 30 + before
    assert attempts() == [0] * 40
    shown = report.load_run(context, run)
    assert (shown.failed, shown.waits_because) == (0, "mail_server_unavailable")
    assert before <= shown.accepted < before + 4
    server.work_again()
    work_again(context, run, now=True)
    assert summary(context, run) == ("done", 40, 0, 0)
    assert set(mailed(server).values()) == {1}


@pytest.mark.parametrize("clients", [1, 2, 6])
def test_the_last_clients_fail_in_the_end_if_the_server_drops_the_connection_each_time(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch, clients: int
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (300.0, 7200.0))
    context, server = at_provider(clients=clients, mail_retry_hours=3)
    server.fail_always(Fault.CUT_AT_RCPT)
    run, passed = start(context), timedelta()
    later = context._replace(clock=lambda: context.clock() + passed)
    pauses, records = 0, []
    while summary(later, run)[0] != "done":
        assert pauses < 20
        try:
            records += work_again(later, run, patience=timedelta())
        except TemporaryFailure:
            pauses += 1
        passed += timedelta(hours=2, minutes=30)
    assert summary(later, run) == ("done", 0, clients, 0)
    failed = ReissueItem.select()
    assert {one.failure for one in failed} == {"mail_server_unavailable"}
    assert min(one.attempts for one in failed) >= 2


def test_a_run_whose_quota_is_used_up_says_that_it_waits_for_it_and_until_when(at_provider: Open) -> None:
    context, _ = at_provider(clients=3)
    run = runs.start_run(context, "spring", Selected(context, EVERYONE), rate=parse_rate("2/d"))
    require_pause(context, run)
    found = report.report_run(context, run)
    assert found.run.waits_because == "mail_quota_reached"
    assert found.run.next_attempt_at is not None
    until = clock.parse_time(found.run.next_attempt_at)
    # One of the two is reserved for single mails.
    assert timedelta(hours=23) < until - context.clock() < timedelta(hours=25)
    lines = ["".join(part.text for part in line.parts) for line in reissue_texts.run_lines(found)]
    assert lines[0] == "spring: waiting for the quota of mails; no worker is active"
    assert f"2; next attempt at {clock.to_zoned_text(until)}" in lines


def test_a_run_that_falls_back_to_one_connection_says_so_once(at_provider: Open) -> None:
    context, server = at_provider(ConnectionLimit(1), clients=40)
    server.at(Point.KEPT, lambda: time.sleep(0.02))
    told: list[Words] = []
    run = start(context)
    work(context, run, tell=told.append)
    assert summary(context, run) == ("done", 40, 0, 0)
    [one] = told
    assert str(one).startswith("one connection to the mail server from now on: 421 ")


def test_clients_who_are_refused_before_a_pause_come_after_all_others(at_provider: Open) -> None:
    """Otherwise the run would meet the same five refusals first, and never mail anyone else."""
    context, server = at_provider(RefusesSome(POLICY, *range(5)), clients=20, mail_connections=1, workers=1)
    run = start(context)
    require_pause(context, run)
    require_pause(context, run)
    assert summary(context, run) == ("paused", 15, 0, 5)
    assert attempts() == [0] * 20
    assert set(mailed(server).values()) == {1}


def test_a_run_of_one_client_who_is_refused_for_no_clear_reason_ends(at_provider: Open) -> None:
    context, _ = at_provider(RefusesSome(POLICY, 0), clients=1)
    run = start(context)
    assert [record.failure for record in work(context, run)] == ["mail_refused"]
    assert summary(context, run) == ("done", 0, 1, 0)


def test_a_block_of_the_last_client_pauses_the_run_and_fails_the_client_after_the_longest_wait(
    at_provider: Open,
) -> None:
    context, _ = at_provider(Block(), clients=1)
    run = start(context)
    for _ in backoff.WAITS:
        require_pause(context, run)
        assert attempts() == [0]
    assert [record.outcome for record in work_again(context, run)] == ["failed"]
    assert summary(context, run) == ("done", 0, 1, 0)


def test_a_blocked_client_among_the_last_ones_fails_if_the_server_accepts_mail_afterwards(at_provider: Open) -> None:
    context, _ = at_provider(RefusesSome("554 5.7.1 Blocked by our policy", 0), workers=1, mail_connections=1)
    run = start(context)
    work(context, run)
    assert summary(context, run) == ("done", FEW - 1, 1, 0)


def test_a_run_of_one_client_waits_until_the_server_accepts_mail_again(at_provider: Open) -> None:
    limit = MailLimit((0, 86_400))
    context, server = at_provider(limit, clients=1)
    server.at(Point.RCPT, lambda: setattr(limit, "limits", () if len(server.mails_tried) > 3 else limit.limits))
    run = start(context)
    assert [record.attempts for record in work(context, run)] == [4]
    assert summary(context, run) == ("done", 1, 0, 0)


def test_an_unavailable_server_makes_no_later_pause_longer(at_provider: Open) -> None:
    context, _ = at_provider()
    run = start(context)
    runs.pause_run(context, run, "mail_server_unavailable")
    assert (ReissueRun.get().pauses, ReissueRun.get().paused_until) == (0, None)


# The slower rate.


def test_status_shows_the_slower_rate_and_the_words_of_the_server(at_provider: Open) -> None:
    limit = MailLimit((5, 86_400))
    context, server = at_provider(limit, clients=30, mail_connections=1)
    run = start(context)
    shown: list[report.RunRecord] = []
    told: list[Words] = []

    def tell(words: Words) -> None:
        told.append(words)
        shown.append(report.load_run(context, run))
        limit.limits = ()

    work(context, run, tell=tell)
    assert "per minute from now on: 450 4.7.1 Error: too much mail" in str(told[0])
    assert shown[0].throttled_by == OVER_QUOTA
    assert shown[0].throttled_rate is not None
    assert shown[0].throttled_rate > 0
    assert summary(context, run) == ("done", 30, 0, 0)
    assert len(server.mails_tried) == 31


def test_a_clock_set_back_while_the_server_throttles_delays_no_mail(at_provider: Open) -> None:
    limit = MailLimit((2, 86_400))
    context, _ = at_provider(limit, clients=6)
    stepping = SteppingClock()
    context = context._replace(clock=stepping)

    def set_back(_words: Words) -> None:
        limit.limits = ()
        stepping.set_back(timedelta(hours=3))

    run, stop = start(context), Event()
    timer = Timer(PATIENCE / 2, stop.set)
    timer.start()
    work(context, run, stop=stop, tell=set_back)
    timer.cancel()
    assert summary(context, run) == ("done", 6, 0, 0)


# How long a worker waits.


def test_a_worker_asked_to_stop_while_the_server_throttles_ends_at_once(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT", 60.0)
    context, server = at_provider(MailLimit((2, 86_400)), mail_connections=1)
    run, stopping = start(context), Stopping()
    work(context, run, stop=stopping.event, tell=stopping.tell)
    stopping.require_quick_end()
    assert summary(context, run) == ("paused", 2, 0, 3)
    assert len(server.mails_tried) == 3
    require_nothing_held()


def test_a_worker_asked_to_stop_while_it_waits_for_deferred_mail_ends_at_once(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (60.0,))
    context, _ = at_provider(RefusesSome("450 4.2.0 Greylisted", 0))
    run, stopping = start(context), Stopping()
    work(context, run, stop=stopping.event, tell=stopping.tell)
    stopping.require_quick_end()
    assert summary(context, run) == ("paused", FEW - 1, 0, 1)
    assert [words.rpartition(" until ")[0] for words in stopping.told] == ["waiting"]
    require_nothing_held()


def test_a_worker_asked_to_stop_says_that_it_waits_for_the_answer_to_a_mail(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_UNTOLD_STOP", 0.1)
    context, server = at_provider(clients=1)
    stop, go_on, told = Event(), Event(), list[str]()

    def ask_to_stop() -> None:
        stop.set()
        assert go_on.wait(PATIENCE)

    server.at(Point.KEPT, ask_to_stop)

    def tell(words: Words) -> None:
        told.append(str(words))
        go_on.set()

    run = start(context)
    work(context, run, stop=stop, tell=tell)
    assert told == ["a mail is under way; press Ctrl-C again to end at once"]
    assert summary(context, run) == ("paused", 1, 0, 0)
    require_nothing_held()


def test_a_run_that_waits_beyond_the_patience_ends_with_the_time_and_goes_on_then_or_when_told(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (3600.0,))
    refuses = RefusesSome("450 4.2.0 Greylisted", 0)
    context, server = at_provider(refuses)
    run = start(context)
    for patience in (timedelta(), timedelta(minutes=10)):
        error = require_pause(context, run, patience=patience)
        assert error.code == "run_deferred"
    assert mailed(server).total() == FEW - 1
    shown = report.load_run(context, run)
    assert (shown.deferred, shown.next_attempt_at is not None) == (1, True)
    refuses.recipients.clear()
    work_again(context, run, now=True)
    assert summary(context, run) == ("done", FEW, 0, 0)


def test_a_paused_run_waits_for_its_time_unless_told_to_go_on(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (3600.0,))
    block = Block()
    context, server = at_provider(block, clients=10)
    run = start(context)
    require_pause(context, run)
    block.relent()
    tried = len(server.mails_tried)
    assert require_pause(context, run).code == "run_deferred"
    assert len(server.mails_tried) == tried
    # At its time.
    later = context._replace(clock=lambda: context.clock() + timedelta(seconds=3601))
    runs.resume_run(later, run)
    reader = work_on_run(later, run, partial(choose.open_transport, later.settings), Event())
    next(reader)
    reader.close()
    runs.pause_run(context, run, "mail_blocked", waits=True)
    work_again(context, run, now=True)
    assert summary(context, run) == ("done", 10, 0, 0)
    assert set(mailed(server).values()) == {1}


def test_a_quota_that_opens_long_after_the_patience_ends_the_command_with_the_time(at_provider: Open) -> None:
    context, server = at_provider(clients=3)
    run = runs.start_run(context, "spring", Selected(context, EVERYONE), rate=parse_rate("2/d"))
    began = time.monotonic()
    error = require_pause(context, run)
    assert error.code == "run_deferred"
    assert time.monotonic() - began < PATIENCE / 4
    assert mailed(server).total() == 1


def test_a_worker_without_patience_keeps_to_its_rate(at_provider: Open) -> None:
    # Hashing is quick, so that the mails wait for their moments.
    context, _ = at_provider(clients=3)
    run = runs.start_run(context, "spring", Selected(context, EVERYONE), rate=parse_rate("30/min"))
    told: list[Words] = []
    work(context, run, patience=timedelta(), tell=told.append)
    assert summary(context, run) == ("done", 3, 0, 0)
    assert told == []


# How long a mail is tried.


def test_time_in_which_nobody_works_on_a_run_does_not_count_as_trying(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (300.0,))
    refuses = RefusesSome("450 4.2.0 Greylisted", 0)
    context, _ = at_provider(refuses)
    run = start(context)
    require_pause(context, run, patience=timedelta())
    # A weekend later, the server has forgotten the first attempt, and so asks to wait once more.
    passed = timedelta(hours=60)
    later = context._replace(clock=lambda: context.clock() + passed)
    assert require_pause(later, run, patience=timedelta()).code == "run_deferred"
    assert attempts()[0] == 2
    refuses.recipients.clear()
    passed += timedelta(minutes=7)
    work_again(later, run)
    assert summary(later, run) == ("done", FEW, 0, 0)


def test_a_deferred_mail_fails_after_the_time_for_it_with_the_last_answer(
    at_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "WAITS", (300.0, 7200.0))
    refuses = RefusesSome("450 4.2.0 Greylisted", 0)
    context, _ = at_provider(refuses, mail_retry_hours=3)
    run, passed = start(context), timedelta()
    later = context._replace(clock=lambda: context.clock() + passed)
    answers = iter(["451 4.3.0 Mailbox busy for now", "450 4.2.1 Mailbox is busy", "450 4.2.2 Mailbox full"])
    while summary(later, run)[3]:
        require_pause(later, run, patience=timedelta())
        due = ReissueItem.get(ReissueItem.attempts > 0).not_before
        passed += due - later.clock() + timedelta(seconds=1)
        refuses.text = next(answers, refuses.text)
        if due >= ReissueItem.get(ReissueItem.attempts > 0).tried_since + timedelta(hours=3):
            break
    (failed,) = work_again(later, run)
    assert (failed.outcome, failed.failure, failed.attempts) == ("failed", "mail_deferred", 4)
    assert failed.details == "450 4.2.2 Mailbox full"


def test_attempts_before_a_pause_do_not_shorten_the_time_for_which_a_mail_is_tried(at_provider: Open) -> None:
    limit = MailLimit((0, 86_400))
    context, server = at_provider(limit, clients=10, mail_retry_hours=1)
    run = start(context)
    require_pause(context, run)
    assert ReissueItem.select().where(ReissueItem.tried_since.is_null(False)).exists()
    later = context._replace(clock=lambda: context.clock() + timedelta(hours=30))
    limit.limits = ()
    server.fail_next(Fault.RCPT_451)
    work_again(later, run)
    assert summary(later, run) == ("done", 10, 0, 0)


def test_deliveries_in_doubt_never_exceed_the_cap_however_often_a_mail_is_tried(at_provider: Open) -> None:
    context, server = at_provider(clients=2)
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    run = start(context)
    most = 0

    def count() -> None:
        nonlocal most
        with context.database.connection_context():
            is_open = Credential.state.in_(("sending", "in_doubt"))
            found = fetch_tuples(Credential.select(Credential.client).where(is_open))
            most = max(most, *Counter(found).values())

    server.at(Point.KEPT, count)
    records = work(context, run)
    assert {record.failure for record in records} == {"too_many_in_doubt"}
    assert most == 8
    assert set(mailed(server).values()) == {8}
    require_nothing_held()


def test_a_pause_is_recorded_once_with_the_words_of_the_server(at_provider: Open) -> None:
    context, _ = at_provider(Block(), clients=10)
    run = start(context)
    require_pause(context, run)
    (event,) = AuditEvent.select().where(AuditEvent.action == "reissue.pause")
    assert "blocked by our policy" in event.details
