"""Check templates, DKIM key and mail server without sending mail; preview a mail or send a test mail."""

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from egec_cli import clock, email_address
from egec_cli.clients import fields
from egec_cli.context import Log
from egec_cli.credentials import issue, mail_route, shared_emails
from egec_cli.credentials.validity import LocalMoment
from egec_cli.doctor import database
from egec_cli.doctor.findings import Finding, Severity, TemporaryError, add_note, convert_error
from egec_cli.errors import ConfigError, TemporaryFailure
from egec_cli.mail.compose import headers
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.template import Kind
from egec_cli.mail.lint import templates
from egec_cli.mail.lint.html import Flaw
from egec_cli.mail.transports.interface import DeliveryOutcome, DeliveryRefused, DeliveryUnknown, Transport
from egec_cli.settings.types import LANGUAGES, MaildirFolder, SendmailProgram, Settings, SmtpServer
from egec_cli.store.models import Client
from egec_cli.translation import Words, count_words, join_words, system_message

# Certificates should be renewed by then, as those of Let's Encrypt are.
MIN_CERTIFICATE_DAYS = 30


def check_templates(settings: Settings) -> list[Finding]:
    """Check each template in every language, without a mail server."""
    found: list[Finding] = []
    for language in LANGUAGES:
        for kind in Kind:
            check = f"template_{kind}.{language}"
            found += _convert_flaws(check, templates.find_kind_flaws(settings, kind, language))
        for name in (*templates.LINES, templates.SENT):
            check = f"template_{name}.{language}"
            found += _convert_flaws(check, templates.find_line_flaws(settings, name, language))
    unused = templates.find_unused_files(settings)
    return found + (_convert_flaws("template_folder", unused) if unused else [])


def check_signature(settings: Settings) -> list[Finding]:
    """Sign a mail with the DKIM key and verify it as receivers do.

    This does not query the DNS: a finding shows the record that the DNS must contain.
    """
    check = "dkim_signature"
    if settings.dkim is None:
        details = Words("egec does not sign mail; the mail server may")
        return [add_note(Finding(check, Severity.OK, details), Words("left to the mail server"))]
    try:
        # Imported here: few installations sign.
        from egec_cli.mail.compose import signing

        signer = signing.Signer(settings.dkim, headers.sender_domain(settings))
        mail = sample_mail(settings, Kind.CREDENTIALS, settings.language, at=clock.now())
    except ConfigError as error:
        return [Finding(check, Severity.ERROR, error.message, error.hint)]
    if not signer.verifies(signer.sign(mail.content)):
        details = Words("a mail signed with the key of {bits} bits fails verification", bits=signer.bits)
        fix = Words("Unset EGEC_DKIM_KEY, and let the mail server sign. Please report this to the maintainers of egec.")
        return [Finding(check, Severity.ERROR, details, fix)]
    if signer.bits < signing.FEWEST_GOOD_BITS:
        details = Words("mails are signed with a weak key of {bits} bits", bits=signer.bits)
        fix = Words("Create a key of {bits} bits under another selector.", bits=signing.FEWEST_GOOD_BITS)
        signature = Finding(check, Severity.WARNING, details, fix)
    else:
        details = Words("mails are signed with a key of {bits} bits, and verification succeeds", bits=signer.bits)
        signature = add_note(
            Finding(check, Severity.OK, details), Words("a valid key of {bits} bits", bits=signer.bits)
        )
    record = Words("record for the DNS: {line}", line=signer.zone_line())
    return [signature, Finding("dkim_record", Severity.OK, record)]


def check_server(settings: Settings, at: datetime | None = None, *, is_missing: bool = False) -> list[Finding]:
    """Check the mail server, mail program or Maildir without sending mail.

    `at` is the present time. `is_missing`: EGEC_MAIL_URL is missing although the database has had a mail server.
    """
    if is_missing:
        error = mail_route.missing_url_error()
        return [Finding("mail_server", Severity.ERROR, error.message, error.hint)]
    server = settings.mail_server
    if isinstance(server, SmtpServer):
        return _check_smtp(settings, server, at or clock.now())
    if isinstance(server, SendmailProgram):
        return [_check_program(server.path)]
    assert isinstance(server, MaildirFolder)
    return [_check_maildir(server.path)]


def _convert_flaws(check: str, flaws: Sequence[Flaw]) -> list[Finding]:
    if not flaws:
        return [Finding(check, Severity.OK, Words("valid"))]
    return [
        Finding(
            check,
            Severity.ERROR if one.is_fatal else Severity.WARNING,
            Words("{where}: {what}", where=one.where, what=one.what),
            one.fix,
        )
        for one in flaws
    ]


def _check_smtp(settings: Settings, server: SmtpServer, at: datetime) -> list[Finding]:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = system_message(error) if isinstance(error, OSError) else Words("invalid host name")
        details = Words("{host} has no address: {reason}", host=server.host, reason=reason)
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            fix = Words("Try again later, or check the name server of this machine.")
            return [TemporaryError("mail_server_name", Severity.ERROR, details, fix)]
        fix = Words("Correct the host in EGEC_MAIL_URL, or the name server of this machine.")
        return [Finding("mail_server_name", Severity.ERROR, details, fix)]
    addresses = sorted({str(one[4][0]) for one in found})
    details = Words("{host} is {addresses}", host=server.host, addresses=", ".join(addresses))
    name = Finding("mail_server_name", Severity.OK, details)
    # Imported here: only SMTP needs it.
    from egec_cli.mail.transports.smtp import SmtpTransport

    transport = SmtpTransport(server, settings.mail_timeout)
    try:
        seen = transport.read_greeting()
    except DeliveryRefused as refusal:
        return [name, convert_error("mail_server", refusal.error)]
    finally:
        transport.close()
    if server.user:
        details = Words(
            "{server} answers; logged in as {user} by {mechanism}",
            server=server,
            user=server.user,
            mechanism=seen.login,
        )
    else:
        details = Words("{server} answers; no login configured", server=server)
    return [
        name,
        add_note(Finding("mail_server", Severity.OK, details), str(server)),
        _check_tls(addresses, seen.tls),
        *([_check_certificate(seen.certificate_ends, at)] if seen.certificate_ends else []),
        _check_size(seen.size_limit),
        _check_extensions(settings, seen.extensions),
    ]


