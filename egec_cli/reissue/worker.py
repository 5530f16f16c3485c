"""The work of a re-issue run: claim, hash, record, mail and settle, all at once, until nothing is left.

The caller's thread has the database to itself and takes turns. In one transaction, a turn settles what the mail server
has answered since the last one, records what was hashed, and claims what comes next; meanwhile other threads hash and
mail (`reissue_threads`). What is under way is bounded by what about a second of work is, so memory does not grow with
the run, and a crash leaves little behind: what was claimed comes back, and what was recorded is in doubt, as after the
crash of a single issue.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
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
from egec_cli.credentials import leases, states
from egec_cli.errors import EgecError, PermissionDenied, TemporaryFailure, quoted
from egec_cli.mail.transports.interface import Transport
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import quotas, runs
from egec_cli.reissue.items import Claimed, ItemRecord
from egec_cli.reissue.settle import Ledger, is_accepted, is_server_wide
from egec_cli.reissue.threads import Broken, Hashed, Hashers, Inbox, Job, Senders, Sent
from egec_cli.store import peewee
from egec_cli.store.failures import translate_failures
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.translation import Words

# The worker tries a database that is busy or unavailable this often before it gives up: for about a minute.
MOST_TIMES_BUSY = 8
# How often a worker renews its leases and looks for those of others that have ended, in seconds.
HEARTBEAT = leases.LEASE.total_seconds() / 4
# A turn takes its time and ends with a durable commit: what comes within this many seconds shares one. Turns are closer
# to each other where the hashers would else run out of work, and at the end.
_MOST_BETWEEN_TURNS = 0.4
_LEAST_BETWEEN_TURNS = 0.02
# That a mail was accepted is marked within about so many seconds.
_BETWEEN_MARKS = 0.01
# The longest that a worker sleeps, in seconds, before it looks whether it is still to go on.
_LONGEST_SLEEP = 0.5
# At most so many claimed items wait to be hashed, and as many recorded ones for their mail to leave.
_MOST_AT_ONCE = 500


class _Turned(NamedTuple):
    """What a turn has changed in the database, for the worker to go on with once it is committed."""

    finished: list[ItemRecord]
    recorded: int
    jobs: list[Job]
    claimed: Sequence[Claimed]
    state: RunState
    is_done: bool


def work_on_run(
    context: Context, run: ReissueRun, transport: Callable[[], Transport], stop: Event
) -> Generator[ItemRecord]:
    """Work through a run, together with whoever else does; yield each client that was dealt with here.

    Args:
        context: where.
        run: the run; nothing is done if it is done already.
        transport: makes a way for mail to leave; each of several threads asks for its own.
        stop: set to have it stop: mails under way are settled, and everything else is given back.

    Raises:
        ConfigError: a template makes no mail, which is found before the first one leaves.
        TemporaryFailure: the mail server is away, and the run is paused; or the database is.
        PermissionDenied: the run was cancelled.
        EgecError: the mail server refuses our own set-up, and the run is paused.
    """
    worker = _Worker(context, run, transport, stop)
    try:
        while not worker.is_over:
            worker.wait()
            if finished := worker.turn():
                # The reader may take as long as it likes, as in `| less`.
                with worker.leases_renewed():
                    yield from finished
    except (GeneratorExit, EgecError):
        # Nobody reads on, or the database is gone: what is under way is settled all the same, if it can be.
        with suppress(EgecError):
            worker.drain()
        raise
    finally:
        worker.stop()
    worker.say_goodbye()
    if worker.error is not None:
        raise worker.error


class _Worker:
    """One process at work on a run.

    Attributes:
        is_over: nothing is under way here any more, and nothing more will be.
        error: why it is over before the run was done, where that is to be told.
    """

    def __init__(self, context: Context, run: ReissueRun, transport: Callable[[], Transport], stop: Event) -> None:
        self._context = context
        self._run = run
        self._asked_to_stop = stop
        self._owner = leases.new_owner()
        self._ledger = Ledger(context, run, self._owner)
        self._inbox: Inbox = SimpleQueue()
        self._hashers = Hashers(context.settings, self._inbox)
        self._senders = Senders(context.settings, transport, self._ledger.mail, self._inbox)
        # What is under way. Of those being sent, the ones that came back are settled by the next turn.
        self._hashing: dict[int, Claimed] = {}
        self._hashed: list[Hashed] = []
        self._sending: dict[int, Job] = {}
        self._sent: list[Sent] = []
        self._is_stopping = False
        self._next_turn = self._next_heartbeat = self._judges_others_from = time.monotonic()
        self._most_times_busy = MOST_TIMES_BUSY
        self.is_over = False
        self.error: EgecError | None = None

    def wait(self) -> None:
        """Wait until the next turn is due, and take what the threads have done."""
        if self._is_idle and not self._is_stopping:
            self._asked_to_stop.wait(max(0.0, self._next_turn - time.monotonic()))
            return
        while not (self._is_stopping and self._nothing_is_with_the_server):
            left = self._next_turn - time.monotonic()
            new = self._taken(timeout=max(left, _LEAST_BETWEEN_TURNS))
            self._mark(new)
            if left <= 0 or self._asked_to_stop.is_set():
                return
            # What comes meanwhile shares a commit.
            self._asked_to_stop.wait(_BETWEEN_MARKS)

    def _taken(self, timeout: float) -> list[Hashed | Sent]:
        """Take what the threads have done; wait for it for so many seconds."""
        taken = []
        with suppress(Empty):
            taken.append(self._take(self._inbox.get(timeout=timeout)))
            while True:
                taken.append(self._take(self._inbox.get_nowait()))
        return taken

    def _mark(self, new: Sequence[Hashed | Sent]) -> None:
        """Let be known at once which mails were accepted: a kill before the next turn has none of them sent again."""
        accepted = [one.job.item.key for one in new if isinstance(one, Sent) and is_accepted(one)]
        if accepted:
            with (
                suppress(EgecError),
                translate_failures(self._context.settings.database),
                self._context.database.atomic(),
            ):
                reissue_items.mark_sent(self._context.database, accepted, self._owner)

    def turn(self) -> list[ItemRecord]:
        """Take one turn and return the clients that were dealt with.

        Raises:
            TemporaryFailure: the database was busy or away for too long.
        """
        if self._asked_to_stop.is_set():
            self.stop()
        retrying = Retrying(
            retry=retry_if_exception_type(TemporaryFailure),
            stop=stop_after_attempt(self._most_times_busy) | stop_when_event_set(self._asked_to_stop),
            wait=wait_exponential_jitter(multiplier=0.5, max=20),
            sleep=sleep_using_event(self._asked_to_stop),
            reraise=True,
        )
        turned = retrying(self._turn_on_a_live_connection)
        self._go_on_with(turned)
        self._next_turn = time.monotonic() + (_LONGEST_SLEEP if self._is_idle else self._until_hashers_want_more())
        return turned.finished

    def leases_renewed(self) -> AbstractContextManager[None]:
        """Renew the leases of all that is under way for as long as the block runs, which takes no turn."""
        items, clients = self._held(), self._clients_being_mailed()

        def renew() -> None:
            with self._context.database.atomic():
                reissue_items.extend_items(items, self._owner, self._context.clock() + leases.LEASE)
                leases.extend_leases(self._context, clients, self._owner)
                runs.mark_alive(self._context, self._run)

        return leases.renewing(self._context, renew, every=HEARTBEAT)

    def stop(self) -> None:
        """Begin nothing more; what is with the mail server comes back."""
        self._is_stopping = True
        self._hashers.close()
        self._senders.stop()

    def drain(self) -> None:
        """Stop, and settle what is with the mail server."""
        self.stop()
        self._most_times_busy = 1
        while not self.is_over:
            self.wait()
            self.turn()

    def say_goodbye(self) -> None:
        """Let the connections to the mail server end as they should."""
        self._senders.close()

    @property
    def _is_idle(self) -> bool:
        return not (self._hashing or self._hashed or self._sending)

    @property
    def _is_heartbeat_due(self) -> bool:
        return self._is_idle or time.monotonic() >= self._next_heartbeat

    @property
    def _nothing_is_with_the_server(self) -> bool:
        return len(self._sending) == len(self._sent)

    def _take(self, done: Hashed | Sent | Broken) -> Hashed | Sent:
        if isinstance(done, Broken):
            raise done.defect
        if isinstance(done, Hashed):
            del self._hashing[done.item.key]
            self._hashed.append(done)
            return done
        self._sent.append(done)
        if done.attempt is not None and is_server_wide(done.attempt) and self.error is None:
            # The next mail would fare no better.
            self.error = done.attempt.error
            assert self.error is not None
            self.error.hint = Words(
                "The run is paused and nothing is lost. Later: egec reissue resume {name}", name=quoted(self._run.name)
            )
            self.stop()
        return done

    def _turn_on_a_live_connection(self) -> _Turned:
        database = self._context.database
        try:
            with translate_failures(self._context.settings.database):
                database.connect(reuse_if_open=True)
                with database.atomic():
                    return self._turned()
        except TemporaryFailure:
            # The leases of all workers may have ended meanwhile: they are renewed first, and the others have time to.
            self._next_heartbeat = time.monotonic()
            self._judges_others_from = self._next_heartbeat + HEARTBEAT
            with suppress(peewee.PeeweeException):
                database.close()
            raise

    def _turned(self) -> _Turned:
        """Do a turn's work in the database, and nothing else, so that it may be done again if it failed."""
        if self._is_heartbeat_due:
            synchronize(self._context)
        at = self._context.clock()
        if self.error is not None:
            runs.pause_run(self._context, self._run, self.error.code)
        state, rate = runs.load_standing(self._context, self._run)
        goes_on = state is RunState.RUNNING and not self._is_stopping
        hashed = self._hashed[: self._room_to_record(rate, at)] if goes_on else []
        # All at once and in one order, so that no two workers ever wait for each other.
        states.lock_clients(sorted({one.job.item.client for one in self._sent} | {one.item.client for one in hashed}))
        finished = self._ledger.settle(self._sent, at) if self._sent else []
        jobs, unmailed = self._ledger.record(hashed, rate, at) if hashed else ([], [])
        self._be_heard_of(at)
        claimed: Sequence[Claimed] = []
        if goes_on:
            most = self._room_to_claim(len(self._hashed) - len(hashed), rate)
            claimed = reissue_items.claim_items(self._run, self._owner, most, at=at, until=at + leases.LEASE)
        elif self._is_stopping and self._nothing_is_with_the_server:
            reissue_items.give_back_items([*self._hashing, *(one.item.key for one in self._hashed)], self._owner)
            runs.mark_alive(self._context, self._run, alive=False)
        nothing_is_held = not (claimed or jobs or self._hashing or len(self._hashed) > len(hashed))
        is_done = (
            goes_on
            and nothing_is_held
            and self._nothing_is_with_the_server
            and runs.finish_if_done(self._context, self._run)
        )
        return _Turned(finished + unmailed, len(hashed), jobs, claimed, state, is_done)

    def _go_on_with(self, turned: _Turned) -> None:
        """Hand on what a turn has prepared, now that it is committed."""
        for one in self._sent:
            del self._sending[one.job.item.key]
        self._sent = []
        del self._hashed[: turned.recorded]
        self._sending |= {job.item.key: job for job in turned.jobs}
        self._senders.put(turned.jobs)
        self._hashing |= {item.key: item for item in turned.claimed}
        self._hashers.put(turned.claimed)
        if turned.is_done or (self._is_stopping and not self._sending):
            self.is_over = True
        elif turned.state is not RunState.RUNNING:
            self.error = self.error or _why_it_stands_still(self._run, turned.state)
            self.stop()

    def _until_hashers_want_more(self) -> float:
        """Return after how many seconds the next turn is due: when half of what they have is done."""
        hash_seconds = self._hashers.seconds_each.value or 0
        half = len(self._hashing) * hash_seconds / self._context.settings.workers / 2
        return min(max(half, _LEAST_BETWEEN_TURNS), _MOST_BETWEEN_TURNS)

    def _be_heard_of(self, at: datetime) -> None:
        if not self._is_heartbeat_due:
            return
        self._next_heartbeat = time.monotonic() + HEARTBEAT
        reissue_items.extend_items(self._held(), self._owner, at + leases.LEASE)
        leases.extend_leases(self._context, self._clients_being_mailed(), self._owner)
        if time.monotonic() >= self._judges_others_from:
            self._ledger.settle_abandoned(at)
        runs.mark_alive(self._context, self._run)

    def _held(self) -> list[int]:
        return [*self._hashing, *(one.item.key for one in self._hashed), *self._sending]

    def _clients_being_mailed(self) -> list[int]:
        return [job.item.client for job in self._sending.values()]

    def _most_sending(self, rate: int) -> int:
        most = _a_second_of(self._context.settings.mail_connections, self._senders.seconds_each.value)
        return min(most, rate) if rate else most

    def _room_to_record(self, rate: int, at: datetime) -> int:
        room = self._most_sending(rate) - (len(self._sending) - len(self._sent))
        return max(0, min(room, quotas.free_slots(rate, at)) if rate else room)

    def _room_to_claim(self, waiting: int, rate: int) -> int:
        if waiting >= self._most_sending(rate):
            return 0
        return _a_second_of(self._context.settings.workers, self._hashers.seconds_each.value) - len(self._hashing)


def _a_second_of(threads: int, seconds_each: float | None) -> int:
    """Return how much work these threads do in a second: at least enough for none of them to wait."""
    least = 4 * threads
    if seconds_each is None:
        return least
    return min(max(least, int(threads / max(seconds_each, 1e-6))), max(least, _MOST_AT_ONCE))


def _why_it_stands_still(run: ReissueRun, state: RunState) -> EgecError | None:
    if state is RunState.CANCELLED:
        return PermissionDenied(
            "the run {name} was cancelled", "Start another one under another name.", code="run_cancelled", name=run.name
        )
    if state is RunState.PAUSED:
        return TemporaryFailure(
            "the run {name} was paused by another worker, which tells why",
            "Type `egec reissue resume {quoted}` to go on.",
            code="run_paused",
            name=run.name,
            quoted=quoted(run.name),
        )
    return None
