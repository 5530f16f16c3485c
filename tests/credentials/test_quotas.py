"""Quotas on both databases: what the mail server sees, in simulated time and of real processes."""

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from egec_cli import clock
from egec_cli.clients import fields, records
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context, open_context
from egec_cli.credentials import quotas, states
from egec_cli.credentials.leases import LEASE, new_owner
from egec_cli.credentials.quotas import RunLimits
from egec_cli.errors import TemporaryFailure
from egec_cli.reissue import runs
from egec_cli.settings import load
from egec_cli.settings.parsing import parse_rate
from egec_cli.settings.types import Database
from egec_cli.store.models import Client, Credential, MailCount, MailPace, ReissueRun
from egec_cli.store.sql import fetch_tuples, locks_rows
from tests import children
from tests.activations import PATIENCE, wait_until
from tests.conftest import Egec, is_deep
from tests.credentials.senders import Sender, Simulation, find_most, require_quotas
from tests.processes import command_of
from tests.reissue_storm import WORKER
from tests.smtp_server import Fault, MailServer, Point

FAR_AWAY = "far-away/1/boot/1/1/x"
MILLISECOND = timedelta(milliseconds=1)


def limits(text: str, *, reserve: int = 0, slowest: float | None = None) -> RunLimits:
    return RunLimits(parse_rate(text), reserve, slowest)


@pytest.fixture
def simulation(opened: Context) -> Simulation:
    """Return a simulation without mails."""
    return Simulation(opened)


def send(
    simulation: Simulation,
    sender: Sender,
    allowed: RunLimits,
    mails: int,
    *,
    pause: float = 0.25,
    latency: float = 0.05,
) -> list[float]:
    """Send mails of a run in turns, and return when they left."""
    before = len(sender.sent)
    while (sent := len(sender.sent) - before) < mails:
        sender.take_turn(allowed, wanted=mails - sent, latency=latency)
        simulation.advance(pause)
    return [mail.leaves for mail in sender.sent[before:]]


def gaps(departures: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(departures)]


class Senders(RuleBasedStateMachine):
    """Workers and single mails that share quotas, with slow answers, crashes, and a clock that is set back."""

    context: Context
    rates = ("3/s", "4/min", "2/s,5/min", "3/min,7/h", "5/h", "2/min,5/h,9/d")
    latencies = st.sampled_from((0, 0.05, 0.7, 3, 20, 61, 130, 200))

    def __init__(self) -> None:
        super().__init__()
        MailCount.delete().execute()
        MailPace.delete().execute()
        self.simulation = Simulation(self.context)
        self.allowed = limits("3/s")
        for _ in range(2):
            self.simulation.add_sender()

    @initialize(rate=st.sampled_from(rates), reserve=st.sampled_from((0, 10, 50)))
    def choose_quotas(self, rate: str, reserve: int) -> None:
        self.allowed = limits(rate, reserve=reserve)

    @rule(number=st.integers(0, 9), wanted=st.integers(1, 6), latency=latencies, left=st.integers(1, 20))
    def take_turn(self, number: int, wanted: int, latency: float, left: int, reached_after: float = 1) -> None:
        sender = self.simulation.senders[number % len(self.simulation.senders)]
        sender.take_turn(self.allowed, wanted=wanted, latency=latency, reached_after=reached_after, left=left)

    @rule(mails=st.lists(st.tuples(st.integers(0, 9), latencies, st.sampled_from((0, 1))), min_size=4, max_size=9))
    def use_the_quota(self, mails: list[tuple[int, float, float]]) -> None:
        for number, latency, reached_after in mails:
            self.simulation.advance_to_next_departure(self.allowed)
            self.take_turn(number, wanted=1, latency=latency, left=1, reached_after=reached_after)

    @rule(seconds=st.sampled_from((0.1, 0.3, 1, 5, 20, 61, 3600)))
    def advance(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    @rule(seconds=st.sampled_from((0.3, 3, 8, 100, 4000)))
    def set_clock_back(self, seconds: float) -> None:
        self.simulation.offset -= seconds

    @rule(number=st.integers(0, 9), has_successor=st.booleans())
    def crash(self, number: int, has_successor: bool) -> None:
        self.simulation.senders[number % len(self.simulation.senders)].die()
        if has_successor or not self.simulation.senders:
            self.simulation.add_sender()

    @rule(number=st.integers(0, 9))
    def stop(self, number: int) -> None:
        self.simulation.senders[number % len(self.simulation.senders)].stop()

    @rule(number=st.integers(0, 9), latency=st.sampled_from((0, 0.7, 20)), is_killed=st.booleans())
    def mail_single(self, number: int, latency: float, is_killed: bool) -> None:
        self.simulation.advance_to_next_departure(RunLimits(self.allowed.rate, 0))
        context = self.simulation.context
        context = context._replace(settings=context.settings._replace(mail_rate=self.allowed.rate))
        try:
            place = quotas.take_place(context, f"{FAR_AWAY}{number}", patience=0)
        except TemporaryFailure:
            return
        self.simulation.single.append(self.simulation.now + latency)
        self.simulation.advance(latency)
        if not is_killed:
            with context.database.atomic():
                place.settle(context.clock())

    @invariant()
    def no_quota_is_exceeded(self) -> None:
        require_quotas(self.simulation.arrivals(), self.allowed.rate)


@pytest.mark.timeout(0 if is_deep() else 300)
def test_no_window_of_the_server_has_more_mails_than_its_quota(opened: Context) -> None:
    machine = type("SendersOnThisDatabase", (Senders,), {"context": opened})
    examples = hypothesis.settings().max_examples // (3 if is_deep() else 6)
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(max_examples=examples, stateful_step_count=25),
    )


