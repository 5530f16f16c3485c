"""What a worker has under way: clients, passwords and mails, from the claim to the settled answer."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import leases, quotas
from egec_cli.reissue import items
from egec_cli.reissue.items import ClaimedItem, ItemRecord
from egec_cli.reissue.runs import Orders
from egec_cli.reissue.threads import FinishedJob, HashedPassword, MailJob


class TurnResult(NamedTuple):
    """What a turn has changed in the database, for the worker to use once it is committed.

    Attributes:
        finished: the clients who are finished.
        recorded: the number of hashed passwords that were recorded, or whose clients were left to other workers.
        jobs: their mails.
        claimed: new items.
        decided: refusals that were withheld until now.
        orders: what the run has to obey.
        next_due: when the next client is due, if nothing else is left to do until then.
        next_departure: when the next mail may leave, if nothing else is left to do until then.
        is_slowed: whether mails are left that may not leave yet.
        is_done: whether the run is done.
    """

    finished: list[ItemRecord]
    recorded: int
    jobs: list[MailJob]
    claimed: Sequence[ClaimedItem]
    decided: Sequence[FinishedJob]
    orders: Orders
    next_due: datetime | None
    next_departure: datetime | None
    is_slowed: bool
    is_done: bool


class Held(NamedTuple):
    """What a worker holds under leases: items, clients who are being mailed, and reservations, by their keys."""

    items: Collection[int]
    clients: Sequence[int]
    reservations: Collection[int]

    def renew_leases(self, context: Context, owner: str) -> None:
        """Renew the leases, within a transaction."""
        at = context.clock()
        items.extend_items(self.items, owner, at + leases.LEASE)
        leases.extend_leases(context, self.clients, owner)
        quotas.extend_reservations(self.reservations, owner, at)


class WorkUnderWay:
    """The work of one worker.

    Attributes:
        hashing: the items whose passwords are being hashed, by key.
        hashed: the passwords that are not recorded yet.
        sending: the mails that are not settled yet, by the key of their items.
        finished: those of them that are finished, and that the next turn settles.
    """

    def __init__(self) -> None:
        self.hashing: dict[int, ClaimedItem] = {}
        self.hashed: list[HashedPassword] = []
        self.sending: dict[int, MailJob] = {}
        self.finished: list[FinishedJob] = []

    @property
    def is_none(self) -> bool:
        """Whether nothing is under way."""
        return not (self.hashing or self.hashed or self.sending)

    @property
    def all_jobs_are_finished(self) -> bool:
        """Whether each mail is finished."""
        return len(self.sending) == len(self.finished)

    def take_password(self, done: HashedPassword) -> None:
        """Note that a password is hashed."""
        del self.hashing[done.item.key]
        self.hashed.append(done)

    def advance(self, turn: TurnResult) -> None:
        """Note what a turn has settled, recorded and claimed, once it is committed."""
        for one in self.finished:
            del self.sending[one.job.item.key]
        self.finished = []
        del self.hashed[: turn.recorded]
        self.sending |= {job.item.key: job for job in turn.jobs}
        self.hashing |= {item.key: item for item in turn.claimed}

    def held(self, withheld: Collection[int]) -> Held:
        """Return what is held; `withheld` are the keys of items whose refusals are not decided yet."""
        return Held(
            [*self.hashing, *(one.item.key for one in self.hashed), *self.sending, *withheld],
            [job.item.client for job in self.sending.values()],
            {job.reservation for job in self.sending.values() if job.reservation is not None},
        )
