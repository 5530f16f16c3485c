"""Mails tried out: shown as a client would get them, or sent to an address of ours. No client is touched."""

from datetime import datetime
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.accounts import fields, issuing, upkeep
from egec_cli.accounts.log import Log
from egec_cli.errors import NotNow
from egec_cli.mail.delivery import AnswerLost, DeliveryOutcome, Refused, Transport
from egec_cli.mail.message import Mail
from egec_cli.mail.specimen import specimen
from egec_cli.mail.wording import Kind
from egec_cli.settings import Settings
from egec_cli.store.models import Client


class Tried(NamedTuple):
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


def preview(
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
        BadInput: the language or the sentence is none.
        NotPermitted: the file was erased, or is disabled.
        Misconfigured: a template makes no mail.
    """
    words = fields.sentence(sentence) if sentence else ""
    code = fields.known_language(language)
    if client is None:
        return specimen(settings, kind, code or settings.language, sentence=words, at=at)
    email = issuing.registered_email(client.identifier, client.email, client.disabled_at)
    return specimen(
        settings,
        kind,
        code or client.language or settings.language,
        recipient=email_address.checked(email).wire,
        name=issuing.greeted_name(client.civility, client.first_name, client.last_name),
        identifier=client.identifier,
        sentence=words,
        at=at,
    )


def send(
    settings: Settings,
    address: str,
    kind: Kind,
    *,
    language: str,
    transport: Transport,
    at: datetime,
    log: Log | None = None,
) -> Tried:
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
        BadInput: the address or the language is none, or the server refuses the address.
        Misconfigured: a template makes no mail, or the server refuses our own set-up.
        NotNow: the mail server is away, or its answer was lost.
        EgecError: the mail was refused.
    """
    email = email_address.checked(address)
    code = fields.known_language(language) or settings.language
    mail = specimen(settings, kind, code, recipient=email.wire, at=at, is_test=True)

    def put_on_record(outcome: DeliveryOutcome, **failure: str) -> bool:
        details = {"kind": kind, "language": code, "message_id": mail.message_id, **failure}
        return upkeep.try_to_put_on_record(settings, "mail.test", outcome, log=log, **details) is None

    try:
        reply = transport.deliver(mail)
    except Refused as refusal:
        put_on_record(DeliveryOutcome.REFUSED, failure=refusal.error.code)
        raise refusal.error from None
    except AnswerLost as loss:
        error = NotNow(
            "{loss}. The mail may have left",
            "Look whether it arrives, or run the same again.",
            code="in_doubt",
            loss=loss.words,
        )
        put_on_record(DeliveryOutcome.IN_DOUBT, failure=error.code)
        raise error from None
    return Tried(email.given, kind, code, mail.message_id, reply.text, put_on_record(DeliveryOutcome.ACCEPTED))
