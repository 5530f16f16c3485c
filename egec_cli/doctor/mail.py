"""Whether mail would arrive as it is meant to: the templates proved, and the server looked at without sending."""

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from egec_cli import clock
from egec_cli.credentials import mail_route
from egec_cli.doctor.findings import Finding, Severity, TemporaryFault, fault_of
from egec_cli.errors import ConfigError
from egec_cli.mail.compose import message
from egec_cli.mail.compose.sample import sample_mail
from egec_cli.mail.compose.wording import Kind
from egec_cli.mail.lint import templates as template_check
from egec_cli.mail.lint.html import Flaw
from egec_cli.mail.transports.interface import DeliveryRefused
from egec_cli.settings.schema import LANGUAGES, MaildirFolder, SendmailProgram, Settings, SmtpServer
from egec_cli.translation import Words, join_words, system_message

# A certificate that ends sooner should have been replaced by now: those of Let's Encrypt are, 30 days before.
MIN_CERTIFICATE_DAYS = 30


def check_templates(settings: Settings) -> list[Finding]:
    """Return how each template was found, in every language; no mail leaves and no server is asked."""
    found: list[Finding] = []
    for language in LANGUAGES:
        for kind in Kind:
            check = f"template_{kind}.{language}"
            found += _of_flaws(check, template_check.find_kind_flaws(settings, kind, language))
        for name in (*template_check.LINES, template_check.SENT):
            check = f"template_{name}.{language}"
            found += _of_flaws(check, template_check.find_line_flaws(settings, name, language))
    strangers = template_check.find_unused_files(settings)
    return found + (_of_flaws("template_folder", strangers) if strangers else [])


def check_signature(settings: Settings) -> list[Finding]:
    """Return how the key was found by which mails are signed (DKIM): a mail is, and then verified as receivers do it.

    The DNS is not asked: the public half of the key is told as it is to stand there.
    """
    if settings.dkim is None:
        return [Finding("dkim_signature", Severity.OK, Words("egec signs no mail; the mail server may"), "")]
    try:
        # Imported here: few installations sign.
        from egec_cli.mail.compose import signing

        signer = signing.Signer(settings.dkim, message.sender_domain(settings))
        mail = sample_mail(settings, Kind.CREDENTIALS, settings.language, at=clock.now())
    except ConfigError as error:
        return [Finding("dkim_signature", Severity.FAULT, error.message, error.hint)]
    key = Words("a key of {bits} bits", bits=signer.bits)
    if not signer.verifies(signer.sign(mail.content)):
        cure = Words(
            "Unset EGEC_DKIM_KEY, and let the mail server sign. Please report this to the maintainers of egec."
        )
        return [
            Finding(
                "dkim_signature", Severity.FAULT, Words("a mail that is signed by {key} is not verified", key=key), cure
            )
        ]
    if signer.bits < signing.FEWEST_GOOD_BITS:
        cure = Words("Make one of {bits} bits, under another selector.", bits=signing.FEWEST_GOOD_BITS)
        sound = Finding("dkim_signature", Severity.WARNING, Words("{key}, which is weak, signs mails", key=key), cure)
    else:
        sound = Finding(
            "dkim_signature", Severity.OK, Words("{key} signs mails, and a signed one is verified", key=key), ""
        )
    return [
        sound,
        Finding("dkim_record", Severity.OK, Words("to stand in the DNS: {line}", line=signer.zone_line()), ""),
    ]


def check_server(settings: Settings, at: datetime | None = None, *, is_missing: bool = False) -> list[Finding]:
    """Return how the way was found by which mail leaves; nothing is sent.

    Args:
        settings: which name it.
        at: the present moment, by which days are counted.
        is_missing: EGEC_MAIL_URL is not set, although the database has had a mail server.
    """
    if is_missing:
        error = mail_route.missing()
        return [Finding("mail_server", Severity.FAULT, error.message, error.hint)]
    named = settings.mail_server
    if isinstance(named, SmtpServer):
        return _smtp(settings, named, at or clock.now())
    if isinstance(named, SendmailProgram):
        return [_sendmail(named.path)]
    assert isinstance(named, MaildirFolder)
    return [_maildir(named.path)]


def _of_flaws(check: str, flaws: Sequence[Flaw]) -> list[Finding]:
    if not flaws:
        return [Finding(check, Severity.OK, Words("says what it is to say"), "")]
    return [
        Finding(
            check,
            Severity.FAULT if one.is_fatal else Severity.WARNING,
            Words("{where}: {what}", where=one.where, what=one.what),
            one.cure,
        )
        for one in flaws
    ]


