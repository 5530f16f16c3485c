"""Tell refusals of one recipient from refusals of us, by whether different clients get the same answer.

A server that refuses everybody (a used-up quota, a blocked sender) must not make a run fail for thousands of clients.
So the answers that may concern other mails too are compared: the run has to pause once the same answer has come for
`MOST_IN_A_ROW` different clients in a row, or for more clients than `_LARGEST_SHARE` of the last `_LAST` mails.
Refusals that concern only their recipient never count. A server may also drop the connection at each mail: that is one
answer too, but only in a row. If it came after the data of the mail, the mail stays in doubt and counts as an attempt.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from egec_cli.errors import ExitCode
from egec_cli.mail.transports.interface import Cause
from egec_cli.mail.transports.reply_rules import same_answer
from egec_cli.reissue import backoff
from egec_cli.reissue.items import DeferredItem
from egec_cli.reissue.threads import MAY_CONCERN_OTHERS, FinishedJob
from egec_cli.store.models import CredentialState

MOST_IN_A_ROW = 5
_LAST = 50
_LARGEST_SHARE = 0.2
# The key of lost answers and connections, which no answer has.
_LOST = "?"


def is_server_wide(finished: FinishedJob) -> bool:
    """Return whether a mail failed for a reason that certainly concerns any other mail too."""
    result = finished.result
    if result is None or result.error is None:
        return False
    return result.cause is Cause.UNREACHABLE or result.error.exit_code not in {
        ExitCode.INVALID_INPUT,
        ExitCode.TEMPORARY_FAILURE,
        ExitCode.NOT_PERMITTED,
    }


def is_doubtful(finished: FinishedJob) -> bool:
    """Return whether a mail was refused for a reason that may concern other mails too."""
    result = finished.result
    is_refused = result is not None and result.error is not None and result.cause in MAY_CONCERN_OTHERS
    return is_refused and not is_server_wide(finished)


def is_throttled(finished: FinishedJob) -> bool:
    """Return whether the mail server asks for fewer mails or connections."""
    result = finished.result
    return result is not None and result.cause in {Cause.THROTTLED, Cause.CONNECTIONS} and is_for_now(finished)


def is_for_now(finished: FinishedJob) -> bool:
    """Return whether a mail was refused temporarily, or its answer was lost."""
    error = None if finished.result is None else finished.result.error
    return error is not None and error.exit_code is ExitCode.TEMPORARY_FAILURE


def is_accepted(finished: FinishedJob) -> bool:
    """Return whether the server accepted the mail."""
    return finished.result is not None and finished.result.outcome.state is CredentialState.ACCEPTED


def is_lost(finished: FinishedJob) -> bool:
    """Return whether the answer to a mail was lost, so that its delivery is in doubt."""
    return finished.result is not None and finished.result.outcome.state is CredentialState.IN_DOUBT


class _Answer(NamedTuple):
    """The answer to one of the last mails.

    Attributes:
        key: the same for the same refusal of different clients, and for lost answers and connections; None for an
            accepted mail.
        counts: false if the mail was under way when the same refusal came before: it says nothing new.
    """

    finished: FinishedJob
    key: str | None
    counts: bool


class ServerWatch:
    """The answers of a mail server to the last mails of one worker.

    Attributes:
        refusal: the answer that comes for everybody; None while the server works.
        withheld: the refusals for good that may concern everybody, by the key of the item: their clients fail once it
            is certain that they do not.
    """

    def __init__(self) -> None:
        self._last: deque[_Answer] = deque(maxlen=_LAST)
        self.refusal: FinishedJob | None = None
        self.withheld: dict[int, FinishedJob] = {}

    def add(self, finished: FinishedJob) -> None:
        """Note the answer to a mail."""
        result = finished.result
        if result is None or not (result.error is None or is_doubtful(finished) or is_lost(finished)):
            return
        if result.error is None:
            self._last.append(_Answer(finished, None, counts=True))
            return
        if not is_for_now(finished):
            self.withheld[finished.job.item.key] = finished
        is_dropped = is_lost(finished) or result.cause is Cause.DROPPED
        key = _LOST if is_dropped else same_answer(result.outcome.server_reply or result.error.message)
        self._last.append(_Answer(finished, key, counts=not self._is_echo(finished, key)))
        if self.refusal is None and self._comes_for_everybody(key):
            self.refusal = finished

    def _is_echo(self, finished: FinishedJob, key: str) -> bool:
        """Return whether a mail was under way when the server began to refuse for now: waiting may help the next."""
        same = (one.finished for one in self._last if one.key == key and one.counts)
        return is_for_now(finished) and any(finished.began_at < one.ended_at for one in same)

    def _comes_for_everybody(self, key: str) -> bool:
        counted = [one for one in self._last if one.counts]
        row = set()
        for one in reversed(counted):
            if one.key != key:
                break
            row.add(one.finished.job.item.client)
        refused = {one.finished.job.item.client for one in counted if one.key == key}
        return len(row) >= MOST_IN_A_ROW or (key != _LOST and len(refused) > _LARGEST_SHARE * _LAST)

    def accepted_per_second(self) -> float | None:
        """Return the speed of the last accepted mails; None if there are too few."""
        accepted = [one.finished for one in self._last if one.key is None]
        took = accepted[-1].ended_at - accepted[0].began_at if accepted else 0.0
        return len(accepted) / took if took > 0 else None

    def decide(self, pauses: int, *, has_nothing_left: bool) -> list[FinishedJob]:
        """Return the withheld refusals that concern only their recipients.

        Args:
            pauses: how often the run has paused since the last accepted mail.
            has_nothing_left: whether no further answer is to come that could decide.
        """
        return [
            one
            for one in self.withheld.values()
            if not self._may_come_for_everybody(one) or (has_nothing_left and not self._seems_blocked(one, pauses))
        ]

    def _may_come_for_everybody(self, refusal: FinishedJob) -> bool:
        return any(one.finished is refusal for one in self._last)

    def _seems_blocked(self, refusal: FinishedJob, pauses: int) -> bool:
        """Return whether the last client of a run is refused as the server blocks us.

        If that is still so after the longest wait, it concerns only this client: otherwise the run would never end.
        """
        is_about_us = refusal.result is not None and refusal.result.cause is Cause.BLOCKED
        has_waited = pauses >= len(backoff.WAITS)
        return is_about_us and not has_waited and not self._has_accepted_since(refusal)

    def _has_accepted_since(self, refusal: FinishedJob) -> bool:
        return any(one.key is None and one.finished.began_at > refusal.ended_at for one in self._last)

    def attempts_to_take_back(self, settled: Sequence[FinishedJob]) -> list[DeferredItem]:
        """Return the clients whose last attempts have failed for now by answers that may concern everybody.

        Args:
            settled: those that were settled just now, without counting an attempt.
        """
        not_counted = {id(one) for one in settled}
        deferred = [one.finished for one in self._last if is_doubtful(one.finished) and is_for_now(one.finished)]
        refused = [one.job.item for one in deferred if id(one) not in not_counted]
        failed = {item.key: item.attempts + 1 for item in refused}
        taken_back = Counter(item.key for item in refused)
        return [DeferredItem(key, attempts, taken_back[key]) for key, attempts in failed.items()]
