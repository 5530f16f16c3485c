"""Work through a run: claim, hash, record, mail and settle at the same time, until nothing is left.

Only the caller's thread uses the database, in turns. In one transaction, a turn settles the mails that were answered
since the last turn, records hashed passwords, and claims new items. Meanwhile other threads hash and mail (`threads`).

About one second of work is under way at a time, so memory does not grow with the run. A crash leaves little behind:
claimed items are given back, and recorded credentials are in doubt, as after the crash of a single issue.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Event

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from egec_cli.context import Context, synchronize
from egec_cli.credentials import leases, quotas, states
from egec_cli.credentials.issue import SendResult
from egec_cli.errors import EgecError, TemporaryFailure
from egec_cli.mail.transports.interface import Cause, Transport, without_addresses
from egec_cli.reissue import backoff, items, messages, runs
from egec_cli.reissue.backoff import Throttle, wait_after_refusals
from egec_cli.reissue.items import ClaimedItem, ItemRecord
from egec_cli.reissue.pace import Held, Pace, TurnResult, WorkUnderWay
from egec_cli.reissue.runs import Orders
from egec_cli.reissue.server_watch import (
    ServerWatch,
    is_accepted,
    is_doubtful,
    is_lost,
    is_server_wide,
    is_throttled,
)
from egec_cli.reissue.settle import Departures, Issuer
from egec_cli.reissue.threads import FinishedJob, HashedPassword, Hashers, Inbox, Senders, ThreadFailure
from egec_cli.store import peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.translation import Words

# How often a worker tries a database that is busy or unavailable before it gives up: for about a minute.
MOST_DATABASE_ATTEMPTS = 8
# How often a worker renews its leases and looks for leases of others that have ended, in seconds.
HEARTBEAT = leases.LEASE.total_seconds() / 4
# The pause between turns, in seconds. A turn is slow and ends with a durable commit, so results share it. The pause is
# shorter when the hashers would run out of work, and at the end.
_LONGEST_PAUSE = 0.4
_SHORTEST_PAUSE = 0.02
# The pause while mails may not leave yet: short enough that each is planned before it may leave.
_PAUSE_FOR_PACE = quotas.FURTHEST_AHEAD.total_seconds() / 2
# An accepted mail is marked within about this many seconds.
_MARK_INTERVAL = 0.01
# How long a worker waits for deferred mail or for a paused run when nothing else is left to do.
PATIENCE = timedelta(minutes=10)
# How long it waits at least for the moment when the quotas or the mail server's limits allow the next mail.
_PATIENCE_FOR_PACE = timedelta(minutes=1)
# The longest that a worker sleeps before it checks whether to continue, in seconds.
_LONGEST_SLEEP = 0.5


def _ignore(_words: Words) -> None:
    pass


def work_on_run(
    context: Context,
    run: ReissueRun,
    transport: Callable[[], Transport],
    stop: Event,
    *,
    patience: timedelta = PATIENCE,
    tell: Callable[[Words], None] = _ignore,
) -> Generator[ItemRecord]:
    """Work through a run, together with any other workers; yield each client that this worker finishes.

    Args:
        run: the run; a finished one ends immediately.
        transport: creates a transport; each mail thread has its own.
        stop: set it to stop the work: mails under way are settled, and all other items are given back.
        patience: how long to wait for deferred mail, or for a paused run, when nothing else is left to do.
        tell: is called with what an operator should know meanwhile.

    Raises:
        ConfigError: a template is faulty; no mail has left.
        TemporaryFailure: the mail server is unreachable or refuses all mails, and the run is paused; or clients are
            left whose mail is due later; or the database is unavailable.
        PermissionDenied: the run was cancelled.
        EgecError: the mail server refuses our configuration, and the run is paused.
    """
    worker = _Worker(context, run, transport, stop, patience, tell)
    try:
        while not worker.is_over:
            worker.wait()
            if finished := worker.take_turn():
                # The reader may take any time, as in `| less`.
                with worker.leases_renewed():
                    yield from finished
    except (GeneratorExit, EgecError):
        # The reader has stopped, or the database is unavailable: settle what is under way if possible.
        with suppress(EgecError):
            worker.drain()
        raise
    finally:
        worker.stop()
    worker.close_connections()
    if worker.error is not None:
        raise worker.error


class _Worker:
    """One process that works on a run.

    Attributes:
        is_over: whether this worker has finished all its work and takes no more.
        error: why it ended before the run was done, if that is an error.
    """

    def __init__(
        self,
        context: Context,
        run: ReissueRun,
        transport: Callable[[], Transport],
        stop: Event,
        patience: timedelta,
        tell: Callable[[Words], None],
    ) -> None:
        self._context = context
        self._run = run
        self._asked_to_stop = stop
        self._owner = leases.new_owner()
        self._issuer = Issuer(context, run, self._owner)
        self._inbox: Inbox = SimpleQueue()
        self._hashers = Hashers(context.settings, self._inbox)
        self._senders = Senders(context.settings, transport, self._issuer.build_mail, self._inbox)
        self._work = WorkUnderWay()
        self._watch = ServerWatch()
        self._pace = Pace(context, run, self._watch, self._work, self._hashers, self._senders)
        self._pauses_for: FinishedJob | None = None
        self._patience = patience
        self._notes = messages.Notes(tell)
        self._throttle: Throttle | None = None
        self._server_works = False
        # While other workers use all connections that the mail server allows, this one has no clients.
        self._times_aside = 0
        self._aside_until = 0.0
        self._is_stopping = False
        self._next_turn = self._next_heartbeat = self._frees_abandoned_from = time.monotonic()
        self._most_attempts = MOST_DATABASE_ATTEMPTS
        self.is_over = False
        self.error: EgecError | None = None

    def wait(self) -> None:
        """Wait until the next turn is due, and take the results of the threads."""
        if self._work.is_none and not self._is_stopping:
            self._asked_to_stop.wait(max(0.0, self._next_turn - time.monotonic()))
            return
        while not (self._is_stopping and self._work.all_jobs_are_finished):
            if self._asked_to_stop.is_set():
                self._notes.tell_what_delays_the_stop(is_mailing=bool(self._work.sending))
            left = self._next_turn - time.monotonic()
            new = self._take_results(timeout=max(left, _SHORTEST_PAUSE))
            self._mark_accepted(new)
            if left <= 0 or self._asked_to_stop.is_set():
                return
            # Results that come meanwhile share a commit.
            self._asked_to_stop.wait(_MARK_INTERVAL)

    def _take_results(self, timeout: float) -> list[HashedPassword | FinishedJob]:
        """Take the results of the threads, and wait up to `timeout` seconds for the first one."""
        taken = []
        with suppress(Empty):
            taken.append(self._take(self._inbox.get(timeout=timeout)))
            while True:
                taken.append(self._take(self._inbox.get_nowait()))
        return taken

    def _mark_accepted(self, new: Sequence[HashedPassword | FinishedJob]) -> None:
        """Mark accepted mails now, so that none is sent again if this process is killed before the next turn."""
        accepted = [one.job.item.key for one in new if isinstance(one, FinishedJob) and is_accepted(one)]
        if accepted:
            with (
                suppress(EgecError),
                translate_failures(self._context.settings.database),
                self._context.database.atomic(),
            ):
                items.mark_sent(self._context.database, accepted, self._owner)

    def take_turn(self) -> list[ItemRecord]:
        """Take one turn and return the clients who are finished.

        Raises:
            TemporaryFailure: the database was busy or unavailable for too long.
        """
        if self._asked_to_stop.is_set():
            self.stop()
        retrying = Retrying(
            retry=retry_if_exception_type(TemporaryFailure),
            stop=stop_after_attempt(self._most_attempts) | stop_when_event_set(self._asked_to_stop),
            wait=wait_exponential_jitter(multiplier=0.5, max=20),
            sleep=sleep_using_event(self._asked_to_stop),
            reraise=True,
        )
        result = retrying(self._connect_and_turn)
        self._start_work(result)
        if self._work.is_none:
            pause = _LONGEST_SLEEP
        elif self._is_stopping:
            pause = _LONGEST_PAUSE
        else:
            pause = _PAUSE_FOR_PACE if result.is_slowed else self._pause_until_half_hashed()
        self._next_turn = time.monotonic() + pause
        return result.finished

    def leases_renewed(self) -> AbstractContextManager[None]:
        """Renew the leases of all work under way while the block runs, which takes no turn."""
        held = self._held()

        def renew() -> None:
            with self._context.database.atomic():
                held.renew_leases(self._context, self._owner)
                runs.mark_alive(self._context, self._run)

        return leases.renewing(self._context, renew, every=HEARTBEAT)

    def stop(self) -> None:
        """Start no further work; mails under way still come back."""
        self._is_stopping = True
        self._hashers.close()
        self._senders.stop()

    def drain(self) -> None:
        self.stop()
        self._most_attempts = 1
        while not self.is_over:
            self.wait()
            self.take_turn()

    def close_connections(self) -> None:
        self._senders.close()

    @property
    def _is_heartbeat_due(self) -> bool:
        return self._work.is_none or time.monotonic() >= self._next_heartbeat

    def _take(self, done: HashedPassword | FinishedJob | ThreadFailure) -> HashedPassword | FinishedJob:
        if isinstance(done, ThreadFailure):
            raise done.error
        if isinstance(done, HashedPassword):
            self._work.take_password(done)
            return done
        if done.result is not None and done.result.cause is Cause.CONNECTIONS and self._has_other_workers():
            self._step_aside(done)
            done = done._replace(result=None)
        self._work.finished.append(done)
        if done.result is not None:
            self._judge_answer(done, done.result)
        return done

    def _has_other_workers(self) -> bool:
        try:
            with translate_failures(self._context.settings.database):
                return items.has_other_workers(self._run, self._owner, self._context.clock())
        except EgecError:
            return False

    def _step_aside(self, refusal: FinishedJob) -> None:
        """Leave the connections that the mail server allows to other workers, and all clients too, for a while."""
        self._times_aside += 1
        self._aside_until = time.monotonic() + wait_after_refusals(self._times_aside)
        self._senders.use_one_connection()
        self._notes.tell_of_one_connection(messages.refusal_words(refusal))
        self._senders.release()

    def _judge_answer(self, done: FinishedJob, result: SendResult) -> None:
        """Stop or slow down if the answer to a mail concerns the next ones too."""
        self._watch.add(done)
        if is_server_wide(done):
            self._pause_for(done)
        elif not (is_doubtful(done) or is_lost(done)):
            self._server_works = self._server_works or result.cause is not None or is_accepted(done)
            self._times_aside = 0
        elif self._watch.refusal is not None:
            self._pause_for(self._watch.refusal)
        elif is_lost(done):
            # Until a mail is accepted: more answers may get lost.
            self._server_works = False
            self._senders.use_one_connection()
        elif is_throttled(done):
            self._senders.use_one_connection()
        if is_doubtful(done) and self._pauses_for is None:
            self._senders.release()

    def _pause_for(self, refusal: FinishedJob) -> None:
        """Pause the run, as the next mail would be refused too."""
        if self._pauses_for is None:
            self._pauses_for = refusal
            self.stop()

    def _connect_and_turn(self) -> TurnResult:
        database = self._context.database
        try:
            with translate_failures(self._context.settings.database):
                database.connect(reuse_if_open=True)
                with database.atomic():
                    return self._turn()
        except TemporaryFailure:
            # All leases may have ended meanwhile: renew them first, and give other workers time to do the same.
            self._next_heartbeat = time.monotonic()
            self._frees_abandoned_from = self._next_heartbeat + HEARTBEAT
            with suppress(peewee.PeeweeException):
                database.close()
            raise

    def _turn(self) -> TurnResult:
        """Do a turn's work in the database only, so that it can be repeated after a failure."""
        if self._is_heartbeat_due:
            synchronize(self._context)
        at, now = self._context.clock(), time.monotonic()
        self._pause_run()
        orders = runs.load_orders(self._context, self._run)
        # Answers that came before a pause say nothing about the time after it.
        if self._pauses_for is None:
            orders = orders._replace(throttle=self._pace.adapt_rate(orders, self._work.finished, at))
        is_running = orders.state is RunState.RUNNING and not self._is_stopping
        is_aside = now < self._aside_until
        is_open = is_running and not is_aside and (orders.paused_until is None or orders.paused_until <= at)
        self._issuer.settle_reservations(self._work.finished, at, now)
        limits = self._pace.limits(orders)
        planned = self._pace.plan_departures(orders, at) if is_open else []
        hashed = self._work.hashed[: len(planned)]
        # All at once and in one order, so that two workers never deadlock.
        clients = {one.job.item.client for one in self._work.finished} | {one.item.client for one in hashed}
        states.lock_clients(sorted(clients))
        takes_back = self._takes_back_attempts(orders.pauses)
        finished = self._settle_jobs(at, takes_back=takes_back)
        departures = Departures(limits, planned, at, now)
        jobs, unmailed = self._issuer.record_passwords(hashed, departures, at) if hashed else ([], [])
        self._send_heartbeat(at)
        claimed: Sequence[ClaimedItem] = []
        left_to_others = self._work.hashed if is_aside and is_running else []
        items.give_back_items([one.item.key for one in left_to_others], self._owner)
        if is_open:
            room = self._pace.room_to_claim(len(self._work.hashed) - len(hashed), limits)
            claimed = items.claim_items(self._run, self._owner, room, at=at, until=at + leases.LEASE)
        waiting = len(self._work.hashed) - len(hashed)
        has_nothing_left = (
            is_running
            and not (is_aside or claimed or jobs or self._work.hashing or waiting)
            and self._work.all_jobs_are_finished
        )
        decided: Sequence[FinishedJob] = []
        if self._pauses_for is None:
            decided = self._watch.decide(orders.pauses, has_nothing_left=has_nothing_left)
        finished += self._issuer.fail_clients(decided)
        if self._is_stopping and self._work.all_jobs_are_finished:
            self._give_back_all(at, takes_back=takes_back)
        has_nothing_left = has_nothing_left and len(decided) == len(self._watch.withheld)
        is_done = has_nothing_left and runs.finish_if_done(self._context, self._run)
        next_due = next_departure = None
        if has_nothing_left and not is_done:
            next_due = self._next_due(orders, at)
        elif is_running and waiting and not (self._work.sending or jobs):
            next_due = None if is_open else orders.paused_until
            next_departure = self._pace.find_next_departure(orders, at) if is_open else None
        is_slowed = is_running and waiting > 0 and (limits.is_limited or not is_open or orders.throttle is not None)
        return TurnResult(
            finished + unmailed,
            len(hashed or left_to_others),
            jobs,
            claimed,
            decided,
            orders,
            next_due,
            next_departure,
            is_slowed,
            is_done,
        )

    def _takes_back_attempts(self, pauses: int) -> bool:
        """Return whether no attempt counts that failed by the answer for which the run pauses.

        After the longest wait, lost connections count: a run whose last clients are the cause of them would never end.
        """
        refusal = self._pauses_for
        if refusal is None or refusal.result is None:
            return False
        return refusal.result.cause is not Cause.DROPPED or pauses <= len(backoff.WAITS)

    def _give_back_all(self, at: datetime, *, takes_back: bool) -> None:
        """Give back all clients of this worker, the refused ones after all others."""
        items.give_back_items([*self._work.hashing, *(one.item.key for one in self._work.hashed)], self._owner)
        items.give_back_items(self._watch.withheld, self._owner, due=at)
        if takes_back:
            # Some were claimed again before the pause.
            items.take_back_attempts(self._watch.attempts_to_take_back(self._work.finished), at)
        runs.mark_alive(self._context, self._run, alive=False)

    def _pause_run(self) -> None:
        """Pause the run if the mail server refuses all mails."""
        refusal = self._pauses_for
        if refusal is None or refusal.result is None or refusal.result.error is None:
            return
        runs.pause_run(
            self._context,
            self._run,
            refusal.result.error.code,
            reply=without_addresses(refusal.result.outcome.server_reply or ""),
            waits=is_doubtful(refusal) or is_lost(refusal),
        )

    def _settle_jobs(self, at: datetime, *, takes_back: bool) -> list[ItemRecord]:
        """Settle finished jobs; when the run pauses, no client has failed by the answer that all would get."""
        records = (
            self._issuer.settle_jobs(self._work.finished, at, takes_back=takes_back) if self._work.finished else []
        )
        if takes_back:
            items.take_back_attempts(self._watch.attempts_to_take_back(self._work.finished), at)
        return records

    def _next_due(self, orders: Orders, at: datetime) -> datetime | None:
        """Return when the next client is due, if that is not now; None if others work on the rest."""
        self._issuer.end_waits_too_long(at)
        due = items.next_due(self._run)
        if due is None:
            return None
        due = max(due, orders.paused_until or due)
        return due if due > at else None

    def _start_work(self, turn: TurnResult) -> None:
        """Give the threads the work that a turn has prepared, now that it is committed."""
        self._work.advance(turn)
        for decided in turn.decided:
            del self._watch.withheld[decided.job.item.key]
        self._senders.put(turn.jobs)
        self._hashers.put(turn.claimed)
        self._set_connections(turn.orders.throttle)
        if self._pauses_for is not None and self.error is None:
            self._watch.withheld.clear()
            self.error = messages.pause_error(self._run, self._pauses_for, turn.orders.paused_until)
        if turn.is_done or (self._is_stopping and not self._work.sending):
            self.is_over = True
        elif turn.orders.state is not RunState.RUNNING:
            self.error = self.error or messages.error_of_state(self._run, turn.orders.state)
            self.stop()
        elif turn.next_due is not None:
            self._wait_until(turn.next_due, self._patience)
        elif turn.next_departure is not None:
            self._wait_until(turn.next_departure, max(self._patience, _PATIENCE_FOR_PACE))
        elif self._watch.withheld and self._work.is_none:
            # Nothing else is left, and the last answers say that the server blocks us.
            self._pause_for(next(iter(self._watch.withheld.values())))

    def _set_connections(self, throttle: Throttle | None) -> None:
        """Use one connection while the server throttles us or has not shown that it works; otherwise all of them."""
        if throttle is None and self._server_works:
            self._senders.use_all_connections()
        elif throttle is not None and self._throttle is None:
            self._senders.use_one_connection()
        if throttle is not None:
            self._notes.tell_of_slower_rate(self._throttle, throttle)
        elif self._senders.connection_refusal is not None:
            self._notes.tell_of_one_connection(messages.refusal_words(self._senders.connection_refusal))
        self._throttle = throttle

    def _wait_until(self, due: datetime, patience: timedelta) -> None:
        """Wait until the next mail may leave, or end if that is too late."""
        now = self._context.clock()
        if due > now + patience:
            self.error = messages.deferral_error(self._run, due)
            self.stop()
        else:
            self._notes.tell_of_wait(due, now)

    def _pause_until_half_hashed(self) -> float:
        """Return the pause before the next turn, in seconds: until the hashers have finished half of their work."""
        hash_seconds = self._hashers.seconds_each.value or 0
        half = len(self._work.hashing) * hash_seconds / self._context.settings.workers / 2
        return min(max(half, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _send_heartbeat(self, at: datetime) -> None:
        if not self._is_heartbeat_due:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT
        self._held().renew_leases(self._context, self._owner)
        if time.monotonic() >= self._frees_abandoned_from:
            self._issuer.settle_abandoned_items(at)
        runs.mark_alive(self._context, self._run)

    def _held(self) -> Held:
        return self._work.held(self._watch.withheld)