def test_60_mails_at_30_a_minute_take_two_minutes_and_are_evenly_spaced(simulation: Simulation) -> None:
    departures = send(simulation, simulation.add_sender(), limits("30/min"), 60)
    assert 114 <= departures[-1] - departures[0] <= 122
    assert min(gaps(departures)) >= 1.999
    require_quotas(simulation.arrivals(), parse_rate("30/min"))


def test_two_workers_share_the_pace(simulation: Simulation) -> None:
    first, second = simulation.add_sender(), simulation.add_sender()
    while len(first.sent) + len(second.sent) < 20:
        for sender in (first, second):
            sender.take_turn(limits("60/min"), wanted=5)
            simulation.advance(0.11)
    assert first.sent
    assert second.sent
    arrivals = simulation.arrivals()
    assert min(gaps(arrivals)) >= 0.999
    assert arrivals[19] - arrivals[0] <= 19.4


@pytest.mark.parametrize(("rate", "seconds", "mails"), [("120/min", 90, 180), ("20/s", 15, 300)])
def test_a_run_uses_its_quota(simulation: Simulation, rate: str, seconds: int, mails: int) -> None:
    sender = simulation.add_sender()
    while simulation.now < seconds:
        sender.take_turn(limits(rate), wanted=100, latency=0.015, left=10_000)
        simulation.advance(0.3)
    sent = sum(mail.leaves < seconds for mail in sender.sent)
    assert 0.98 * mails <= sent <= mails
    require_quotas(simulation.arrivals(), parse_rate(rate))


def test_mails_that_fit_into_the_longer_window_leave_at_the_pace_of_the_shorter_one(simulation: Simulation) -> None:
    departures = send(simulation, simulation.add_sender(), limits("30/min,500/h", reserve=10), 50)
    assert set(gaps(departures)) <= {2.0, 2.05}


def test_mails_that_do_not_fit_into_the_longer_window_are_spread_over_it(simulation: Simulation) -> None:
    sender, allowed = simulation.add_sender(), limits("30/min,500/h", reserve=10)
    for left in range(2000, 1980, -1):
        while not sender.take_turn(allowed, wanted=1, left=left):
            simulation.advance(0.25)
        # 90 % of 500 mails an hour is one in 8 seconds.
        simulation.advance(7.6)
    assert set(gaps([mail.leaves for mail in sender.sent])) == {8.0}


