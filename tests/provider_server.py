"""A mail server that behaves like those of providers: it greylists, limits, throttles, blocks, and closes connections.

A profile is a list of rules that judge every mail by the server's own clock; the first one that answers wins. The
server records every attempt, so that a test can check what really reached it:

    with ProviderServer(MailLimit((30, 60)), Greylisting(300), ClosesAfter(10)) as server:
        ...                        # the run mails through server.url
        assert server.most_within(60) <= 30
"""

import asyncio
import itertools
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tests.smtp_server import HANG_UP, Answer, Dialogue, Fault, MailServer, Point
from tests.tokens import Tokens

GREYLISTED = "450 4.2.0 Greylisted, see http://postgrey.example.org/help"
OVER_QUOTA = "450 4.7.1 Error: too much mail from this sender, quota exceeded"
TOO_MANY_CONNECTIONS = "421 4.7.0 Too many connections from your host"
TOO_MANY_ON_CONNECTION = "421 4.7.0 Too many messages on this connection"
USER_UNKNOWN = "550 5.1.1 User unknown in virtual mailbox table"
BLOCKED = "554 5.7.1 Service unavailable; your host is blocked by our policy"
ACCEPTED = "250 OK"
CLOSED = "closed"  # what is recorded for a connection that the server closes without an answer
_CLOSING = "421"
_BEFORE_MAIL = frozenset({Point.BANNER, Point.EHLO, Point.STARTTLS, Point.LOGIN})


class Attempt(NamedTuple):
    """A mail that a client tried to send, or a connection that the server turned away.

    Attributes:
        at: when it reached the server, in seconds on the server's clock: the MAIL command, or the connection.
        connection: the number of the connection, from 1.
        recipient: the address; empty if the client did not get so far.
        stage: the last point that it reached.
        answer: the server's last answer; empty if the client left without one.
    """

    at: float
    connection: int
    recipient: str = ""
    stage: Point = Point.MAIL
    answer: str = ""

    @property
    def is_mail(self) -> bool:
        """Whether it counts towards quotas: the client got beyond a connection that the server was about to close."""
        is_closed_early = self.stage is Point.MAIL and self.answer.startswith((_CLOSING, CLOSED))
        return self.stage not in _BEFORE_MAIL and not is_closed_early


class Visit:
    """One connection, as rules see it.

    Attributes:
        number: from 1.
        others: how many other connections were open when it was made.
        attempt: the mail being sent.
        mails: how many mails of this connection were accepted.
        takes_a_place: whether it is open and was not turned away.
    """

    def __init__(self, number: int, others: int, at: float) -> None:
        self.number = number
        self.others = others
        self.attempt = Attempt(at, number, stage=Point.BANNER)
        self.mails = 0
        self.takes_a_place = True


class Rule:
    """One habit of a provider."""

    def delay(self, point: Point) -> float:
        """Return how many seconds the server waits at a point."""
        return 0.0

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        """Return what the server answers instead of its usual answer; None to leave it to the next rules."""
        return None

    def note_answer(self, attempt: Attempt) -> None:
        """Take note of an attempt that was answered, by this rule or another one."""


class Greylisting(Rule):
    """Refuse each recipient for now until some seconds after the first attempt."""

    def __init__(self, seconds: float, answer: str = GREYLISTED) -> None:
        self.seconds = seconds
        self.text = answer
        self._first: dict[str, float] = {}

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        if point is not Point.RCPT:
            return None
        first = self._first.setdefault(visit.attempt.recipient, now)
        return self.text if now < first + self.seconds else None


