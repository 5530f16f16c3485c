"""What a worker tells its operator: notes while it works, and errors that say why it ends and how to continue."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf

from egec_cli import clock
from egec_cli.errors import EgecError, ExitCode, TemporaryFailure, quoted
from egec_cli.mail.transports.interface import Cause, without_addresses
from egec_cli.reissue import runs
from egec_cli.reissue.backoff import Throttle
from egec_cli.reissue.server_watch import is_doubtful, is_lost
from egec_cli.reissue.threads import FinishedJob
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.translation import Words, count_words, join_words

# A wait up to this long needs no words.
UNTOLD_WAIT = timedelta(seconds=10)
# How long an operator who has asked to stop waits without words, in seconds.
_UNTOLD_STOP = 1.0


class Notes:
    """What a worker tells while it works: each thing once, and again only if it changes."""

    def __init__(self, tell: Callable[[Words], None]) -> None:
        self._tell = tell
        self._due: datetime | None = None
        self._tells_of_stop_at: float | None = None
        self._has_told_of_one_connection = False

    def tell_what_delays_the_stop(self, *, is_mailing: bool) -> None:
        """Tell an operator who has asked to stop that a mail is under way: its answer may take ten minutes."""
        if self._tells_of_stop_at is None:
            self._tells_of_stop_at = time.monotonic() + _UNTOLD_STOP
        elif time.monotonic() >= self._tells_of_stop_at and is_mailing:
            self._tells_of_stop_at = inf
            self._tell(Words("a mail is under way; press Ctrl-C again to end at once"))

    def tell_of_slower_rate(self, before: Throttle | None, throttle: Throttle) -> None:
        """Tell that the mail server has forced a slower rate than before."""
        if before is None or throttle.halved != before.halved:
            self._has_told_of_one_connection = True
            self._tell(
                count_words(
                    "the mail server asks to slow down; one connection and 0 mails per minute from now on: {reply}",
                    "the mail server asks to slow down; one connection and 1 mail per minute from now on: {reply}",
                    "the mail server asks to slow down; "
                    "one connection and {number} mails per minute from now on: {reply}",
                    round(throttle.rate * 60),
                    reply=throttle.reply,
                )
            )

    def tell_of_one_connection(self, reason: str) -> None:
        """Tell that only one connection is used from now on; `reason` is what the mail server says."""
        if not self._has_told_of_one_connection:
            self._has_told_of_one_connection = True
            self._tell(Words("one connection to the mail server from now on: {reason}", reason=reason))

    def tell_of_wait(self, due: datetime, now: datetime) -> None:
        """Tell until when the worker waits."""
        if due > now + UNTOLD_WAIT and (self._due is None or due > self._due + UNTOLD_WAIT):
            self._due = due
            self._tell(Words("waiting until {moment}, when the next mail is due", moment=clock.to_zoned_text(due)))


def refusal_words(refusal: FinishedJob) -> str:
    """Return what the mail server says in a refusal, or else the error."""
    assert refusal.result is not None
    assert refusal.result.error is not None
    return without_addresses(refusal.result.outcome.server_reply or refusal.result.error.message)


def pause_error(run: ReissueRun, refusal: FinishedJob, until: datetime | None) -> EgecError:
    """Return the error about a run that is paused until then, as the mail server refuses or answers no mail."""
    assert refusal.result is not None
    assert refusal.result.error is not None
    error = refusal.result.error
    is_to_fix = error.exit_code is not ExitCode.TEMPORARY_FAILURE
    if is_lost(refusal):
        error = TemporaryFailure(
            "the mail server's answers to all last mails were lost: {reply}",
            code=error.code,
            reply=refusal_words(refusal),
        )
    elif is_doubtful(refusal) and refusal.result.cause is not Cause.DROPPED:
        error = TemporaryFailure(
            "the mail server refuses all mails at present: {reply}",
            error.hint if refusal.result.cause is Cause.BLOCKED else "",
            code="mail_server_refuses",
            reply=refusal_words(refusal),
        )
        is_to_fix = refusal.result.cause is Cause.BLOCKED
    paused = Words("The run is paused and nothing is lost.")
    if until is not None:
        paused = Words("The run is paused until {moment}; nothing is lost.", moment=clock.to_zoned_text(until))
    resume = Words("{paused} Later: egec reissue resume {name}", paused=paused, name=quoted(run.name))
    error.hint = join_words(" ", [error.hint, resume]) if is_to_fix and error.hint else resume
    return error


def deferral_error(run: ReissueRun, due: datetime) -> TemporaryFailure:
    """Return the error about a run of which nothing is left to do before this moment."""
    return TemporaryFailure(
        "the rest of the run {name} is due at {moment}",
        "Later: egec reissue resume {quoted}",
        code="run_deferred",
        name=run.name,
        quoted=quoted(run.name),
        moment=clock.to_zoned_text(due),
    )


def error_of_state(run: ReissueRun, state: RunState) -> EgecError | None:
    """Return the error about a run that others have cancelled or paused; None in other states."""
    if state is RunState.CANCELLED:
        return runs.cancelled_error(run)
    if state is RunState.PAUSED:
        return TemporaryFailure(
            "the run {name} was paused by another worker, which reports the reason",
            "Type `egec reissue resume {quoted}` to continue.",
            code="run_paused",
            name=run.name,
            quoted=quoted(run.name),
        )
    return None