def _check_tls(addresses: Sequence[str], tls: str | None) -> Finding:
    check = "mail_server_tls"
    if tls is not None:
        return add_note(Finding(check, Severity.OK, Words("{tls} with a trusted certificate", tls=tls)), tls)
    if all(address == "::1" or address.startswith("127.") for address in addresses):
        local = Words("clear text, but only within this machine")
        return add_note(Finding(check, Severity.OK, local), local)
    fix = Words("Remove ?tls=none from EGEC_MAIL_URL, or use a server that offers TLS.")
    return Finding(check, Severity.WARNING, Words("passwords cross the network in clear text"), fix)


def _check_certificate(ends: datetime, at: datetime) -> Finding:
    days = (ends - at).days
    details = count_words(
        "the certificate expires today, on {date}",
        "the certificate expires in 1 day, on {date}",
        "the certificate expires in {number} days, on {date}",
        days,
        date=ends.date(),
    )
    if days < MIN_CERTIFICATE_DAYS:
        fix = Words("Ask the administrator of the mail server to renew it.")
        return Finding("mail_server_certificate", Severity.WARNING, details, fix)
    short = Words("certificate valid until {date}", date=ends.date())
    return add_note(Finding("mail_server_certificate", Severity.OK, details), short)


def _check_size(limit: int | None) -> Finding:
    if limit is not None and limit < templates.LARGEST_MAIL:
        details = Words("accepts only mails of up to {limit} octets", limit=limit)
        fix = Words("Ask the administrator of the mail server to raise the limit.")
        return Finding("mail_server_size", Severity.WARNING, details, fix)
    details = Words("accepts mails of up to {limit} octets" if limit else "accepts mails of any size", limit=limit)
    return Finding("mail_server_size", Severity.OK, details)


def _check_extensions(settings: Settings, extensions: Iterable[str]) -> Finding:
    """Check which addresses the server accepts. Many servers lack SMTPUTF8, so this alone is fine."""
    check = "mail_server_letters"
    offered = [name.upper() for name in ("8bitmime", "smtputf8") if name in extensions]
    details = (
        Words("offers {extensions}", extensions=", ".join(offered))
        if offered
        else Words("offers neither 8BITMIME nor SMTPUTF8")
    )
    if "smtputf8" in extensions:
        return Finding(check, Severity.OK, details)
    details = join_words("; ", [details, Words("addresses with non-ASCII characters before the @ are refused")])
    # The check of the templates reports invalid addresses.
    with suppress(ConfigError):
        if not headers.has_ascii_senders(settings):
            details = join_words("; ", [details, Words("EGEC_MAIL_FROM or EGEC_MAIL_REPLY_TO is such an address")])
            fix = Words("Change EGEC_MAIL_FROM or EGEC_MAIL_REPLY_TO, or use a server that offers SMTPUTF8.")
            return Finding(check, Severity.ERROR, details, fix)
    return Finding(check, Severity.OK, details)


def _check_program(program: Path) -> Finding:
    if os.path.isfile(program) and os.access(program, os.X_OK):
        details = Words("{program} is executable", program=program)
        return add_note(Finding("mail_program", Severity.OK, details), details)
    fault = "{program} is not executable" if os.path.lexists(program) else "{program} does not exist"
    fix = Words("Correct EGEC_MAIL_URL, or install the program.")
    return Finding("mail_program", Severity.ERROR, Words(fault, program=program), fix)


def _check_maildir(folder: Path) -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not (os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)):
        fix = Words("Choose another Maildir with EGEC_MAIL_URL.")
        return Finding("mail_folder", Severity.ERROR, Words("{folder} cannot be written", folder=existing), fix)
    details = Words("mails are saved to {folder}, not sent", folder=folder)
    return Finding("mail_folder", Severity.WARNING, details, Words("Set EGEC_MAIL_URL to a mail server."))


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
        PermissionDenied: the client was erased, is disabled or is outside the validity.
        ConfigError: a template is invalid.
    """
    words = fields.clean_sentence(sentence) if sentence else ""
    code = fields.parse_language(language)
    if client is None:
        return sample_mail(settings, kind, code or settings.language, sentence=words, at=at)
    email = issue.require_activatable(client, LocalMoment(at, settings.timezone))
    name = issue.greeting_name(client.civility, client.first_name, client.last_name)
    return sample_mail(
        settings,
        kind,
        code or client.language or settings.language,
        recipient=email_address.parse_email(email).wire,
        name=name,
        identifier=client.identifier,
        sentence=words,
        at=at,
        record=shared_emails.find_record_name(client, name) if settings.shared_email else "",
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
        return database.try_to_record(settings, "mail.test", outcome, log=log, **details) is None

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