def test_a_run_leaves_the_reserve_of_longer_windows_to_single_mails(simulation: Simulation) -> None:
    sender, allowed = simulation.add_sender(), limits("60/min,10/h", reserve=20)
    departures = send(simulation, sender, allowed, 8)
    assert len(departures) == 8
    for _ in range(20):
        assert sender.take_turn(allowed, wanted=1) == 0
        simulation.advance(10)
    context = simulation.context
    context = context._replace(settings=context.settings._replace(mail_rate=allowed.rate))
    for number in range(2):
        with context.database.atomic():
            quotas.take_place(context, f"{FAR_AWAY}{number}").settle(context.clock())
    with pytest.raises(TemporaryFailure) as caught:
        quotas.take_place(context, FAR_AWAY)
    assert caught.value.code == "mail_quota_reached"
    with context.database.atomic():
        next_at = quotas.find_next_departure(RunLimits(allowed.rate, 0), simulation.clock())
    shown_at = clock.to_zone(next_at, context.settings.timezone)
    assert f"10/h allows no mail before {shown_at:%Y-%m-%d %H:%M:%S}" in caught.value.message
    # The mail that found no place does not count.
    assert MailCount.select().where(MailCount.owner.is_null(False)).count() == 0


def test_a_slower_rate_that_the_server_accepts_spreads_the_mails_further(simulation: Simulation) -> None:
    slow = limits("30/min", slowest=0.25)
    assert set(gaps(send(simulation, simulation.add_sender(), slow, 5))) == {4.0}
    with simulation.context.database.atomic():
        last = simulation.senders[0].sent[-1].leaves
        next_at = quotas.find_next_departure(slow, simulation.clock())
    assert (next_at - simulation.clock()).total_seconds() == pytest.approx(last + 4 - simulation.now, abs=0.002)


def test_without_quotas_a_slower_rate_counts_no_mails(simulation: Simulation) -> None:
    with simulation.context.database.atomic():
        at, slow = simulation.clock(), limits("0", slowest=4)
        moments = quotas.plan_departures(slow, at, wanted=9, has_more_than=lambda _: True)
        assert moments == [at, at + timedelta(seconds=0.25), at + timedelta(seconds=0.5)]
        assert quotas.reserve(slow, moments, FAR_AWAY) is None
    assert MailCount.select().count() == 0


def test_the_expected_duration_is_that_of_the_quota_that_takes_longest(simulation: Simulation) -> None:
    def expect(allowed: RunLimits, mails: int) -> float:
        return quotas.expected_duration(allowed, mails, simulation.clock())

    allowed = limits("30/min,500/h", reserve=10)
    assert expect(allowed, 100) == 200
    assert expect(allowed, 450) == 900
    assert expect(allowed, 451) == 451 * 8
    assert expect(limits("0"), 1000) == 0
    assert expect(limits("1/h", reserve=90), 2) == 7200
    # Mails that count already leave less for the run.
    with simulation.context.database.atomic():
        quotas.reserve(allowed, [simulation.clock()] * 400, FAR_AWAY)
    assert expect(allowed, 50) == 100
    assert expect(allowed, 51) == 51 * 8


def test_looking_at_the_next_departure_changes_and_locks_nothing(simulation: Simulation) -> None:
    allowed, at = limits("2/h"), simulation.clock()
    assert quotas.find_next_departure(allowed, at, only_read=True) == at
    assert MailPace.select().count() == 0
    with simulation.context.database.atomic():
        quotas.reserve(allowed, quotas.plan_departures(allowed, at, wanted=1, has_more_than=lambda _: True), FAR_AWAY)
        expected = quotas.find_next_departure(allowed, at)
    assert quotas.find_next_departure(allowed, at, only_read=True) == expected
    assert expected > at + timedelta(minutes=29)


def test_mails_that_were_not_sent_do_not_count(simulation: Simulation) -> None:
    sender = simulation.add_sender()
    assert sender.take_turn(limits("4/s"), wanted=9) == 3
    sender.stop()
    simulation.advance(0.2)
    sender.settle()
    assert [one.mails for one in MailCount.select()] == [1]


