"""What a worker has under way, from the claim to the settled answer, and the pace at which it takes and mails more.

The pace follows the quotas of the run and the slower rate that the mail server asks for.
"""

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import leases, quotas
from egec_cli.credentials.quotas import RunLimits
from egec_cli.reissue import items, messages, runs
from egec_cli.reissue.backoff import Throttle, slow_down, speed_up
from egec_cli.reissue.items import ClaimedItem, ItemRecord
from egec_cli.reissue.runs import Orders
from egec_cli.reissue.server_watch import ServerWatch, is_accepted, is_throttled
from egec_cli.reissue.threads import FinishedJob, HashedPassword, Hashers, MailJob, Senders
from egec_cli.store.models import ReissueRun

# At most this many claimed items wait to be hashed, and as many recorded mails wait to leave.
_MOST_AT_ONCE = 500


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


class Pace:
    """The pace of one worker; its functions run inside the transaction of a turn."""

    def __init__(
        self,
        context: Context,
        run: ReissueRun,
        watch: ServerWatch,
        work: WorkUnderWay,
        hashers: Hashers,
        senders: Senders,
    ) -> None:
        self._context = context
        self._run = run
        self._watch = watch
        self._work = work
        self._hashers = hashers
        self._senders = senders

    def limits(self, orders: Orders) -> RunLimits:
        """Return what limits the mails of the run at present."""
        # Until a mail is accepted again, the wait after each refusal is long enough.
        slowest = None if orders.throttle is None or orders.throttle.is_probing else orders.throttle.rate
        return RunLimits(orders.rate, self._context.settings.mail_reserve, slowest)

    def adapt_rate(self, orders: Orders, finished: Sequence[FinishedJob], at: datetime) -> Throttle | None:
        """Slow the run down for each refusal that asks for it, and speed it up again for accepted mails."""
        accepted = sum(map(is_accepted, finished))
        if accepted and orders.pauses:
            runs.forget_pauses(self._run)
        throttled = [one for one in finished if is_throttled(one)]
        if not throttled and (orders.throttle is None or not accepted):
            return orders.throttle
        now = time.monotonic()

        def change(throttle: Throttle | None) -> Throttle | None:
            if throttle is not None and accepted:
                throttle = speed_up(throttle, accepted)
            for one in throttled:
                began_at = at - timedelta(seconds=now - one.began_at)
                # Mails that were under way when the rate was halved say nothing about the new one. A later time was
                # stored before the clock was set back.
                if throttle is None or not began_at < throttle.refused_at <= at:
                    throttle = slow_down(throttle, self._speed(orders), messages.refusal_words(one), at)
            return throttle

        return runs.change_throttle(self._run, change)

    def _speed(self, orders: Orders) -> float:
        """Return the present speed, in mails per second."""
        speed = self._watch.accepted_per_second() or 1.0
        limits = self.limits(orders._replace(throttle=None))
        return min(speed, timedelta(seconds=1) / limits.interval) if limits.is_limited else speed

    def plan_departures(self, orders: Orders, at: datetime) -> list[datetime]:
        """Return when the next mails may leave: immediately if nothing limits them."""
        unsettled, most = len(self._work.sending), self._most_sending()
        throttle, limits = orders.throttle, self.limits(orders)
        if throttle is not None:
            if throttle.is_waiting(at):
                return []
            if throttle.is_probing:
                most = 1
        room = min(len(self._work.hashed), most - (unsettled - len(self._work.finished)))
        if not limits.is_limited:
            return [at] * room
        # Mails under way count already.
        return quotas.plan_departures(
            limits, at, wanted=room, has_more_than=lambda number: items.has_more_left(self._run, number + unsettled)
        )

    def room_to_claim(self, waiting: int, limits: RunLimits) -> int:
        """Return how many items to claim, if this number of hashed passwords waits to be recorded."""
        most = self._most_sending()
        if limits.is_limited:
            most = min(most, ceil(timedelta(seconds=1) / limits.interval))
        if waiting >= most:
            return 0
        hashed_per_second = _work_per_second(self._context.settings.workers, self._hashers.seconds_each.value)
        return hashed_per_second - len(self._work.hashing)

    def _most_sending(self) -> int:
        return _work_per_second(self._context.settings.mail_connections, self._senders.seconds_each.value)

    def find_next_departure(self, orders: Orders, at: datetime) -> datetime:
        """Return when the next mail may leave."""
        throttle, limits = orders.throttle, self.limits(orders)
        if throttle is not None and throttle.is_waiting(at):
            return throttle.next_mail_at
        return quotas.find_next_departure(limits, at) if limits.is_limited else at


def _work_per_second(threads: int, seconds_each: float | None) -> int:
    """Return how many pieces of work these threads finish in a second: at least enough to keep all of them busy."""
    least = 4 * threads
    if seconds_each is None:
        return least
    return min(max(least, int(threads / max(seconds_each, 1e-6))), max(least, _MOST_AT_ONCE))
