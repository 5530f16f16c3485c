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
from math import ceil
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

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
from egec_cli.credentials.quotas import Limits
from egec_cli.errors import EgecError, ExitCode, TemporaryFailure, quoted
from egec_cli.mail.transports.interface import Transport
from egec_cli.reissue import items, runs
from egec_cli.reissue.items import ClaimedItem, ItemRecord
from egec_cli.reissue.settle import Departures, Issuer, is_accepted, is_server_wide
from egec_cli.reissue.threads import FinishedJob, HashedPassword, Hashers, Inbox, MailJob, Senders, ThreadFailure
from egec_cli.store import peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.translation import Words, join_words

# How often a worker tries a database that is busy or unavailable before it gives up: for about a minute.
MOST_DATABASE_ATTEMPTS = 8
# How often a worker renews its leases and looks for leases of others that have ended, in seconds.
HEARTBEAT = leases.LEASE.total_seconds() / 4
# The pause between turns, in seconds. A turn is slow and ends with a durable commit, so results share it. The pause is
# shorter when the hashers would run out of work, and at the end.
_LONGEST_PAUSE = 0.4
_SHORTEST_PAUSE = 0.02
# The pause while mails wait for their quota: short enough that each is planned before it may leave.
_PAUSE_FOR_QUOTA = quotas.FURTHEST_AHEAD.total_seconds() / 2
# An accepted mail is marked within about this many seconds.
_MARK_INTERVAL = 0.01
# The longest that a worker sleeps before it checks whether to continue, in seconds.
_LONGEST_SLEEP = 0.5
# At most this many claimed items wait to be hashed, and as many recorded mails wait to leave.
_MOST_AT_ONCE = 500


class _TurnResult(NamedTuple):
    """What a turn has changed in the database, for the worker to use once it is committed."""

    finished: list[ItemRecord]
    recorded: int
    jobs: list[MailJob]
    claimed: Sequence[ClaimedItem]
    state: RunState
    is_done: bool
    waits_for_quota: bool