def test_the_mails_of_a_process_that_was_killed_count_until_it_is_found_gone(simulation: Simulation) -> None:
    done = subprocess.run(command_of(children.print_lease_owner), capture_output=True, text=True, check=True)
    at, allowed = simulation.clock(), limits("2/min")
    found_at = at + timedelta(seconds=1)
    # The system may still deliver what the process has sent, for some seconds.
    for owner, end in ((done.stdout.strip(), found_at + clock.TOLERANCE), (FAR_AWAY, at + LEASE)):
        MailCount.delete().execute()
        with simulation.context.database.atomic():
            quotas.reserve(allowed, [at, at], owner)
            assert quotas.find_next_departure(allowed, found_at) == end + timedelta(minutes=1)


def test_mails_answered_before_the_clock_was_set_back_count_for_one_window(simulation: Simulation) -> None:
    sender, allowed = simulation.add_sender(), limits("2/min")
    send(simulation, sender, allowed, 2)
    simulation.advance(1)
    sender.settle()
    simulation.offset -= 7200
    assert sender.take_turn(allowed, wanted=1) == 0
    simulation.advance(60)
    assert sender.take_turn(allowed, wanted=1) == 1


def test_mails_under_way_when_the_clock_was_set_back_count_for_one_lease_and_window(simulation: Simulation) -> None:
    sender, allowed = simulation.add_sender(), limits("1/min")
    assert sender.take_turn(allowed, wanted=1, latency=7300) == 1
    simulation.offset -= 7200
    with simulation.context.database.atomic():
        next_at = quotas.find_next_departure(allowed, simulation.clock())
    assert next_at == simulation.clock() + LEASE + timedelta(minutes=1)


def test_counts_that_have_ended_for_every_quota_are_deleted(simulation: Simulation) -> None:
    at = simulation.clock()
    oldest = at - timedelta(days=1) - LEASE
    for moment in (oldest - MILLISECOND, oldest, at):
        MailCount.create(ends_at=moment, mails=1)
    with simulation.context.database.atomic():
        key = quotas.reserve(limits("1/d"), [at], FAR_AWAY)
        assert key is not None
        quotas.settle_mails([(key, at)], FAR_AWAY, at)
    assert sorted(one.ends_at for one in MailCount.select()) == [oldest, at, at]


def test_a_count_ends_no_earlier_than_its_answer(simulation: Simulation) -> None:
    answered = simulation.clock() + timedelta(microseconds=1)
    with simulation.context.database.atomic():
        key = quotas.reserve(limits("1/d"), [answered], FAR_AWAY)
        assert key is not None
        assert MailCount.get().ends_at >= answered + LEASE
        quotas.settle_mails([(key, answered)], FAR_AWAY, answered)
    assert timedelta() <= MailCount.get().ends_at - answered < MILLISECOND


def test_only_the_owner_changes_a_reservation(simulation: Simulation) -> None:
    with simulation.context.database.atomic():
        at = simulation.clock()
        key = quotas.reserve(limits("5/s"), [at, at], FAR_AWAY)
        assert key is not None
        quotas.extend_reservations([key], "another", at + LEASE)
        quotas.settle_mails([(key, None)], "another", at)
        assert [(one.mails, one.ends_at) for one in MailCount.select()] == [(2, at + LEASE)]
        quotas.extend_reservations([key], FAR_AWAY, at + LEASE)
        assert [(one.mails, one.ends_at) for one in MailCount.select()] == [(2, at + 2 * LEASE)]


