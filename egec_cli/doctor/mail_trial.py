"""Mails tried out: shown as a client would get them, or sent to an address of ours. No client is touched."""

from datetime import datetime
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.clients import fields
from egec_cli.context import Log
from egec_cli.credentials import issue
from egec_cli.doctor import maintenance
from egec_cli.errors import TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.wording import Kind
from egec_cli.mail.transports.interface import DeliveryOutcome, DeliveryRefused, DeliveryUnknown, Transport
from egec_cli.settings.schema import Settings
from egec_cli.store.models import Client


class TestMailResult(NamedTuple):
    """A test mail that the server accepted.

    Attributes:
        email: where it went.
        kind: which of the mails it was.
        language: `fr` or `en`.
        message_id: its Message-ID.
        server_reply: the mail server's answer, or the file in which it was laid down.
        on_record: whether the database has an event of it.
    """

    email: str
    kind: Kind
    language: str
    message_id: str
    server_reply: str
    on_record: bool


def preview_mail(
    settings: Settings, kind: Kind, *, language: str, sentence: str, client: Client | None, at: datetime
) -> Mail:
    """Return a mail as the client would get it, but for the password, which opens nothing.

    Args:
        settings: whose templates are used.
        kind: of the mail.
        language: of the mail; empty for that of the client.
        sentence: that of a bulk run; empty for the one of the templates.
        client: for whom; without one, it is for somebody who does not exist.
        at: the moment of the issue.

    Raises:
        InvalidInput: the language or the sentence is none.
        PermissionDenied: the file was erased, or is disabled.
        ConfigError: a template makes no mail.
    """
    words = fields.clean_sentence(sentence) if sentence else ""
    code = fields.parse_language(language)
    if client is None:
        return sample_mail(settings, kind, code or settings.language, sentence=words, at=at)
    email = issue.require_email(client.identifier, client.email, client.disabled_at)
    return sample_mail(
        settings,
        kind,
        code or client.language or settings.language,
        recipient=email_address.parse_email(email).wire,
        name=issue.greeting_name(client.civility, client.first_name, client.last_name),
        identifier=client.identifier,
        sentence=words,
        at=at,
    )


def send_test_mail(
    settings: Settings,
    address: str,
    kind: Kind,
    *,
    language: str,
    transport: Transport,
    at: datetime,
    log: Log | None = None,
) -> TestMailResult:
    """Send a mail that is marked as a test, with a password that opens nothing, and put that on record.

    Args:
        settings: whose templates are used.
        address: where it goes; it is not put on record.
        kind: of the mail.
        language: of the mail; empty for that of the settings.
        transport: by which it leaves.
        at: the moment of the issue.
        log: what is told of it, if anything is.

    Raises:
        InvalidInput: the address or the language is none, or the server refuses the address.
        ConfigError: a template makes no mail, or the server refuses our own set-up.
        TemporaryFailure: the mail server is away, or its answer was lost.
        EgecError: the mail was refused.
    """
    email = email_address.parse_email(address)
    code = fields.parse_language(language) or settings.language
    mail = sample_mail(settings, kind, code, recipient=email.wire, at=at, is_test=True)

    def put_on_record(outcome: DeliveryOutcome, **failure: str) -> bool:
        details = {"kind": kind, "language": code, "message_id": mail.message_id, **failure}
        return maintenance.try_to_record(settings, "mail.test", outcome, log=log, **details) is None

    try:
        reply = transport.deliver(mail)
    except DeliveryRefused as refusal:
        put_on_record(DeliveryOutcome.REFUSED, failure=refusal.error.code)
        raise refusal.error from None
    except DeliveryUnknown as loss:
        error = TemporaryFailure(
            "{loss}. The mail may have left",
            "Look whether it arrives, or run the same again.",
            code="in_doubt",
            loss=loss.words,
        )
        put_on_record(DeliveryOutcome.IN_DOUBT, failure=error.code)
        raise error from None
    return TestMailResult(email.given, kind, code, mail.message_id, reply.text, put_on_record(DeliveryOutcome.ACCEPTED))