def work_on_run(
    context: Context, run: ReissueRun, transport: Callable[[], Transport], stop: Event
) -> Generator[ItemRecord]:
    """Work through a run, together with any other workers; yield each client that this worker finishes.

    Args:
        run: the run; a finished one ends immediately.
        transport: creates a transport; each mail thread has its own.
        stop: set it to stop the work: mails under way are settled, and all other items are given back.

    Raises:
        ConfigError: a template is faulty; no mail has left.
        TemporaryFailure: the mail server is unavailable, and the run is paused; or the database is unavailable.
        PermissionDenied: the run was cancelled.
        EgecError: the mail server refuses our configuration, and the run is paused.
    """
    worker = _Worker(context, run, transport, stop)
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

    def __init__(self, context: Context, run: ReissueRun, transport: Callable[[], Transport], stop: Event) -> None:
        self._context = context
        self._run = run
        self._asked_to_stop = stop
        self._owner = leases.new_owner()
        self._issuer = Issuer(context, run, self._owner)
        self._inbox: Inbox = SimpleQueue()
        self._hashers = Hashers(context.settings, self._inbox)
        self._senders = Senders(context.settings, transport, self._issuer.build_mail, self._inbox)
        # The work under way. Finished jobs are also in `_sending` until the next turn settles them.
        self._hashing: dict[int, ClaimedItem] = {}
        self._hashed: list[HashedPassword] = []
        self._sending: dict[int, MailJob] = {}
        self._finished: list[FinishedJob] = []
        self._is_stopping = False
        self._next_turn = self._next_heartbeat = self._frees_abandoned_from = time.monotonic()
        self._most_attempts = MOST_DATABASE_ATTEMPTS
        self.is_over = False
        self.error: EgecError | None = None

    def wait(self) -> None:
        """Wait until the next turn is due, and take the results of the threads."""
        if self._is_idle and not self._is_stopping:
            self._asked_to_stop.wait(max(0.0, self._next_turn - time.monotonic()))
            return
        while not (self._is_stopping and self._all_jobs_are_finished):
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
        if self._is_idle:
            pause = _LONGEST_SLEEP
        else:
            pause = _PAUSE_FOR_QUOTA if result.waits_for_quota else self._pause_until_half_hashed()
        self._next_turn = time.monotonic() + pause
        return result.finished

    def leases_renewed(self) -> AbstractContextManager[None]:
        """Renew the leases of all work under way while the block runs, which takes no turn."""
        keys, clients, reservations = self._held_items(), self._clients_being_mailed(), self._reservations()

        def renew() -> None:
            with self._context.database.atomic():
                items.extend_items(keys, self._owner, self._context.clock() + leases.LEASE)
                leases.extend_leases(self._context, clients, self._owner)
                quotas.extend_reservations(reservations, self._owner, self._context.clock())
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
    def _is_idle(self) -> bool:
        return not (self._hashing or self._hashed or self._sending)

    @property
    def _is_heartbeat_due(self) -> bool:
        return self._is_idle or time.monotonic() >= self._next_heartbeat

    @property
    def _all_jobs_are_finished(self) -> bool:
        return len(self._sending) == len(self._finished)

    def _take(self, done: HashedPassword | FinishedJob | ThreadFailure) -> HashedPassword | FinishedJob:
        if isinstance(done, ThreadFailure):
            raise done.error
        if isinstance(done, HashedPassword):
            del self._hashing[done.item.key]
            self._hashed.append(done)
            return done
        self._finished.append(done)
        if done.result is not None and is_server_wide(done.result) and self.error is None:
            # The next mail would fail too.
            self.error = done.result.error
            assert self.error is not None
            resume = Words(
                "The run is paused and nothing is lost. Later: egec reissue resume {name}", name=quoted(self._run.name)
            )
            is_to_fix = self.error.exit_code is not ExitCode.TEMPORARY_FAILURE
            self.error.hint = join_words(" ", [self.error.hint, resume]) if is_to_fix else resume
            self.stop()
        return done

    def _connect_and_turn(self) -> _TurnResult:
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

    def _turn(self) -> _TurnResult:
        """Do a turn's work in the database only, so that it can be repeated after a failure."""
        if self._is_heartbeat_due:
            synchronize(self._context)
        at, now = self._context.clock(), time.monotonic()
        if self.error is not None:
            runs.pause_run(self._context, self._run, self.error.code)
        state, rate = runs.load_state_and_rate(self._context, self._run)
        is_running = state is RunState.RUNNING and not self._is_stopping
        self._issuer.settle_reservations(self._finished, at, now)
        limits = Limits(rate, self._context.settings.mail_reserve)
        departures = Departures(limits, self._plan_departures(limits, at) if is_running else [], at, now)
        hashed = self._hashed[: len(departures.moments)]
        # All at once and in one order, so that two workers never deadlock.
        clients = {one.job.item.client for one in self._finished} | {one.item.client for one in hashed}
        states.lock_clients(sorted(clients))
        finished = self._issuer.settle_jobs(self._finished, at) if self._finished else []
        jobs, unmailed = self._issuer.record_passwords(hashed, departures, at) if hashed else ([], [])
        self._send_heartbeat(at)
        claimed: Sequence[ClaimedItem] = []
        if is_running:
            room = self._room_to_claim(len(self._hashed) - len(hashed), limits)
            claimed = items.claim_items(self._run, self._owner, room, at=at, until=at + leases.LEASE)
        elif self._is_stopping and self._all_jobs_are_finished:
            items.give_back_items([*self._hashing, *(one.item.key for one in self._hashed)], self._owner)
            runs.mark_alive(self._context, self._run, alive=False)
        is_done = (
            is_running
            and not (claimed or jobs or self._hashing or len(self._hashed) > len(hashed))
            and self._all_jobs_are_finished
            and runs.finish_if_done(self._context, self._run)
        )
        waits_for_quota = is_running and limits.is_limited and len(hashed) < len(self._hashed)
        return _TurnResult(finished + unmailed, len(hashed), jobs, claimed, state, is_done, waits_for_quota)

    def _start_work(self, turn: _TurnResult) -> None:
        """Give the threads the work that a turn has prepared, now that it is committed."""
        for one in self._finished:
            del self._sending[one.job.item.key]
        self._finished = []
        del self._hashed[: turn.recorded]
        self._sending |= {job.item.key: job for job in turn.jobs}
        self._senders.put(turn.jobs)
        self._hashing |= {item.key: item for item in turn.claimed}
        self._hashers.put(turn.claimed)
        if turn.is_done or (self._is_stopping and not self._sending):
            self.is_over = True
        elif turn.state is not RunState.RUNNING:
            self.error = self.error or _error_of_state(self._run, turn.state)
            self.stop()

    def _pause_until_half_hashed(self) -> float:
        """Return the pause before the next turn, in seconds: until the hashers have finished half of their work."""
        hash_seconds = self._hashers.seconds_each.value or 0
        half = len(self._hashing) * hash_seconds / self._context.settings.workers / 2
        return min(max(half, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _send_heartbeat(self, at: datetime) -> None:
        if not self._is_heartbeat_due:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT
        items.extend_items(self._held_items(), self._owner, at + leases.LEASE)
        leases.extend_leases(self._context, self._clients_being_mailed(), self._owner)
        quotas.extend_reservations(self._reservations(), self._owner, at)
        if time.monotonic() >= self._frees_abandoned_from:
            self._issuer.settle_abandoned_items(at)
        runs.mark_alive(self._context, self._run)

    def _held_items(self) -> list[int]:
        return [*self._hashing, *(one.item.key for one in self._hashed), *self._sending]

    def _clients_being_mailed(self) -> list[int]:
        return [job.item.client for job in self._sending.values()]

    def _reservations(self) -> set[int]:
        return {job.reservation for job in self._sending.values() if job.reservation is not None}

    def _most_sending(self) -> int:
        return _work_per_second(self._context.settings.mail_connections, self._senders.seconds_each.value)

    def _plan_departures(self, limits: Limits, at: datetime) -> list[datetime]:
        """Return when the mails of hashed passwords may leave: immediately without quotas."""
        under_way = len(self._sending)
        room = min(len(self._hashed), self._most_sending() - (under_way - len(self._finished)))
        if not limits.is_limited:
            return [at] * room
        # Mails under way count already.
        return quotas.plan_departures(
            limits, at, wanted=room, has_more_than=lambda number: items.has_more_left(self._run, number + under_way)
        )

    def _room_to_claim(self, waiting: int, limits: Limits) -> int:
        most = self._most_sending()
        if limits.is_limited:
            most = min(most, ceil(timedelta(seconds=1) / limits.interval))
        if waiting >= most:
            return 0
        return _work_per_second(self._context.settings.workers, self._hashers.seconds_each.value) - len(self._hashing)


def _work_per_second(threads: int, seconds_each: float | None) -> int:
    """Return how many pieces of work these threads finish in a second: at least enough to keep all of them busy."""
    least = 4 * threads
    if seconds_each is None:
        return least
    return min(max(least, int(threads / max(seconds_each, 1e-6))), max(least, _MOST_AT_ONCE))


def _error_of_state(run: ReissueRun, state: RunState) -> EgecError | None:
    if state is RunState.CANCELLED:
        return runs.cancelled_error(run)
    if state is RunState.PAUSED:
        return TemporaryFailure(
            "the run {name} was paused by another worker, which reports the reason",
            "Type `egec reissue resume {quoted}` to continue.",
            code="run_paused",
            name=run.name,
            quoted=quoted(run.name),
        )
    return None
