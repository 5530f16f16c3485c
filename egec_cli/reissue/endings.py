"""Why a worker ends before its run is done, as errors that say when and how to continue."""

from datetime import datetime

from egec_cli import clock
from egec_cli.errors import EgecError, ExitCode, TemporaryFailure, quoted
from egec_cli.mail.transports.interface import Cause, without_addresses
from egec_cli.reissue import runs
from egec_cli.reissue.server_watch import is_doubtful
from egec_cli.reissue.threads import FinishedJob
from egec_cli.store.models import ReissueRun, RunState
from egec_cli.translation import Words, join_words


def refusal_words(refusal: FinishedJob) -> str:
    """Return what the mail server says in a refusal, or else the error."""
    assert refusal.result is not None
    assert refusal.result.error is not None
    return without_addresses(refusal.result.outcome.server_reply or refusal.result.error.message)


def pause_error(run: ReissueRun, refusal: FinishedJob, until: datetime | None) -> EgecError:
    """Return the error about a run that is paused until then, as the mail server refuses all mails."""
    assert refusal.result is not None
    assert refusal.result.error is not None
    error = refusal.result.error
    is_to_fix = error.exit_code is not ExitCode.TEMPORARY_FAILURE
    if is_doubtful(refusal):
        error = TemporaryFailure(
            "the mail server refuses all mails at present: {reply}",
            error.hint if refusal.result.cause is Cause.BLOCKED else "",
            code="mail_server_refuses",
            reply=refusal_words(refusal),
        )
        is_to_fix = refusal.result.cause is Cause.BLOCKED
    paused = Words("The run is paused and nothing is lost.")
    if until is not None:
        paused = Words("The run is paused until {moment}; nothing is lost.", moment=clock.to_local_text(until))
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
        moment=clock.to_local_text(due),
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
