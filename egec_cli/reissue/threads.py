"""The threads of a re-issue run: some hash, as many as there are cores, and some mail, each by a connection of its own.

They never touch the database. What they have done comes back through one inbox, in the order in which it was done.
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
from egec_cli.mail.transports.interface import DeliveryRefused, Reply, Transport
from egec_cli.password import Password, generate_password
from egec_cli.reissue.items import Claimed
from egec_cli.settings.schema import Settings

# So many times in a row a connection finds the mail server away before the run is paused.
MOST_TIMES_AWAY = 5
# How long it waits between them, in seconds: twice as long each time, and up to a second more.
FIRST_WAIT_FOR_SERVER = 1.0
LONGEST_WAIT_FOR_SERVER = 30.0
# How much the last duration counts in the mean of them.
_WEIGHT = 0.1


class Hashed(NamedTuple):
    """A password made for a claimed item, with its hash."""

    item: Claimed
    password: Password
    password_hash: str


class Addressee(NamedTuple):
    """The client of a mail; the fields are those of the client's row when the credential was recorded."""

    key: int
    identifier: str
    email: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: datetime | None
    active_sequence: int


class Job(NamedTuple):
    """A mail to send, for a credential that is recorded.

    Attributes:
        leaves_at: not before this moment of the monotonic clock, in seconds.
    """

    item: Claimed
    addressee: Addressee
    recorded: RecordedCredential
    password: Password
    message_id: str
    issued_at: datetime
    leaves_at: float


class Sent(NamedTuple):
    """What became of a job; `attempt` is None where it was not begun."""

    job: Job
    attempt: SendResult | None


class Broken(NamedTuple):
    """A thread has met what nobody expected."""

    defect: BaseException


Inbox = SimpleQueue[Hashed | Sent | Broken]
_Work = TypeVar("_Work")


class Hashers:
    """Threads that make passwords and hash them."""

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self._settings = settings
        self._inbox = inbox
        self._waiting: SimpleQueue[Claimed | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name="bcrypt", daemon=True) for _ in range(settings.workers)]
        self.seconds_each = _Mean()
        for thread in self._threads:
            thread.start()

    def put(self, items: Sequence[Claimed]) -> None:
        """Make passwords for these."""
        for item in items:
            self._waiting.put(item)

    def close(self) -> None:
        """Begin no other hash. Nobody waits for those under way."""
        _emptied(self._waiting)
        for _ in self._threads:
            self._waiting.put(None)

    def _run(self) -> None:
        alphabet, cost = self._settings.alphabet, self._settings.bcrypt_cost
        try:
            while (item := self._waiting.get()) is not None:
                password = generate_password(alphabet)
                with self.seconds_each.timed():
                    password_hash = hash_password(password, cost)
                self._inbox.put(Hashed(item, password, password_hash))
        except BaseException as defect:  # noqa: BLE001 - it is raised again where the inbox is read
            self._inbox.put(Broken(defect))


class Senders:
    """Threads that mail, each by a transport of its own.

    A server that is away is waited for a while, with the mail in hand: nothing of it has left.
    """

    def __init__(
        self, settings: Settings, transport: Callable[[], Transport], build: Callable[[Job], Mail], inbox: Inbox
    ) -> None:
        """Begin to wait for jobs.

        Args:
            settings: how many connections there may be.
            transport: makes one of them.
            build: makes the mail of a job; raises `EgecError` where it cannot.
            inbox: where what was done comes back.
        """
        self._transport = transport
        self._build = build
        self._inbox = inbox
        self._waiting: SimpleQueue[Job | None] = SimpleQueue()
        self._stopping = Event()
        self.seconds_each = _Mean()
        number = settings.mail_connections
        self._threads = [Thread(target=self._run, name=f"mail {n}", daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def put(self, jobs: Sequence[Job]) -> None:
        """Send these."""
        for job in jobs:
            self._waiting.put(job)

    def stop(self) -> None:
        """Begin no other mail; those that were not begun come back at once, those under way when they are through."""
        self._stopping.set()
        for job in _emptied(self._waiting):
            self._inbox.put(Sent(job, None))

    def close(self) -> None:
        """Wait until the connections have said goodbye."""
        self.stop()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            transport = self._transport()
            retrying = Retrying(
                retry=retry_if_exception(_may_come_back),
                stop=stop_after_attempt(MOST_TIMES_AWAY) | stop_when_event_set(self._stopping),
                wait=wait_exponential_jitter(
                    multiplier=FIRST_WAIT_FOR_SERVER, max=LONGEST_WAIT_FOR_SERVER, jitter=FIRST_WAIT_FOR_SERVER
                ),
                sleep=sleep_using_event(self._stopping),
                reraise=True,
            )
            try:
                while (job := self._waiting.get()) is not None:
                    self._inbox.put(Sent(job, self._sent(transport, retrying, job)))
            finally:
                transport.close()
        except BaseException as defect:  # noqa: BLE001 - it is raised again where the inbox is read
            self._inbox.put(Broken(defect))

    def _sent(self, transport: Transport, retrying: Retrying, job: Job) -> SendResult | None:
        wait = job.leaves_at - time.monotonic()
        if wait > 0:
            self._stopping.wait(wait)
        if self._stopping.is_set():
            return None

        def act() -> Reply:
            try:
                mail = self._build(job)
            except EgecError as error:
                raise DeliveryRefused(error) from None
            with self.seconds_each.timed():
                return retrying(transport.deliver, mail)

        return send_recorded(job.recorded, act, job.password)


def _may_come_back(error: BaseException) -> bool:
    return isinstance(error, DeliveryRefused) and error.server_unavailable and isinstance(error.error, TemporaryFailure)


def _emptied(queue: "SimpleQueue[_Work | None]") -> list[_Work]:
    """Take out of a queue what nobody has begun with."""
    taken = []
    with suppress(Empty):
        while True:
            work = queue.get_nowait()
            if work is not None:
                taken.append(work)
    return taken


class _Mean:
    """How long something takes at present, in seconds; None before it was done once. Threads may share it."""

    def __init__(self) -> None:
        self.value: float | None = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count how long the block takes, unless it raises."""
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
        self.value = taken if self.value is None else self.value + _WEIGHT * (taken - self.value)
