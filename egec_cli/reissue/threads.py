"""The threads of a run: one per core to hash passwords, and one per mail connection to send mails.

They never touch the database. Their results come back through one inbox, in the order in which they were finished.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import NamedTuple, TypeVar

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
from egec_cli.mail.transports.interface import DeliveryRefused, LoginInterrupted, Reply, Transport
from egec_cli.mail.transports.login_secret import end_running_commands
from egec_cli.password import Password, generate_password
from egec_cli.reissue.items import ClaimedItem
from egec_cli.settings.schema import Settings

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
    """The client of a mail: the client's row as it was when the credential was recorded."""

    key: int
    identifier: str
    email: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: datetime | None
    active_sequence: int


class MailJob(NamedTuple):
    """A mail to send, for a recorded credential.

    Attributes:
        leaves_at: the earliest moment to send it, on the monotonic clock, in seconds.
    """

    item: ClaimedItem
    recipient: Recipient
    recorded: RecordedCredential
    password: Password
    message_id: str
    issued_at: datetime
    leaves_at: float


class FinishedJob(NamedTuple):
    """A job and its result; None if it was not started."""

    job: MailJob
    result: SendResult | None


class ThreadFailure(NamedTuple):
    """An unexpected error that ended a thread."""

    error: BaseException


Inbox = SimpleQueue[HashedPassword | FinishedJob | ThreadFailure]
_Work = TypeVar("_Work")


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
        _take_all(self._waiting)
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

    If the server is unavailable, they try the same mail again for a while: nothing of it has left.
    """

    def __init__(
        self, settings: Settings, transport: Callable[[], Transport], build: Callable[[MailJob], Mail], inbox: Inbox
    ) -> None:
        """Start the threads. `build` makes the mail of a job, or raises an `EgecError`."""
        self._transport = transport
        self._build = build
        self._inbox = inbox
        self._waiting: SimpleQueue[MailJob | None] = SimpleQueue()
        self._stopping = Event()
        self.seconds_each = _Mean()
        number = settings.mail_connections
        self._threads = [Thread(target=self._run, name=f"mail {n}", daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def put(self, jobs: Sequence[MailJob]) -> None:
        """Send these mails."""
        for job in jobs:
            self._waiting.put(job)

    def stop(self) -> None:
        """Start no further mail; waiting jobs come back now, those under way when they are finished."""
        self._stopping.set()
        # Nothing of a mail has left while its connection waits for the program that prints the password or the token.
        end_running_commands()
        for job in _take_all(self._waiting):
            self._inbox.put(FinishedJob(job, None))

    def close(self) -> None:
        """Stop, and wait until the connections are closed."""
        self.stop()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            transport = self._transport()
            retrying = Retrying(
                retry=retry_if_exception(_is_temporarily_unavailable),
                stop=stop_after_attempt(MOST_SERVER_ATTEMPTS) | stop_when_event_set(self._stopping),
                wait=wait_exponential_jitter(
                    multiplier=FIRST_WAIT_FOR_SERVER, max=LONGEST_WAIT_FOR_SERVER, jitter=FIRST_WAIT_FOR_SERVER
                ),
                sleep=sleep_using_event(self._stopping),
                reraise=True,
            )
            try:
                while (job := self._waiting.get()) is not None:
                    self._inbox.put(FinishedJob(job, self._send(transport, retrying, job)))
            finally:
                transport.close()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the inbox is read
            self._inbox.put(ThreadFailure(error))

    def _send(self, transport: Transport, retrying: Retrying, job: MailJob) -> SendResult | None:
        wait = job.leaves_at - time.monotonic()
        if wait > 0:
            self._stopping.wait(wait)
        if self._stopping.is_set():
            return None

        def deliver() -> Reply:
            try:
                mail = self._build(job)
            except EgecError as error:
                raise DeliveryRefused(error) from None
            with self.seconds_each.timed():
                return retrying(transport.deliver, mail)

        result = send_recorded(job.recorded, deliver, job.password)
        return None if isinstance(result.error, LoginInterrupted) else result


def _is_temporarily_unavailable(error: BaseException) -> bool:
    return isinstance(error, DeliveryRefused) and error.server_unavailable and isinstance(error.error, TemporaryFailure)


def _take_all(queue: "SimpleQueue[_Work | None]") -> list[_Work]:
    """Remove and return the work that no thread has taken from a queue."""
    taken = []
    with suppress(Empty):
        while True:
            work = queue.get_nowait()
            if work is not None:
                taken.append(work)
    return taken


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
