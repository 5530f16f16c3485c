"""What became of a client's mails, for a help desk that is told “I never received it”."""

import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.store.models import Client, Credential, CredentialState, Event
from egec_cli.store.sql import rfc3339_sql, stream_rows

MAILS_SHOWN = 10


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


def list_mails(context: Context, client: Client, *, most: int | None = MAILS_SHOWN) -> Sequence[MailRecord]:
    """Return the last mails of a client, or all of them where `most` is None, the latest first.

    One that was being sent when its program crashed is told as in doubt, which it is.
    """
    rows = Credential.select().where(Credential.client == client).order_by(Credential.sequence.desc()).limit(most)
    under_way = leases.is_being_mailed(context, client)
    return [_record(row, under_way) for row in rows]


def _record(row: Credential, under_way: bool) -> MailRecord:
    state = CredentialState(row.state)
    return MailRecord(
        sequence=row.sequence,
        state=CredentialState.IN_DOUBT if state is CredentialState.SENDING and not under_way else state,
        issued_at=clock.to_rfc3339(row.created_at),
        settled_at=clock.to_rfc3339_or_none(row.settled_at),
        first_used_at=clock.to_rfc3339_or_none(row.first_used_at),
        expires_at=clock.to_rfc3339_or_none(row.expires_at),
        message_id=row.message_id,
        server_reply=row.server_reply,
        failure=row.failure,
        issued_by=row.issued_by,
        bounced_at=clock.to_rfc3339_or_none(row.bounced_at),
        bounce=row.bounce,
    )


EVENTS_SHOWN = 50
_ISSUE = "credential.issue"


class HistoryEntry(NamedTuple):
    """Something that happened to a client.

    Attributes:
        at: when, as RFC 3339 in UTC.
        what: what was done, such as `client.create` or `login`.
        outcome: how it ended, a stable word.
        by: the user of the operating system who did it, or for whom a program did; None where it was not recorded.
        details: more of it; of a mail: its `sequence`, `state` at present, `message_id`, `server_reply`, `failure` and
            `bounce`.
    """

    at: str
    what: str
    outcome: str
    by: str | None
    details: dict[str, Any]


class History(NamedTuple):
    """What happened to a client, the oldest first, and whether what came before it is left out."""

    entries: Sequence[HistoryEntry]
    is_cut: bool


def load_history(context: Context, client: Client, *, most: int | None = EVENTS_SHOWN) -> History:
    """Return the last of what happened to a client, or all of it where `most` is None."""
    # One more than is shown tells that there is more.
    limit = None if most is None else most + 1
    issued = list_mails(context, client, most=limit)
    by_sequence = {mail.sequence: mail for mail in issued}
    entries = [_with_mail(entry, by_sequence) for entry in _events(client, limit)]
    settled = {entry.details.get("sequence") for entry in entries if entry.what == _ISSUE}
    if limit is None or len(entries) < limit:
        entries += _beginning(client, entries)
    oldest = min((entry.at for entry in entries), default="")
    # What is under way, or was when its program crashed, has no event yet.
    entries += [
        _unsettled(mail)
        for mail in issued
        if mail.sequence not in settled and (limit is None or mail.issued_at > oldest)
    ]
    entries.sort(key=attrgetter("at"))
    if most is None or len(entries) <= most:
        return History(entries, is_cut=False)
    return History(entries[-most:], is_cut=True)


def _events(client: Client, limit: int | None) -> list[HistoryEntry]:
    """Return the last events of a client, the oldest first."""
    query = (
        Event.select(rfc3339_sql(Event.at), Event.action, Event.outcome, Event.actor, Event.details)
        .where(Event.client == client)
        .order_by(Event.id.desc())
        .limit(limit)
    )
    events = [HistoryEntry._make((*row[:4], json.loads(row[4]))) for row in stream_rows(query)]
    return events[::-1]


def _beginning(client: Client, entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """Return how the file came about, where no event tells it: as after an import, or where old events are gone."""
    if any(entry.what in {"client.create", "client.import"} for entry in entries):
        return []
    return [HistoryEntry(clock.to_rfc3339(client.created_at), "client.create", "created", None, {})]


def _with_mail(entry: HistoryEntry, by_sequence: dict[int, MailRecord]) -> HistoryEntry:
    mail = by_sequence.get(entry.details.get("sequence", 0)) if entry.what == _ISSUE else None
    return entry if mail is None else entry._replace(details=_details(mail))


def _unsettled(mail: MailRecord) -> HistoryEntry:
    return HistoryEntry(mail.issued_at, _ISSUE, mail.state, mail.issued_by, _details(mail))


def _details(mail: MailRecord) -> dict[str, Any]:
    names = ("sequence", "state", "bounce", "failure", "server_reply", "message_id")
    return {name: getattr(mail, name) for name in names if getattr(mail, name) is not None}
