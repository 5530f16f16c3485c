"""The mails and the history of a client, for a help desk that hears “I never received it”."""

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
EVENTS_SHOWN = 50
_ISSUE = "credential.issue"


class MailRecord(NamedTuple):
    """A credential and the state of its mail. Times are RFC 3339 in UTC.

    Attributes:
        sequence: the number of this password among those of the client.
        state: the state of the mail, and so of the password.
        issued_at: when the password was created.
        settled_at: when the result of the mail was known.
        first_used_at: the time of the first login with it.
        expires_at: when it expires if never used; None if it does not expire.
        message_id: of the mail; None if none was sent.
        server_reply: the mail server's answer.
        failure: why the mail was not accepted, as an error code; `interrupted` if the command was stopped while
            sending, `not_sent` if a run stopped before sending.
        issued_by: the user of the operating system who issued it, directly or through a program.
        bounced_at: when a bounce of the mail was reported.
        bounce: the reason of the bounce.
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
    """Return the last mails of a client, latest first; all of them if `most` is None.

    A mail whose sender has crashed is shown as in doubt.
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


def find_closing_notice(client: Client) -> str | None:
    """Return when the client was notified that the account will be closed, as RFC 3339 in UTC.

    None if the client was not notified since the last login and the last change of the address, or if the account is
    closed.
    """
    told_at = client.closing_notified_at
    later = (client.last_login_at, client.email_changed_at)
    if told_at is None or client.disabled_at is not None or any(one is not None and one >= told_at for one in later):
        return None
    return clock.to_rfc3339(told_at)


class HistoryEntry(NamedTuple):
    """An event in the history of a client.

    Attributes:
        at: the time, as RFC 3339 in UTC.
        action: the action, such as `client.create` or `login`.
        outcome: the result, a stable word.
        actor: the user of the operating system who did it, directly or through a program; None if not recorded.
        details: further data; of a mail: its `sequence`, present `state`, `message_id`, `server_reply`, `failure` and
            `bounce`.
    """

    at: str
    action: str
    outcome: str
    actor: str | None
    details: dict[str, Any]


class History(NamedTuple):
    """The history of a client, oldest first; `is_cut` if earlier entries are left out."""

    entries: Sequence[HistoryEntry]
    is_cut: bool


def load_history(context: Context, client: Client, *, most: int | None = EVENTS_SHOWN) -> History:
    """Return the last entries of a client's history; all of them if `most` is None."""
    # One more than is shown, to know if there are more.
    limit = None if most is None else most + 1
    issued = list_mails(context, client, most=limit)
    by_sequence = {mail.sequence: mail for mail in issued}
    entries = [_add_mail_details(entry, by_sequence) for entry in _load_events(client, limit)]
    issues = [entry for entry in entries if entry.action == _ISSUE]
    settled = {entry.details.get("sequence") for entry in issues}
    if client.email is None:
        # Erasing deleted the sequences from the events, which are those of the latest mails.
        settled |= {mail.sequence for mail in issued[: len(issues)]}
    if limit is None or len(entries) < limit:
        entries += _creation(client, entries)
    oldest = min((entry.at for entry in entries), default="")
    # A mail under way, or whose sender has crashed, has no event yet.
    entries += [
        HistoryEntry(mail.issued_at, _ISSUE, mail.state, mail.issued_by, _mail_details(mail))
        for mail in issued
        if mail.sequence not in settled and (limit is None or mail.issued_at > oldest)
    ]
    entries.sort(key=attrgetter("at"))
    if most is None or len(entries) <= most:
        return History(entries, is_cut=False)
    return History(entries[-most:], is_cut=True)


def _load_events(client: Client, limit: int | None) -> list[HistoryEntry]:
    """Return the last events of a client, oldest first."""
    query = (
        Event.select(rfc3339_sql(Event.at), Event.action, Event.outcome, Event.actor, Event.details)
        .where(Event.client == client)
        .order_by(Event.id.desc())
        .limit(limit)
    )
    events = [HistoryEntry._make((*row[:4], json.loads(row[4]))) for row in stream_rows(query)]
    return events[::-1]


def _creation(client: Client, entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """Return an entry for the creation if no event records it: after an import, or if old events were pruned."""
    if any(entry.action in {"client.create", "client.import"} for entry in entries):
        return []
    return [HistoryEntry(clock.to_rfc3339(client.created_at), "client.create", "created", None, {})]


def _add_mail_details(entry: HistoryEntry, by_sequence: dict[int, MailRecord]) -> HistoryEntry:
    mail = by_sequence.get(entry.details.get("sequence", 0)) if entry.action == _ISSUE else None
    return entry if mail is None else entry._replace(details=_mail_details(mail))


def _mail_details(mail: MailRecord) -> dict[str, Any]:
    names = ("sequence", "state", "bounce", "failure", "server_reply", "message_id")
    return {name: getattr(mail, name) for name in names if getattr(mail, name) is not None}
