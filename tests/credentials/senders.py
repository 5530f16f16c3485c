"""Senders of mails in simulated time, on a real database: what the mail server sees of their quotas."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import quotas
from egec_cli.credentials.quotas import RunLimits
from egec_cli.settings.types import Rate

START = datetime(2026, 11, 25, 5, 30, tzinfo=UTC)
# How often leases are renewed, in seconds.
HEARTBEAT = 15.0
_numbers = itertools.count()


class Sent(NamedTuple):
    """A mail: the key of its reservation, and when it leaves, reaches the server and is answered, in true seconds."""

    key: int
    leaves: float
    arrives: float
    answered: float


class Simulation:
    """The true time, in seconds; the clock that all processes read; and the mails that reach the server."""

    def __init__(self, context: Context) -> None:
        self.now = 0.0
        self.offset = 0.0
        self._next_heartbeat = HEARTBEAT
        self.context = context._replace(clock=self.clock)
        self.senders: list[Sender] = []
        self.of_the_dead: list[Sent] = []
        self.single: list[float] = []

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.now + self.offset)

    def add_sender(self) -> "Sender":
        sender = Sender(self)
        self.senders.append(sender)
        return sender

    def advance(self, seconds: float) -> None:
        """Let time pass; living senders renew their reservations."""
        end = self.now + seconds
        while self._next_heartbeat <= end:
            self.now = self._next_heartbeat
            self._next_heartbeat += HEARTBEAT
            for sender in self.senders:
                sender.renew()
        self.now = end

    def advance_to_next_departure(self, limits: RunLimits) -> None:
        """Let the time pass until a mail may leave, at most a quarter of an hour."""
        with self.context.database.atomic():
            at = self.clock()
            next_at = quotas.find_next_departure(limits, at)
        self.advance(min((next_at - at).total_seconds(), 900))

    def arrivals(self) -> list[float]:
        """Return when mails reach the server, in order."""
        mails = itertools.chain(self.of_the_dead, *(one.sent for one in self.senders))
        return sorted([*(mail.arrives for mail in mails), *self.single])


class Sender:
    """A process that sends mails of a run; it counts as alive until its lease ends, as on another machine."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._owner = f"far-away/1/boot/1/1/{next(_numbers)}"
        self._under_way: list[Sent] = []
        self.sent: list[Sent] = []

    def take_turn(
        self,
        limits: RunLimits,
        *,
        wanted: int,
        latency: float = 0.05,
        reached_after: float = 0.5,
        left: int | None = None,
    ) -> int:
        """Settle, plan and reserve as a worker does, and return the number of new mails.

        Args:
            latency: how long the server takes to answer, in seconds.
            reached_after: the part of it after which the mail has reached the server.
            left: how many mails of the run are left (default: only those wanted).
        """
        self.settle()
        simulation, left = self._simulation, wanted if left is None else left
        with simulation.context.database.atomic():
            at = simulation.clock()
            moments = quotas.plan_departures(limits, at, wanted=wanted, has_more_than=lambda number: left > number)
            key = quotas.reserve(limits, moments, self._owner) if moments else None
        for moment in moments if key is not None else []:
            assert key is not None
            leaves = simulation.now + (moment - at).total_seconds()
            self._under_way.append(Sent(key, leaves, leaves + latency * reached_after, leaves + latency))
        self.sent += self._under_way[len(self._under_way) - len(moments) :]
        return len(moments)

    def settle(self) -> None:
        """Settle the mails that were answered."""
        simulation = self._simulation
        answered = [mail for mail in self._under_way if mail.answered <= simulation.now]
        with simulation.context.database.atomic():
            at = simulation.clock()
            ended = [(mail.key, at - timedelta(seconds=simulation.now - mail.answered)) for mail in answered]
            quotas.settle_mails(ended, self._owner, at)
        self._under_way = [mail for mail in self._under_way if mail not in answered]

    def renew(self) -> None:
        """Do what a worker does at each heartbeat."""
        if self._under_way:
            self.settle()
            with self._simulation.context.database.atomic():
                keys = {mail.key for mail in self._under_way}
                quotas.extend_reservations(keys, self._owner, self._simulation.clock())

    def stop(self) -> None:
        """Give back the mails that have not left."""
        waiting = [mail for mail in self._under_way if mail.leaves > self._simulation.now]
        with self._simulation.context.database.atomic():
            given_back = [(mail.key, None) for mail in waiting]
            quotas.settle_mails(given_back, self._owner, self._simulation.clock())
        self._under_way = [mail for mail in self._under_way if mail not in waiting]
        self.sent = [mail for mail in self.sent if mail not in waiting]

    def die(self) -> None:
        """End without settling: what has not reached the server does not."""
        simulation = self._simulation
        simulation.senders.remove(self)
        simulation.of_the_dead += [mail for mail in self.sent if mail.arrives <= simulation.now]


def find_most(arrivals: Iterable[float], seconds: float) -> int:
    """Return the highest number of arrivals in any window of this length."""
    ordered, most, first = sorted(arrivals), 0, 0
    for last, end in enumerate(ordered):
        # Times are in whole microseconds.
        while ordered[first] <= end - seconds + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


def require_quotas(arrivals: Iterable[float], rate: Rate) -> None:
    """Require that no window has more mails than its quota."""
    seen = list(arrivals)
    assert [(quota, most) for quota in rate if (most := find_most(seen, quota.seconds)) > quota.number] == []
