"""Real issues, step by step: each runs on a thread that stops when it talks to the mail server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from enum import Enum, auto
from queue import Queue
from threading import Thread

import pytest

from egec_cli import hashing
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.credentials.issue import IssueResult, issue_by_mail
from egec_cli.credentials.leases import Lease
from egec_cli.errors import (
    AddressRefused,
    ConfigError,
    EgecError,
    InvalidInput,
    PermissionDenied,
    TemporaryFailure,
)
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, DeliveryUnknown, Reply
from egec_cli.store.models import Client, Credential


class End(Enum):
    """How the server answers a mail."""

    ACCEPT = auto()
    REFUSE_ADDRESS = auto()
    REFUSE_FOR_NOW = auto()
    GREYLIST = auto()
    THROTTLE = auto()
    ALLOW_NO_CONNECTION = auto()
    BLOCK = auto()
    BLOCK_FOR_NOW = auto()
    REFUSE_MESSAGE = auto()
    REFUSE_LOGIN = auto()  # such as for a token that has expired
    GO_AWAY = auto()
    DROP = auto()
    LOSE_ANSWER = auto()


def _refusal(error: EgecError, reply: str | None, cause: Cause) -> Callable[[], DeliveryRefused]:
    # A new error each time: whoever raises it adds hints.
    return lambda: DeliveryRefused(copy(error), reply, cause=cause)


# Refusals of each cause, for now and for good.
REFUSALS = {
    End.REFUSE_ADDRESS: _refusal(AddressRefused("no such recipient"), "550 no", Cause.RECIPIENT),
    End.REFUSE_FOR_NOW: _refusal(TemporaryFailure("try later"), "451 try later", Cause.UNCLEAR),
    End.GREYLIST: _refusal(TemporaryFailure("greylisted"), "450 4.2.0 Greylisted", Cause.RECIPIENT),
    End.THROTTLE: _refusal(TemporaryFailure("too much mail"), "452 4.7.1 Too much mail", Cause.THROTTLED),
    End.ALLOW_NO_CONNECTION: _refusal(TemporaryFailure("too many"), "421 Too many connections", Cause.CONNECTIONS),
    End.BLOCK: _refusal(PermissionDenied("blocked"), "554 5.7.1 Blocked", Cause.BLOCKED),
    End.BLOCK_FOR_NOW: _refusal(TemporaryFailure("blocked"), "451 4.7.1 Blocked using a list", Cause.BLOCKED),
    End.REFUSE_MESSAGE: _refusal(InvalidInput("refused"), "552 5.6.0 Message refused", Cause.UNCLEAR),
    End.REFUSE_LOGIN: _refusal(ConfigError("token expired"), "535 5.7.8 Token expired", Cause.BLOCKED),
    End.GO_AWAY: _refusal(TemporaryFailure("closed"), None, Cause.UNREACHABLE),
    End.DROP: _refusal(TemporaryFailure("dropped"), None, Cause.DROPPED),
}


def answer_with(end: object) -> Reply:
    """Return the reply to a mail, or raise its failure."""
    if isinstance(end, End) and end in REFUSALS:
        raise REFUSALS[end]()
    if end is End.LOSE_ANSWER:
        raise DeliveryUnknown("cut")
    return Reply("250 kept")


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
        return answer_with(self._stop_at("delivering"))

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