def test_workers_that_plan_at_the_same_time_keep_to_the_quota_together(opened: Context) -> None:
    if not locks_rows():
        pytest.skip("a transaction has an SQLite database to itself: there, no two workers plan at the same time")
    allowed, at = limits("10/s"), opened.clock()

    def plan(wanted: int) -> list[datetime]:
        moments = quotas.plan_departures(allowed, at, wanted=wanted, has_more_than=lambda _: False)
        quotas.reserve(allowed, moments, FAR_AWAY)
        return moments

    def plan_on_another_connection() -> list[datetime]:
        with opened.database.connection_context(), opened.database.atomic():
            return plan(1)

    def a_lock_is_waited_for() -> bool:
        return bool(next(fetch_tuples(Client.raw("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")))[0])

    with opened.database.atomic():
        plan(1)
    with ThreadPoolExecutor(1) as other:
        with opened.database.atomic():
            first = plan(2)
            second = other.submit(plan_on_another_connection)
            wait_until(lambda: second.done() or a_lock_is_waited_for())
        moments = [*first, *second.result(timeout=60)]
    assert moments == [at + number * timedelta(seconds=0.1) for number in (1, 2, 3)]


# Single mails.


def with_rate(context: Context, text: str) -> Context:
    return context._replace(settings=context.settings._replace(mail_rate=parse_rate(text)))


def test_a_single_mail_comes_before_a_run_that_uses_the_whole_quota(opened: Context) -> None:
    context = with_rate(opened, "1/s")
    began = opened.clock()
    with opened.database.atomic():
        [moment] = quotas.plan_departures(limits("1/s"), began, wanted=1, has_more_than=lambda _: True)
        key = quotas.reserve(limits("1/s"), [moment], FAR_AWAY)
        assert key is not None

    def take_place_on_another_connection() -> datetime:
        with context.database.connection_context():
            quotas.take_place(context, new_owner(), patience=10)
            return context.clock()

    with ThreadPoolExecutor(1) as other:
        taken = other.submit(take_place_on_another_connection)
        wait_until(lambda: MailCount.select().count() == 2)
        for _ in range(3):
            with opened.database.atomic():
                at = opened.clock()
                assert quotas.plan_departures(limits("1/s"), at, wanted=1, has_more_than=lambda _: True) == []
            time.sleep(0.05)
        with opened.database.atomic():
            answered = opened.clock()
            quotas.settle_mails([(key, answered)], FAR_AWAY, answered)
        assert timedelta(seconds=1) <= taken.result(timeout=10) - answered <= timedelta(seconds=2)