class MailLimit(Rule):
    """Refuse mails for now above any of these limits, each a number of attempts and a number of seconds.

    Every attempt counts, refused or not, unless an earlier rule refused it at MAIL. Change `limits` to relent.
    """

    def __init__(self, *limits: tuple[int, float], answer: str = OVER_QUOTA, at: Point = Point.RCPT) -> None:
        self.limits = limits
        self.text = answer
        self.point = at
        self._times: list[float] = []

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        if point is Point.MAIL:
            self._times.append(visit.attempt.at)
        if point is not self.point:
            return None
        last = visit.attempt.at
        # Mails of other connections that began later do not count.
        counts = [sum(last - seconds < one <= last for one in self._times) for _, seconds in self.limits]
        is_over = any(count > mails for count, (mails, _) in zip(counts, self.limits, strict=True))
        return self.text if is_over else None


class ConnectionLimit(Rule):
    """Turn away connections while this number of others is open."""

    def __init__(self, most: int, answer: str = TOO_MANY_CONNECTIONS) -> None:
        self.most = most
        self.text = answer

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        return self.text if point is Point.BANNER and visit.others >= self.most else None


class ClosesAfter(Rule):
    """Close a connection after some mails: at the next one, with an answer, or right after the last, without one."""

    def __init__(self, mails: int, answer: str | None = TOO_MANY_ON_CONNECTION) -> None:
        self.mails = mails
        self.text = answer

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        if self.text is None:
            # The answer to the mail, then nothing.
            return CLOSED if point is Point.KEPT and visit.mails >= self.mails else None
        return self.text if point is Point.MAIL and visit.mails >= self.mails else None


class Tarpit(Rule):
    """Wait some seconds before each answer at these points."""

    def __init__(self, seconds: float, points: Iterable[Point] = (Point.EHLO, Point.RCPT, Point.KEPT)) -> None:
        self.seconds = seconds
        self.points = frozenset(points)

    def delay(self, point: Point) -> float:
        return self.seconds if point in self.points else 0.0


class RefusedShare(Rule):
    """Refuse a share of the recipients for good; the address alone decides which."""

    def __init__(self, percent: int, answer: str = USER_UNKNOWN) -> None:
        self.percent = percent
        self.text = answer

    def refuses(self, recipient: str) -> bool:
        """Return whether this recipient is refused."""
        return zlib.crc32(recipient.encode()) % 100 < self.percent

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        return self.text if point is Point.RCPT and self.refuses(visit.attempt.recipient) else None


class Block(Rule):
    """Refuse every mail: from the start, or from the moment when this number of recipients was refused for good.

    Args:
        after: how many refused recipients (5.1.x) start the block; 0 blocks from the start.
        seconds: how long the block lasts; without it, until `relent`.
        answer: what the server answers.
        at: the point where it answers.
    """

    def __init__(
        self, after: int = 0, seconds: float = float("inf"), *, answer: str = BLOCKED, at: Point = Point.RCPT
    ) -> None:
        self.after = after
        self.seconds = seconds
        self.text = answer
        self.point = at
        self.blocks = 0
        self._refused: set[str] = set()
        self._until: float | None = None
        self._has_relented = False

    def relent(self) -> None:
        """End the block for ever."""
        self._has_relented = True

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        if point is not self.point or self._has_relented:
            return None
        if self._until is None:
            if len(self._refused) < self.after:
                return None
            self._until = now + self.seconds
            self.blocks += 1
        if now < self._until:
            return self.text
        self._until = None
        self._refused.clear()
        self._has_relented = self.after == 0
        return None

    def note_answer(self, attempt: Attempt) -> None:
        if attempt.answer.startswith("550 5.1."):
            self._refused.add(attempt.recipient)


class ExpiringTokens(Rule):
    """Revoke all access tokens after a number of mails, also for open connections; the server needs them too."""

    def __init__(self, tokens: Tokens, mails: int) -> None:
        self.tokens = tokens
        self.mails = mails
        self._count = 0

    def answer(self, point: Point, visit: Visit, now: float) -> str | None:
        if point is Point.MAIL:
            self._count += 1
            if self._count % self.mails == 0:
                self.tokens.revoke_all()
        return None


