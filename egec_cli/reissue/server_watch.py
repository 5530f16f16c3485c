"""Tell refusals of one recipient from refusals of us, by whether different clients get the same answer.

A server that refuses everybody (a used-up quota, a blocked sender) must not make a run fail for thousands of clients.
So the answers that may concern other mails too are compared: the run has to pause once the same answer has come for
`MOST_IN_A_ROW` different clients in a row, or for more clients than `_LARGEST_SHARE` of the last `_LAST` mails.
Refusals that concern only their recipient never count.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from egec_cli.errors import ExitCode
from egec_cli.mail.transports.answers import same_answer
from egec_cli.mail.transports.interface import Cause
from egec_cli.reissue.threads import MAY_CONCERN_OTHERS, FinishedJob

MOST_IN_A_ROW = 5
_LAST = 50
_LARGEST_SHARE = 0.2


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


class _Answer(NamedTuple):
    """The answer to one of the last mails.

    Attributes:
        key: the same for the same refusal of different clients; None for an accepted mail.
        counts: false if the mail was under way when the same refusal came before: it says nothing new.
    """

    finished: FinishedJob
    key: str | None
    counts: bool


class ServerWatch:
    """The answers of a mail server to the last mails of one worker.

    Attributes:
        refusal: the answer that comes for everybody; None while the server works.
    """

    def __init__(self) -> None:
        self._last: deque[_Answer] = deque(maxlen=_LAST)
        self.refusal: FinishedJob | None = None

    def add(self, finished: FinishedJob) -> None:
        """Note the answer to a mail."""
        result = finished.result
        if result is None or (result.error is not None and not is_doubtful(finished)):
            return
        if result.error is None:
            self._last.append(_Answer(finished, None, counts=True))
            return
        key = same_answer(result.outcome.server_reply or result.error.message)
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
        return len(row) >= MOST_IN_A_ROW or len(refused) > _LARGEST_SHARE * _LAST

    def is_undecided(self, finished: FinishedJob) -> bool:
        """Return whether a refusal is among the last answers, so that it may still prove to concern everybody."""
        return any(one.finished is finished for one in self._last)

    def has_accepted_since(self, finished: FinishedJob) -> bool:
        """Return whether the server has accepted a mail that was sent after this refusal."""
        return any(one.key is None and one.finished.began_at > finished.ended_at for one in self._last)

    def accepted_per_second(self) -> float | None:
        """Return the speed of the last accepted mails; None if there are too few."""
        accepted = [one.finished for one in self._last if one.key is None]
        took = accepted[-1].ended_at - accepted[0].began_at if accepted else 0.0
        return len(accepted) / took if took > 0 else None

    @property
    def deferred(self) -> Sequence[FinishedJob]:
        """The temporary refusals among the last answers."""
        return [one.finished for one in self._last if one.key is not None and is_for_now(one.finished)]
