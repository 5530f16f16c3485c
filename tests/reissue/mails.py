"""Jobs of a run and their results, without a database."""

import time
from datetime import UTC, datetime

from egec_cli.credentials.issue import SendResult
from egec_cli.credentials.states import MailOutcome, RecordedCredential
from egec_cli.errors import AddressRefused, EgecError, InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.mail.transports.interface import Cause
from egec_cli.password import Password
from egec_cli.reissue.items import ClaimedItem
from egec_cli.reissue.threads import FinishedJob, MailJob, Recipient
from egec_cli.store.models import CredentialState

AT = datetime(2026, 11, 24, 3, 30, tzinfo=UTC)


def job_of(client: int, *, leaves_in: float = 0.0) -> MailJob:
    """Return the mail of a client, which may leave after some seconds."""
    return MailJob(
        ClaimedItem(client, client, None, 0, None),
        Recipient(client, f"{client:010}", f"c{client}@example.org", "", "Jeanne", "Petit", "", None, None, None, 0),
        RecordedCredential(client, client, 1),
        Password("fG69a*6jH"),
        f"<{client}@egec.example.org>",
        AT,
        time.monotonic() + leaves_in,
        None,
    )


def accepted(client: int, *, began_at: float, took: float = 0.1) -> FinishedJob:
    """Return the result of an accepted mail."""
    job = job_of(client)
    outcome = MailOutcome(job.recorded, CredentialState.ACCEPTED, server_reply="250 OK")
    return FinishedJob(job, SendResult(outcome), began_at, began_at + took)


def lost(client: int, *, began_at: float, took: float = 0.1) -> FinishedJob:
    """Return the result of a mail whose answer was lost."""
    job = job_of(client)
    outcome = MailOutcome(job.recorded, CredentialState.IN_DOUBT, "in_doubt")
    return FinishedJob(job, SendResult(outcome, TemporaryFailure("lost")), began_at, began_at + took)


def refused(
    client: int, reply: str, cause: Cause, *, began_at: float, took: float = 0.1, for_good: bool = False
) -> FinishedJob:
    """Return the result of a refused mail."""
    job = job_of(client)
    outcome = MailOutcome(job.recorded, CredentialState.REFUSED, "refused", reply)
    return FinishedJob(job, SendResult(outcome, _error(cause, for_good=for_good), cause), began_at, began_at + took)


def _error(cause: Cause, *, for_good: bool) -> EgecError:
    if not for_good:
        return TemporaryFailure("refused for now")
    if cause is Cause.RECIPIENT:
        return AddressRefused("refused")
    return PermissionDenied("blocked") if cause is Cause.BLOCKED else InvalidInput("refused")
