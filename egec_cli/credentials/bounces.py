"""Bounces: mails that came back after the mail server had accepted them, so that their clients never got them.

A report marks the credential and the address, beside the state of the credential, and changes nothing about passwords:
anybody may write one. What a client can log in with stays what the promises say; that the client has it is another
matter, which the mark is about.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from egec_cli.audit.record import record_event
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.mail import bounces
from egec_cli.mail.bounces import DeliveryStatus, Incoming, Report
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential
from egec_cli.translation import Words


class BounceOutcome(StrEnum):
    """What became of a message that may be a delivery report."""

    MARKED = "marked"
    KNOWN = "known"
    TEMPORARY = "temporary"
    UNKNOWN = "unknown"
    NOT_A_REPORT = "not_a_report"


# Those that somebody should look at.
NOT_UNDERSTOOD = (BounceOutcome.UNKNOWN, BounceOutcome.NOT_A_REPORT)


class BounceRecord(NamedTuple):
    """A message that was read.

    Attributes:
        identifier: of the client whose mail it was; None where none was found.
        file: where the message is.
        line: where it begins there.
        outcome: what became of it: `temporary` tells of a delay, `unknown` of no mail of ours.
        sequence: of the credential whose mail it was.
        address: to whom the mail could not be delivered, as the report says.
        status: the code of RFC 3463, such as 5.1.1.
        reason: the mail server's words, or what is the matter with the message.
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
    """Read messages, mark what the reports among them are about, and yield what became of each.

    A report that comes again changes nothing. One that tells of a delay alone marks nothing.
    """
    for message in incoming:
        report = bounces.read_report(message.content)
        report = report._replace(words=bounces.mask_passwords(report.words, context.settings.alphabet))
        yield _read(context, message, report)


def _read(context: Context, message: Incoming, report: Report) -> BounceRecord:
    credential = _found(report)
    record = BounceRecord(
        credential.client.identifier if credential else None,
        message.file,
        message.line,
        BounceOutcome.UNKNOWN,
        credential.sequence if credential else None,
        report.address,
        report.status,
        report.words,
    )
    if report.delivery is DeliveryStatus.NO_FAILURE:
        return record._replace(outcome=BounceOutcome.NOT_A_REPORT, reason=Words("it tells of no failed delivery"))
    if report.delivery is DeliveryStatus.DELAYED:
        return record._replace(outcome=BounceOutcome.TEMPORARY)
    if credential is None:
        return record._replace(
            reason=Words("it is about no mail that is known: {words}", words=report.words)
            if report.words
            else Words("it is about no mail that is known")
        )
    is_new = _mark(context, credential, report)
    return record._replace(outcome=BounceOutcome.MARKED if is_new else BounceOutcome.KNOWN)


def _found(report: Report) -> Credential | None:
    """Return the credential whose mail has one of the marks of the report."""
    for mark in report.marks:
        # The few of the client are looked through, by the index that they are kept unique with.
        begins_so = peewee.fn.SUBSTR(Credential.message_id, 1, len(mark.text) + 2) == f"<{mark.text}@"
        query = Credential.select(Credential, Client).join(Client)
        found: Credential | None = query.where((Credential.client == mark.client) & begins_so).first()
        if found is not None:
            return found
    return None


def _mark(context: Context, credential: Credential, report: Report) -> bool:
    """Mark a credential, and the address of its client. Return whether it was not marked before."""
    client, now = credential.client, context.clock()
    bounce = report.words if report.status in report.words else f"{report.status} {report.words}".rstrip()
    with context.database.atomic():
        states.lock_clients([client.id])
        # Whoever was erased meanwhile has no Message-ID any more.
        is_unmarked = Credential.bounced_at.is_null() & Credential.message_id.is_null(False)
        marks = Credential.update(bounced_at=now, bounce=bounce or Words("no reason is given"))
        if not marks.where((Credential.id == credential.id) & is_unmarked).execute():
            return False
        # A mail to a former address says nothing of the present one, nor does one after which another has arrived.
        went_there = Client.email_changed_at.is_null() | (Client.email_changed_at <= credential.created_at)
        arrived = Credential.select(Credential.id).where(
            (Credential.client == client)
            & (Credential.sequence >= credential.sequence)
            & Credential.message_id.is_null(False)
            & Credential.first_used_at.is_null(False)
        )
        Client.update(email_bounced_at=now).where(
            (Client.id == client.id) & went_there & ~peewee.fn.EXISTS(arrived)
        ).execute()
        # Not the words: they may name the address.
        record_event(
            context, "mail.bounce", "marked", client=client, sequence=credential.sequence, status=report.status or None
        )
    return True
