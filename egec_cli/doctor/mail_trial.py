"""Preview a mail, or send a test mail; neither changes a client."""

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
        email: the address that was mailed.
        kind: the kind of mail.
        language: `fr` or `en`.
        message_id: the mail's Message-ID.
        server_reply: the mail server's answer, or the file that the mail was saved to.
        recorded: whether the audit log has an event of it.
    """

    email: str
    kind: Kind
    language: str
    message_id: str
    server_reply: str
    recorded: bool


def preview_mail(
    settings: Settings, kind: Kind, *, language: str, sentence: str, client: Client | None, at: datetime
) -> Mail:
    """Return a mail as the client would get it, but with a password that never works.

    Defaults: the language of the client, the sentence of the templates (a run may have its own), an imaginary client.

    Raises:
        InvalidInput: the language or the sentence is invalid.
        PermissionDenied: the client was erased or is disabled.
        ConfigError: a template is invalid.
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
    """Send a mail that is marked as a test, with a password that never works, and record that without the address.

    Raises:
        InvalidInput: the address or the language is invalid, or the server refuses the address.
        ConfigError: a template is invalid, or the server refuses our configuration.
        TemporaryFailure: the mail server is unavailable, or its answer was lost.
        EgecError: the mail was refused.
    """
    email = email_address.parse_email(address)
    code = fields.parse_language(language) or settings.language
    mail = sample_mail(settings, kind, code, recipient=email.wire, at=at, is_test=True)

    def record(outcome: DeliveryOutcome, **failure: str) -> bool:
        details = {"kind": kind, "language": code, "message_id": mail.message_id, **failure}
        return maintenance.try_to_record(settings, "mail.test", outcome, log=log, **details) is None

    try:
        reply = transport.deliver(mail)
    except DeliveryRefused as refusal:
        record(DeliveryOutcome.REFUSED, failure=refusal.error.code)
        raise refusal.error from None
    except DeliveryUnknown as loss:
        error = TemporaryFailure(
            "{loss}. The mail may have left",
            "Check whether it arrives, or run the same command again.",
            code="in_doubt",
            loss=loss.words,
        )
        record(DeliveryOutcome.IN_DOUBT, failure=error.code)
        raise error from None
    return TestMailResult(email.given, kind, code, mail.message_id, reply.text, record(DeliveryOutcome.ACCEPTED))
