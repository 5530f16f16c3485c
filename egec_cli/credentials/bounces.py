"""Bounces: reports of mails that the mail server accepted but did not deliver.

A report marks the credential and the client's address. It changes nothing about passwords, since anyone can forge one.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.mail import bounces
from egec_cli.mail.bounces import DeliveryStatus, Incoming, Report
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, Event
from egec_cli.store.sql import contains_text, in_list
from egec_cli.translation import Words

# The audit actions of a notice that an account will be closed, and of one to a client's previous address.
_CLOSING = "client.closing"
_ADDRESS_CHANGED = "client.notice"


class BounceOutcome(StrEnum):
    """The outcome of a message that may be a delivery report."""

    MARKED = "marked"
    KNOWN = "known"
    TEMPORARY = "temporary"
    UNKNOWN = "unknown"
    NOT_A_REPORT = "not_a_report"


# The outcomes that a person should look at.
NOT_UNDERSTOOD = (BounceOutcome.UNKNOWN, BounceOutcome.NOT_A_REPORT)


class BounceRecord(NamedTuple):
    """A processed message.

    Attributes:
        identifier: the client's identifier; None if the mail is unknown.
        file: the file of the message.
        line: the line where the message starts.
        outcome: the result; `known` means that nothing changed, `temporary` is a delay, `unknown` a report about an
            unknown mail.
        sequence: the number of the mailed password; None for other mails.
        address: the undeliverable address, as the report names it.
        status: the status code of RFC 3463, such as 5.1.1.
        reason: the mail server's words, or why the message was not used.
    """

    identifier: str | None
    file: str
    line: int
    outcome: BounceOutcome
    sequence: int | None
    address: str
    status: str
    reason: str


def process_messages(context: Context, incoming: Iterator[Incoming]) -> Iterator[BounceRecord]:
    """Mark the mails that delivery reports among these messages name; yield the outcome of each message.

    A repeated report changes nothing. A report of a delay marks nothing.
    """
    for message in incoming:
        report = bounces.read_report(message.content)
        report = report._replace(words=bounces.mask_passwords(report.words, context.settings.alphabet))
        yield _process(context, message, report)


def _process(context: Context, message: Incoming, report: Report) -> BounceRecord:
    credential = _find_credential(report)
    notice = _find_notice(report) if credential is None else None
    found = credential or notice
    client: Client | None = found.client if found else None
    record = BounceRecord(
        client.identifier if client else None,
        message.file,
        message.line,
        BounceOutcome.UNKNOWN,
        credential.sequence if credential else None,
        report.address,
        report.status,
        report.words,
    )
    if report.delivery is DeliveryStatus.NO_FAILURE:
        return record._replace(outcome=BounceOutcome.NOT_A_REPORT, reason=Words("not a report of a failed delivery"))
    if report.delivery is DeliveryStatus.DELAYED:
        return record._replace(outcome=BounceOutcome.TEMPORARY)
    if credential is not None:
        is_new = _mark(context, credential, report)
    elif notice is not None and client is not None:
        # The client has left the address that got a notice of the new one.
        is_new = notice.action == _CLOSING and _mark_by_notice(context, client, notice.at, report)
    else:
        return record._replace(
            reason=Words("unknown mail: {words}", words=report.words) if report.words else Words("unknown mail")
        )
    return record._replace(outcome=BounceOutcome.MARKED if is_new else BounceOutcome.KNOWN)


def _find_credential(report: Report) -> Credential | None:
    """Return the credential whose mail has one of the marks of the report."""
    for mark in report.marks:
        # This searches only the client's credentials, by their unique index.
        begins_so = peewee.fn.SUBSTR(Credential.message_id, 1, len(mark.text) + 2) == f"<{mark.text}@"
        query = Credential.select(Credential, Client).join(Client)
        found: Credential | None = query.where((Credential.client == mark.client) & begins_so).first()
        if found is not None:
            return found
    return None


def _find_notice(report: Report) -> Event | None:
    """Return the event of the notice that has one of the marks of the report."""
    for mark in report.marks:
        # Within the client's events, by their index.
        is_named = contains_text(Event.details, f"<{mark.text}@")
        is_notice = Event.action.in_((_CLOSING, _ADDRESS_CHANGED))
        query = Event.select(Event, Client).join(Client).where(Event.client == mark.client, is_notice)
        found: Event | None = query.where(is_named).first()
        if found is not None:
            return found
    return None


def _mark_by_notice(context: Context, client: Client, sent_at: datetime, report: Report) -> bool:
    """Mark the address of a client whose notice of closing came back. Return False if that changes nothing.

    The address is marked at each client who has it.
    """
    now = context.clock()
    # The event was recorded after the mail had left: the address may have changed between.
    sent_at = min(sent_at, client.closing_notified_at or sent_at)
    with context.database.atomic():
        sharers = [client.id, *states.find_sharers(client.id)]
        states.lock_clients(sharers)
        # Neither an address that has changed since, nor one that a login has shown to work, nor a marked one.
        if states.has_one_arrived_since(sent_at, sharers):
            return False
        is_same = Client.email_changed_at.is_null() | (Client.email_changed_at <= sent_at)
        is_unmarked = Client.email_bounced_at.is_null() | (Client.email_bounced_at < sent_at)
        marks = Client.update(email_bounced_at=now)
        is_living = Client.email.is_null(False)
        if not marks.where((Client.id == client.id) & is_living & is_same & is_unmarked).execute():
            return False
        # Some may have changed their address before they were locked.
        same = [key for key in states.find_sharers(client.id) if key in sharers]
        Client.update(email_bounced_at=now).where(in_list(Client.id, same)).execute()
        record_event(context, "mail.bounce", "marked", client=client, notice=True, status=report.status or None)
    return True


def _mark(context: Context, credential: Credential, report: Report) -> bool:
    """Mark a credential and its client's address. Return False if the credential was marked already.

    The address is marked at each client who has it.
    """
    client, now = credential.client, context.clock()
    bounce = report.words if report.status in report.words else f"{report.status} {report.words}".rstrip()
    with context.database.atomic():
        sharers = [client.id, *states.find_sharers(client.id)]
        states.lock_clients(sharers)
        # The credentials of a client who was erased meanwhile have no Message-ID.
        is_unmarked = Credential.bounced_at.is_null() & Credential.message_id.is_null(False)
        marks = Credential.update(bounced_at=now, bounce=bounce or Words("no reason given"))
        if not marks.where((Credential.id == credential.id) & is_unmarked).execute():
            return False
        # Do not mark the address if it has changed since this mail, or if this mail or a later one has arrived.
        if states.went_to_present_address(client.id, credential) and not states.has_arrived(credential, sharers):
            # Some may have changed their address before they were locked.
            same = [key for key in states.find_sharers(client.id) if key in sharers]
            Client.update(email_bounced_at=now).where(in_list(Client.id, [client.id, *same])).execute()
        # Without the server's words: they may contain the address.
        record_event(
            context, "mail.bounce", "marked", client=client, sequence=credential.sequence, status=report.status or None
        )
    return True