def _smtp(settings: Settings, named: SmtpServer, at: datetime) -> list[Finding]:
    try:
        found = socket.getaddrinfo(named.host, named.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        words = system_message(error) if isinstance(error, OSError) else Words("it is no name of a host")
        detail = Words("{host} has no address: {words}", host=named.host, words=words)
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            cure = Words("Run the same again later, or check the name server of this machine.")
            return [TemporaryFault("mail_server_name", Severity.FAULT, detail, cure)]
        cure = Words("Correct the host in EGEC_MAIL_URL, or the name server of this machine.")
        return [Finding("mail_server_name", Severity.FAULT, detail, cure)]
    addresses = sorted({str(one[4][0]) for one in found})
    name = Finding(
        "mail_server_name",
        Severity.OK,
        Words("{host} is {addresses}", host=named.host, addresses=", ".join(addresses)),
        "",
    )
    # Imported here: only this way of sending needs it.
    from egec_cli.mail.transports.smtp import SmtpTransport

    transport = SmtpTransport(named, settings.mail_timeout)
    try:
        seen = transport.read_greeting()
    except DeliveryRefused as refusal:
        return [name, fault_of("mail_server", refusal.error)]
    finally:
        transport.close()
    login = Words("logged in as {user}", user=named.user) if named.user else Words("asks for no login of ours")
    return [
        name,
        Finding("mail_server", Severity.OK, Words("{named} answers, and {login}", named=named, login=login), ""),
        _privacy(addresses, seen.tls),
        *([_certificate(seen.certificate_ends, at)] if seen.certificate_ends else []),
        _size(seen.size_limit),
        _letters(settings, seen.extensions),
    ]


def _privacy(addresses: Sequence[str], tls: str | None) -> Finding:
    check = "mail_server_tls"
    if tls is not None:
        return Finding(check, Severity.OK, Words("{tls}, with a certificate that is trusted", tls=tls), "")
    if all(address == "::1" or address.startswith("127.") for address in addresses):
        return Finding(check, Severity.OK, Words("clear text, which does not leave this machine"), "")
    cure = Words("Take ?tls=none out of EGEC_MAIL_URL, or name a server that offers TLS.")
    return Finding(check, Severity.WARNING, Words("passwords go through the network in clear text"), cure)


def _certificate(ends: datetime, at: datetime) -> Finding:
    days = (ends - at).days
    detail = Words("the certificate ends in {days} days, on {date}", days=days, date=ends.date())
    if days < MIN_CERTIFICATE_DAYS:
        cure = Words("Ask the administrator of the mail server to renew it.")
        return Finding("mail_server_certificate", Severity.WARNING, detail, cure)
    return Finding("mail_server_certificate", Severity.OK, detail, "")


def _size(limit: int | None) -> Finding:
    largest = template_check.LARGEST_MAIL
    if limit is not None and limit < largest:
        cure = Words("Ask the administrator of the mail server to raise it.")
        return Finding(
            "mail_server_size",
            Severity.WARNING,
            Words("it takes mails of up to {limit} octets only", limit=limit),
            cure,
        )
    return Finding(
        "mail_server_size",
        Severity.OK,
        Words(
            "it takes mails of {limit} octets" if limit else "it takes mails of any number of octets",
            limit=limit,
        ),
        "",
    )


def _letters(settings: Settings, extensions: Iterable[str]) -> Finding:
    """Tell which addresses the server takes. That many take no letters beyond ASCII is the way of the world."""
    check = "mail_server_letters"
    offered = [name for name in ("8bitmime", "smtputf8") if name in extensions]
    detail = (
        Words("it offers {extensions}", extensions=" and ".join(offered).upper())
        if offered
        else Words("it offers neither 8BITMIME nor SMTPUTF8")
    )
    if "smtputf8" in extensions:
        return Finding(check, Severity.OK, detail, "")
    detail = join_words("; ", [detail, Words("addresses with letters beyond ASCII before the @ are refused")])
    # What is no address at all is told where the templates are.
    with suppress(ConfigError):
        if not message.has_ascii_senders(settings):
            cure = Words(
                "Write another address in EGEC_MAIL_FROM or EGEC_MAIL_REPLY_TO, or name a server that offers SMTPUTF8."
            )
            return Finding(check, Severity.FAULT, Words("{detail}, and one of ours is such", detail=detail), cure)
    return Finding(check, Severity.OK, detail, "")


def _sendmail(program: Path) -> Finding:
    if os.path.isfile(program) and os.access(program, os.X_OK):
        return Finding("mail_program", Severity.OK, Words("{program} can be run", program=program), "")
    what = Words("cannot be run") if os.path.lexists(program) else Words("is not there")
    return Finding(
        "mail_program",
        Severity.FAULT,
        Words("{program} {what}", program=program, what=what),
        Words("Mend EGEC_MAIL_URL, or install the program."),
    )


def _maildir(folder: Path) -> Finding:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not (os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)):
        cure = Words("Choose another Maildir with EGEC_MAIL_URL.")
        return Finding("mail_folder", Severity.FAULT, Words("{there} cannot be written", there=there), cure)
    cure = Words("Name a mail server in EGEC_MAIL_URL.")
    return Finding(
        "mail_folder", Severity.WARNING, Words("mails are laid down in {folder}, and none is sent", folder=folder), cure
    )