def test_single_mails_that_wait_leave_in_their_order(opened: Context) -> None:
    context = with_rate(opened, "2/s")
    left: list[datetime] = []

    def mail() -> None:
        with context.database.connection_context():
            place = quotas.take_place(context, new_owner())
            left.append(context.clock())
            with context.database.atomic():
                place.settle(context.clock())

    threads = [threading.Thread(target=mail) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [moment.timestamp() for moment in left]
    assert find_most(times, 1) <= 2
    assert max(times) - min(times) < 4


def test_the_reservation_of_a_single_mail_lasts_one_lease_from_its_departure(opened: Context) -> None:
    MailCount.create(ends_at=opened.clock(), mails=1)
    place = quotas.take_place(with_rate(opened, "1/s"), FAR_AWAY)
    left_at = opened.clock()
    assert MailCount.get_by_id(place.key).ends_at >= left_at + LEASE - timedelta(seconds=0.5)
    place.extend(opened)
    assert MailCount.get_by_id(place.key).ends_at >= left_at + LEASE


def test_an_interrupted_wait_gives_the_place_back(opened: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    context = with_rate(opened, "1/s")
    with opened.database.atomic():
        at = opened.clock()
        quotas.reserve(limits("1/s"), [at], FAR_AWAY)

    def interrupt(_: float) -> None:
        assert MailCount.select().count() == 2
        raise KeyboardInterrupt

    monkeypatch.setattr("egec_cli.credentials.quotas.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quotas.take_place(context, new_owner(), patience=30)
    assert [one.owner for one in MailCount.select()] == [FAR_AWAY]


# Real processes and a real mail server.


def fill_the_last_minute(context: Context, mails: int) -> None:
    """Count this number of mails, evenly spaced over the minute until now, as a run leaves them."""
    now = context.clock()
    for number in range(mails):
        MailCount.create(ends_at=now - timedelta(minutes=1) * (number + 1) / (mails + 1), mails=1)


def test_an_activation_during_a_run_leaves_within_3_seconds(
    location: Database, server: MailServer, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RATE", "30/min")
    with open_context(load.load_settings()) as opened:
        for number in range(20):
            records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
        fill_the_last_minute(opened, 29)
    command = [*WORKER, "reissue", "start", "spring", "--all", "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(server.accepted))
        egec("client", "create", "jeanne@example.org")
        began = time.monotonic()
        assert egec("activate", "jeanne@example.org").code == 0
        taken = time.monotonic() - began
        process.kill()
    assert "jeanne@example.org" in {mail.recipient for mail in server.accepted}
    assert taken < 3


def test_a_kill_in_the_middle_does_not_open_the_tap(location: Database, server: MailServer) -> None:
    with open_context(load.load_settings()) as opened:
        for number in range(16):
            records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    arrivals: list[float] = []
    server.at(Point.KEPT, lambda: arrivals.append(time.monotonic()))
    command = [*WORKER, "reissue", "start", "spring", "--all", "--yes", "--rate", "4/s"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(arrivals) >= 6 or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done
    # The mails under way at the kill count for some seconds only.
    assert time.monotonic() - began < 30
    assert len({mail.recipient for mail in server.accepted}) == 16
    assert find_most(arrivals, 1) <= 4


@pytest.fixture
def jeanne(location: Database, server: MailServer, egec: Egec) -> str:
    """Return the e-mail of the only client."""
    assert egec("client", "create", "jeanne@example.org").code == 0
    return "jeanne@example.org"


def test_a_run_without_quotas_counts_nothing(jeanne: str, server: MailServer, egec: Egec) -> None:
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 0
    assert len(server.accepted) == 1
    with open_context(load.load_settings()):
        assert MailCount.select().count() == MailPace.select().count() == 0


def test_activations_count_without_quotas_too(jeanne: str, egec: Egec) -> None:
    assert egec("activate", jeanne).code == 0
    assert egec("activate", jeanne, "--no-mail", "--show-password").code == 0
    with open_context(load.load_settings()) as opened:
        [count] = MailCount.select()
        assert (count.mails, count.owner) == (1, None)
        assert abs(count.ends_at - opened.clock()) < timedelta(seconds=20)


def test_an_activation_beyond_the_quota_changes_nothing(
    jeanne: str, server: MailServer, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RATE", "1/h")
    assert egec("activate", jeanne).code == 0
    ended = egec("activate", jeanne, "--format", "json")
    assert (ended.code, json.loads(ended.err)["error"]["code"]) == (75, "mail_quota_reached")
    assert "the quota 1/h allows no mail before " in ended.err
    assert len(server.accepted) == 1
    with open_context(load.load_settings()):
        assert Credential.select().count() == 1
        assert Client.get().lease_owner is None


def test_an_activation_that_was_not_sent_does_not_count(jeanne: str, server: MailServer, egec: Egec) -> None:
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    # The mail after the last one in doubt is not sent.
    codes = [egec("activate", jeanne).code for _ in range(states.MAX_IN_DOUBT + 1)]
    assert codes == [75] * states.MAX_IN_DOUBT + [77]
    with open_context(load.load_settings()):
        assert sum(one.mails for one in MailCount.select()) == states.MAX_IN_DOUBT


def test_the_options_of_earlier_runs_are_still_read(opened: Context) -> None:
    run = runs.start_run(opened, "spring", Selected(opened, Selection(everyone=True)), rate=parse_rate("30/min,500/h"))
    assert json.loads(run.options) == {"rate": "30/min,500/h", "sentence": ""}
    settings = opened.settings._replace(mail_rate=parse_rate("7/h"))
    for stored, rate in {'"30/min,500/h"': "30/min,500/h", "20": "20/s", "0": "0", "null": "7/h"}.items():
        ReissueRun.update(options=f'{{"rate": {stored}, "sentence": "x"}}').execute()
        found = runs.load_orders(opened._replace(settings=settings), run)
        assert found.rate == parse_rate(rate)
