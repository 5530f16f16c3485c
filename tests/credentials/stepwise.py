"""Real issues, step by step: each runs on a thread that stops when it talks to the mail server."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from queue import Queue
from threading import Thread

import pytest

from egec_cli import hashing
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.credentials.issue import IssueResult, issue_by_mail
from egec_cli.credentials.leases import Lease
from egec_cli.errors import EgecError, InvalidInput, TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown, Reply
from egec_cli.store.models import Client, Credential


class End(Enum):
    """How the server answers a mail."""

    ACCEPT = auto()
    REFUSE_ADDRESS = auto()
    REFUSE_FOR_NOW = auto()
    LOSE_ANSWER = auto()


class Abandoned(BaseException):
    """Ends the thread of an issue that counts as crashed."""


class Issue:
    """A real issue on its own thread, stopped before it records the credential and before the server answers."""

    def __init__(self, egec: Context, client: Client, *, revoke: bool) -> None:
        self.hashing = hashing.start_hash(egec.settings)
        self.clear = self.hashing.password.reveal()
        self.revoke = revoke
        self.message_id = ""
        self.kept = False
        self.outcome: IssueResult | EgecError | BaseException | None = None
        self._orders: Queue[object] = Queue()
        self._stops: Queue[str] = Queue()
        self._thread = Thread(target=self._run, args=(egec, client), daemon=True)
        self._thread.start()
        self.place = self._stops.get()

    def _run(self, egec: Context, client: Client) -> None:
        try:
            self.outcome = issue_by_mail(egec, client, self, hashing=self.hashing, revoke=self.revoke)
        except BaseException as failure:  # noqa: BLE001 - tests look at it
            self.outcome = failure
        finally:
            egec.database.close()
            self._stops.put("ended")

    def connect(self) -> None:
        """Stop before the credential is recorded."""
        self._stop_at("prepared")

    def deliver(self, mail: Mail) -> Reply:
        """Stop while the server has the mail, then end as ordered."""
        self.message_id = mail.message_id
        end = self._stop_at("delivering")
        if end is End.REFUSE_ADDRESS:
            raise DeliveryRefused(InvalidInput("no such recipient"), "550 no")
        if end is End.REFUSE_FOR_NOW:
            raise DeliveryRefused(TemporaryFailure("try later"), "451 try later")
        if end is End.LOSE_ANSWER:
            raise DeliveryUnknown("cut")
        return Reply("250 kept")

    def close(self) -> None:
        """Nothing to close."""

    def _stop_at(self, place: str) -> object:
        self._stops.put(place)
        order = self._orders.get()
        if isinstance(order, BaseException):
            raise order
        return order

    def advance(self, order: object = None) -> None:
        """Let the issue run to its next stop or its end."""
        assert self.place != "ended", self.outcome
        self._orders.put(order)
        self.place = self._stops.get()

    def abandon(self) -> None:
        """End the thread."""
        while self.place != "ended":
            self.advance(Abandoned())
        self._thread.join()

    @property
    def sequence(self) -> int:
        """The sequence that was recorded for this issue."""
        found: int = Credential.get(Credential.message_id == self.message_id).sequence
        return found


@contextmanager
def without_leases() -> Iterator[None]:
    """Let every issue run without waiting for a lease."""

    class NoLease(Lease):
        def release(self) -> None:
            """Nothing to release."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "take_lease", lambda _egec, client: NoLease(client, "none"))
        yield
