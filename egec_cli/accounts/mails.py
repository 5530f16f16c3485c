"""What became of a client's mails, for a help desk that is told “I never received it”."""

from collections.abc import Sequence
from typing import NamedTuple

from egec_cli import clock
from egec_cli.accounts import leases
from egec_cli.accounts.egec import Egec
from egec_cli.store.models import Client, Credential, CredentialState

LAST = 10


class MailRecord(NamedTuple):
    """One credential and what became of its mail. Times are RFC 3339 in UTC.

    Attributes:
        sequence: the number of this password among those of the client.
        state: what became of the mail, and so of the password.
        issued_at: when the password was made.
        settled_at: when it was known what became of the mail.
        first_used_at: when it first opened the account.
        expires_at: from when on it does not open the account if it was never used; None where that is not so.
        message_id: of the mail; None where none was sent.
        server_reply: the mail server's answer.
        failure: why the mail was not accepted, as the code of an error; `interrupted` where the command was stopped
            while the mail was on its way, `not_sent` where a run stopped before it was.
        issued_by: the user of the operating system who made it, or for whom a program did.
        bounced_at: when a report told that the mail had come back.
        bounce: why it came back.
    """

    sequence: int
    state: CredentialState
    issued_at: str
    settled_at: str | None
    first_used_at: str | None
    expires_at: str | None
    message_id: str | None
    server_reply: str | None
    failure: str | None
    issued_by: str
    bounced_at: str | None
    bounce: str | None


def last_of(egec: Egec, client: Client, *, most: int | None = LAST) -> Sequence[MailRecord]:
    """Return the last mails of a client, or all of them where `most` is None, the latest first.

    One that was being sent when its program crashed is told as in doubt, which it is.
    """
    rows = Credential.select().where(Credential.client == client).order_by(Credential.sequence.desc()).limit(most)
    under_way = leases.is_held(egec, client)
    return [_record(row, under_way) for row in rows]


def _record(row: Credential, under_way: bool) -> MailRecord:
    state = CredentialState(row.state)
    return MailRecord(
        sequence=row.sequence,
        state=CredentialState.IN_DOUBT if state is CredentialState.SENDING and not under_way else state,
        issued_at=clock.rfc3339(row.created_at),
        settled_at=clock.rfc3339_or_none(row.settled_at),
        first_used_at=clock.rfc3339_or_none(row.first_used_at),
        expires_at=clock.rfc3339_or_none(row.expires_at),
        message_id=row.message_id,
        server_reply=row.server_reply,
        failure=row.failure,
        issued_by=row.issued_by,
        bounced_at=clock.rfc3339_or_none(row.bounced_at),
        bounce=row.bounce,
    )