class ProviderServer(MailServer):
    """A mail server with these rules.

    Args:
        rules: the first one that answers wins.
        clock: its clock, in seconds.
        options: those of `MailServer`.
    """

    def __init__(self, *rules: Rule, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(**options)
        self.rules = rules
        self.clock = clock
        self._attempts: list[Attempt] = []
        # The rest is for the server's thread only.
        self._visits: WeakKeyDictionary[object, Visit] = WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._places: dict[int, int] = {}

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts in the order of their beginning, including connections that were turned away."""
        with self._changed:
            return list(self._attempts)

    @property
    def mails_tried(self) -> list[Attempt]:
        """The attempts that count towards quotas."""
        return [one for one in self.attempts if one.is_mail]

    @property
    def answers(self) -> Counter[str]:
        """How often each answer was given to an attempt."""
        return Counter(one.answer for one in self.attempts)

    def most_within(self, seconds: float) -> int:
        """Return the largest number of attempts within any window of this length, open at its end."""
        return most_within([one.at for one in self.mails_tried], seconds)

    async def answer_at(self, point: Point, dialogue: Dialogue) -> Fault | Answer:
        """Let faults, then the rules in their order, answer instead of the server."""
        visit = self._visit(dialogue)
        if point is Point.MAIL:
            self._begin(visit)
        elif point is Point.RCPT:
            self._update(visit, recipient=dialogue.recipient, stage=point)
        if seconds := sum(rule.delay(point) for rule in self.rules):
            await asyncio.sleep(seconds)
        fault = await super().answer_at(point, dialogue)
        if fault is not Fault.NONE:
            return fault
        if point is Point.KEPT:
            visit.mails += 1
            self._update(visit, stage=point, answer=ACCEPTED)
        now = self.clock()
        answers = (rule.answer(point, visit, now) for rule in self.rules)
        text = next((one for one in answers if one is not None), None)
        return Answer() if text is None else self._answer(point, visit, text)

    def _answer(self, point: Point, visit: Visit, text: str) -> Answer:
        if point is Point.KEPT and text == CLOSED:
            return Answer((f"{ACCEPTED}\r\n".encode(), HANG_UP))
        if point in _BEFORE_MAIL:
            self._begin(visit)
        if point is Point.BANNER:
            visit.takes_a_place = False
        self._update(visit, stage=point, answer=text)
        if text == CLOSED:
            return Answer((HANG_UP,))
        line = f"{text}\r\n".encode()
        is_last = point is Point.BANNER or text.startswith(_CLOSING)
        return Answer((line, HANG_UP) if is_last else (line,))

    def _visit(self, dialogue: Dialogue) -> Visit:
        if dialogue not in self._visits:
            others = sum(visit.takes_a_place for visit in self._visits.values())
            self._visits[dialogue] = Visit(next(self._numbers), others, self.clock())
        return self._visits[dialogue]

    def _begin(self, visit: Visit) -> None:
        """Record the beginning of an attempt."""
        visit.attempt = Attempt(self.clock(), visit.number)
        with self._changed:
            self._places[visit.number] = len(self._attempts)
            self._attempts.append(visit.attempt)

    def _update(self, visit: Visit, **known: Any) -> None:
        """Record what is known about the attempt now."""
        visit.attempt = visit.attempt._replace(**known)
        with self._changed:
            self._attempts[self._places[visit.number]] = visit.attempt
        if visit.attempt.answer:
            for rule in self.rules:
                rule.note_answer(visit.attempt)

    def _closed(self, busy: object) -> None:
        visit = self._visits.get(busy) if isinstance(busy, Dialogue) else None
        if visit is not None:
            visit.takes_a_place = False
        super()._closed(busy)


def most_within(times: Sequence[float], seconds: float) -> int:
    """Return the largest number of these times within any window of this length, open at its end."""
    most = 0
    window: deque[float] = deque()
    for last in sorted(times):
        window.append(last)
        while window[0] <= last - seconds:
            window.popleft()
        most = max(most, len(window))
    return most
