"""The threads of a run: one per core to hash passwords, and one per mail connection to send mails.

They never touch the database. Their results come back through one inbox, in the order in which they were finished.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Condition, Event, Thread
from typing import NamedTuple

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from egec_cli.credentials.issue import SendResult, send_recorded
from egec_cli.credentials.states import RecordedCredential
from egec_cli.errors import EgecError, TemporaryFailure
from egec_cli.hashing import hash_password
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, LoginInterrupted, LoginTimedOut, Reply, Transport
from egec_cli.mail.transports.login_secret import end_running_commands
from egec_cli.password import Password, generate_password
from egec_cli.reissue.items import ClaimedItem
from egec_cli.settings.types import Settings

# The causes of a refusal that may concern other mails too.
MAY_CONCERN_OTHERS = frozenset({Cause.THROTTLED, Cause.CONNECTIONS, Cause.BLOCKED, Cause.DROPPED, Cause.UNCLEAR})
# How often a mail is tried while the mail server is unavailable, before the run is paused.
MOST_SERVER_ATTEMPTS = 5
# How long it waits between the attempts, in seconds: twice as long each time, plus up to one FIRST_WAIT_FOR_SERVER.
FIRST_WAIT_FOR_SERVER = 1.0
LONGEST_WAIT_FOR_SERVER = 30.0
# The weight of the last duration in the mean.
_WEIGHT = 0.1


class HashedPassword(NamedTuple):
    """A new password for a claimed item, with its hash."""

    item: ClaimedItem
    password: Password
    password_hash: str


class Recipient(NamedTuple):
    """The client of a mail: the client's row as it was when the credential was recorded.

    `is_shared`: whether another client has the same e-mail.
    """

    key: int
    identifier: str
    email: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: datetime | None
    valid_from: str | None
    valid_until: str | None
    active_sequence: int
    reference: str | None = None
    is_shared: bool = False


class MailJob(NamedTuple):
    """A mail to send, for a recorded credential.

    Attributes:
        leaves_at: the earliest moment to send it, on the monotonic clock, in seconds.
        reservation: the key of its place in the quotas; None without quotas.
    """

    item: ClaimedItem
    recipient: Recipient
    recorded: RecordedCredential
    password: Password
    message_id: str
    issued_at: datetime
    leaves_at: float
    reservation: int | None


class FinishedJob(NamedTuple):
    """A job and its result.

    Attributes:
        result: None if the mail was not sent: nothing of it reached the server.
        began_at: when sending began, on the monotonic clock, in seconds.
        ended_at: when the answer came, likewise.
    """

    job: MailJob
    result: SendResult | None
    began_at: float = 0.0
    ended_at: float = 0.0


class ThreadFailure(NamedTuple):
    """An unexpected error that ended a thread."""

    error: BaseException


Inbox = SimpleQueue[HashedPassword | FinishedJob | ThreadFailure]


class Hashers:
    """Threads that generate passwords and hash them."""

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self._settings = settings
        self._inbox = inbox
        self._waiting: SimpleQueue[ClaimedItem | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name="bcrypt", daemon=True) for _ in range(settings.workers)]
        self.seconds_each = _Mean()
        for thread in self._threads:
            thread.start()

    def put(self, items: Sequence[ClaimedItem]) -> None:
        """Generate and hash passwords for these items."""
        for item in items:
            self._waiting.put(item)

    def close(self) -> None:
        """Start no further hash, and do not wait for those under way."""
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()
        for _ in self._threads:
            self._waiting.put(None)

    def _run(self) -> None:
        alphabet, cost = self._settings.alphabet, self._settings.bcrypt_cost
        try:
            while (item := self._waiting.get()) is not None:
                password = generate_password(alphabet)
                with self.seconds_each.timed():
                    password_hash = hash_password(password, cost)
                self._inbox.put(HashedPassword(item, password, password_hash))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the inbox is read
            self._inbox.put(ThreadFailure(error))


class Senders:
    """Threads that send mails, each by its own transport.

    If the server is unreachable, they try the same mail again for a while: nothing of it has left. At first, and while
    the server throttles us, only one of them works. A thread that may not work closes its connection, as servers count
    open connections.
    """

    def __init__(
        self, settings: Settings, transport: Callable[[], Transport], build: Callable[[MailJob], Mail], inbox: Inbox
    ) -> None:
        """Start the threads. `build` makes the mail of a job, or raises an `EgecError`."""
        self._transport = transport
        self._build = build
        self._inbox = inbox
        self._stopping = Event()
        self.seconds_each = _Mean()
        # The refusal that has left only one of several connections.
        self.connection_refusal: FinishedJob | None = None
        # The threads share all below, under this lock.
        self._changed = Condition()
        self._waiting: deque[MailJob] = deque()
        # The threads that the server has not turned away. The first `_limit` of them may have a connection.
        self._allowed = list(range(settings.mail_connections))
        self._limit = 1
        self._working = 0
        # Refusals that may concern other mails too, and that the worker has not judged yet.
        self._unjudged = 0
        self._is_closing = False
        self._threads = [
            Thread(target=self._run, args=(n,), name=f"mail {n}", daemon=True) for n in range(settings.mail_connections)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, jobs: Sequence[MailJob]) -> None:
        """Send these mails."""
        if jobs:
            with self._changed:
                self._waiting.extend(jobs)
                self._wake_up(len(jobs))

    def use_one_connection(self) -> None:
        """Send one mail at a time from now on, and give the waiting jobs back."""
        self._limit_threads(1)
        self._give_back_waiting()

    def use_all_connections(self) -> None:
        """Send as many mails at a time as the settings say, as far as the server allows them."""
        if self._limit < len(self._threads):
            self._limit_threads(len(self._threads))

    def release(self) -> None:
        """Go on after a refusal that may concern other mails too; no further mail is sent before this."""
        with self._changed:
            self._unjudged -= 1
            self._changed.notify_all()

    def _limit_threads(self, number: int) -> None:
        with self._changed:
            self._limit = number
            self._changed.notify_all()

    def _give_back_waiting(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            self._inbox.put(FinishedJob(job, None))

    def _wake_up(self, number: int) -> None:
        """Wake this number of waiting threads; all of them if some may not work, so that it is not only these."""
        some_may_not_work = min(self._limit, len(self._allowed)) < len(self._threads)
        self._changed.notify(len(self._threads) if some_may_not_work else number)

    def stop(self) -> None:
        """Start no further mail; waiting jobs come back now, those under way when they are finished."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        # Nothing of a mail has left while its connection waits for the program that prints the password or the token.
        end_running_commands()
        self._give_back_waiting()

    def close(self) -> None:
        """Stop, and wait until the connections are closed."""
        self.stop()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        try:
            transport = self._transport()
            retrying = Retrying(
                retry=retry_if_exception(_is_unreachable_for_now),
                stop=stop_after_attempt(MOST_SERVER_ATTEMPTS) | stop_when_event_set(self._stopping),
                wait=wait_exponential_jitter(
                    multiplier=FIRST_WAIT_FOR_SERVER, max=LONGEST_WAIT_FOR_SERVER, jitter=FIRST_WAIT_FOR_SERVER
                ),
                sleep=sleep_using_event(self._stopping),
                reraise=True,
            )
            try:
                while (job := self._take_job(number, transport)) is not None:
                    may_leave = self._wait_for_departure(number, job)
                    finished = self._send(transport, retrying, job) if may_leave else FinishedJob(job, None)
                    self._finish(number, finished)
            finally:
                transport.close()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the inbox is read
            self._inbox.put(ThreadFailure(error))

    def _may_connect(self, number: int) -> bool:
        return number in self._allowed[: self._limit]

    def _may_send(self, number: int) -> bool:
        return bool(self._waiting) and not self._unjudged and self._working < self._limit and self._may_connect(number)

    def _take_job(self, number: int, transport: Transport) -> MailJob | None:
        """Wait until this thread may send a mail, and return its job; None at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_closing or self._may_send(number) or not self._may_connect(number)
                )
                if self._is_closing:
                    return None
                if self._may_send(number):
                    self._working += 1
                    return self._waiting.popleft()
            transport.close()
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._may_connect(number))

    def _wait_for_departure(self, number: int, job: MailJob) -> bool:
        """Wait until a mail may leave; return whether it still may."""
        wait = job.leaves_at - time.monotonic()
        if wait > 0:
            self._stopping.wait(wait)
            with self._changed:
                self._changed.wait_for(lambda: not self._unjudged or self._stopping.is_set())
                if not self._may_connect(number):
                    return False
        return not self._stopping.is_set()

    def _send(self, transport: Transport, retrying: Retrying, job: MailJob) -> FinishedJob:
        def deliver() -> Reply:
            try:
                mail = self._build(job)
            except EgecError as error:
                raise DeliveryRefused(error) from None
            with self.seconds_each.timed():
                return retrying(transport.deliver, mail)

        began_at = time.monotonic()
        result = send_recorded(job.recorded, deliver, job.password)
        is_sent = not isinstance(result.error, LoginInterrupted)
        return FinishedJob(job, result if is_sent else None, began_at, time.monotonic())

    def _finish(self, number: int, finished: FinishedJob) -> None:
        """Report a result; but leave the job to the other threads if the server turns this one away."""
        cause = None if finished.result is None else finished.result.cause
        with self._changed:
            self._working -= 1
            if cause is Cause.CONNECTIONS and self._allowed[: self._limit] != [number]:
                if number in self._allowed:
                    self._allowed.remove(number)
                if len(self._allowed) == 1:
                    self.connection_refusal = finished
                if not self._stopping.is_set():
                    self._waiting.appendleft(finished.job)
                    self._changed.notify_all()
                    return
                finished = FinishedJob(finished.job, None)
            elif cause in MAY_CONCERN_OTHERS:
                # Until the worker has judged it: the other threads would send many mails meanwhile.
                self._unjudged += 1
            if self._waiting and self._working < self._limit:
                self._wake_up(1)
        self._inbox.put(finished)


def _is_unreachable_for_now(error: BaseException) -> bool:
    return (
        isinstance(error, DeliveryRefused)
        and error.cause is Cause.UNREACHABLE
        and isinstance(error.error, TemporaryFailure)
        # A program that hangs once will again.
        and not isinstance(error.error, LoginTimedOut)
    )


class _Mean:
    """How long something takes at present, in seconds; None before the first time. Threads may share it."""

    def __init__(self) -> None:
        self.value: float | None = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the duration of the block to the mean, unless it raises."""
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
        self.value = taken if self.value is None else self.value + _WEIGHT * (taken - self.value)
