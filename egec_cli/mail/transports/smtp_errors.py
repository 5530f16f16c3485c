"""The errors of SMTP: what a failed connection or a refused mail means, and what to do about it."""

import smtplib
import ssl

from egec_cli.errors import (
    AddressRefused,
    ConfigError,
    EgecError,
    InvalidInput,
    PermissionDenied,
    TemporaryFailure,
)
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, to_one_line, without_secret
from egec_cli.mail.transports.reply_rules import Stage, classify, names_a_block
from egec_cli.password import Password
from egec_cli.settings.types import SmtpServer, Tls
from egec_cli.translation import Words

_AUTHENTICATION_CODES = {530, 534, 535, 538}
_TOO_LARGE = 552
_SUBJECTS = {
    Stage.SENDER: Words("the sender"),
    Stage.RECIPIENT: Words("the recipient"),
    Stage.DATA: Words("the message"),
    Stage.MESSAGE: Words("the message"),
}
_TRY_LATER = Words("Try again later.")


def connection_error(server: SmtpServer, error: Exception) -> EgecError:
    """Return the error for a connection that failed without a refusal of the server."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(
            "the certificate of the mail server {server} is not trusted: {reason}",
            "Use the host name of the certificate, or add ?ca=FILE to EGEC_MAIL_URL for your own authority.",
            server=server,
            reason=error.verify_message,
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER" and server.tls is Tls.IMPLICIT:
        return ConfigError(
            "the mail server {server} does not start with TLS",
            "Write smtp:// instead of smtps:// in EGEC_MAIL_URL.",
            server=server,
        )
    if isinstance(error, UnicodeError):
        # smtplib sends logins in ASCII only. The error itself quotes the password.
        return ConfigError(
            "the mail server {host} or its login cannot be written in ASCII",
            "Check the host, the user name and the password in EGEC_MAIL_URL.",
            host=server.host,
        )
    # smtplib raises the base class if it supports none of the server's login methods.
    if isinstance(error, smtplib.SMTPNotSupportedError) or type(error) is smtplib.SMTPException:
        if "STARTTLS" in str(error):
            return ConfigError(
                "the mail server {server} does not offer STARTTLS",
                "Correct EGEC_MAIL_URL: smtps:// for TLS from the start, ?tls=none only where clear text is safe.",
                server=server,
            )
        return ConfigError(
            "the mail server {server} does not offer a login with user name and password",
            "Remove the user name and the password from EGEC_MAIL_URL if the server needs no login."
            if server.tls is not Tls.NONE
            else "Remove the user name and the password from EGEC_MAIL_URL if the server needs no login. "
            "Otherwise try TLS, which some servers require for logins: smtps://, or ?tls=required.",
            server=server,
        )
    return unavailable_error(server, describe_failure(error))


def refusal_to_connect(
    server: SmtpServer, secret: Password, error: smtplib.SMTPResponseException, stage: Stage
) -> DeliveryRefused:
    """Return the refusal of a connection or a login, by the answer of the server; `secret` is that of the login."""
    code, text = error.smtp_code, to_one_line(error.smtp_error)
    cause = classify(stage, code, text)
    # A server may quote the login (RFC 4616, RFC 4954).
    reply = without_secret(f"{code} {text}", secret)
    if code in _AUTHENTICATION_CODES:
        fault: EgecError = ConfigError(
            "the mail server {server} refuses the login of {user!r}: {words}",
            "Check the user name and password in EGEC_MAIL_URL.",
            server=server,
            user=server.user,
            words=reply,
        )
    elif limit := _limit_error(server, cause, reply):
        fault = limit
    elif cause is Cause.BLOCKED and code >= 500:
        fault = _blocked_error(server, reply)
    else:
        fault = unavailable_error(server, reply)
    return DeliveryRefused(fault, reply, cause=cause)


def refused_mail_error(server: SmtpServer, stage: Stage, code: int, text: str, cause: Cause, mail: Mail) -> EgecError:
    """Return the error for an answer of 4xx or 5xx, or one that does not fit."""
    reply, is_permanent = f"{code} {text}", 500 <= code <= 599
    if stage is Stage.SENDER and code == _TOO_LARGE:
        return ConfigError(
            "a mail of {octets} bytes is too large for the mail server {server}: {reply}",
            "Shorten the templates, or ask the administrator of the mail server.",
            octets=len(mail.content),
            server=server,
            reply=reply,
        )
    if limit := _limit_error(server, cause, reply):
        return limit
    if cause is Cause.BLOCKED and is_permanent:
        is_setting = code in _AUTHENTICATION_CODES or (stage is Stage.SENDER and not names_a_block(text))
        if not is_setting:
            return _blocked_error(server, reply)
        return ConfigError(
            "the mail server {server} refuses the sender {sender}: {reply}",
            "Correct EGEC_MAIL_FROM, or the login in EGEC_MAIL_URL.",
            server=server,
            sender=mail.sender,
            reply=reply,
        )
    if cause is Cause.RECIPIENT and is_permanent:
        return AddressRefused(
            "the mail server {server} refuses the address {recipient}: {reply}",
            "Correct the address.",
            server=server,
            recipient=mail.recipient,
            reply=reply,
        )
    if is_permanent:
        return InvalidInput(
            "the mail server {server} refuses {subject} for {recipient}: {reply}",
            "Ask the administrator of the mail server.",
            code="mail_refused",
            server=server,
            subject=_SUBJECTS[stage],
            recipient=mail.recipient,
            reply=reply,
        )
    if cause in {Cause.UNREACHABLE, Cause.DROPPED}:
        return unavailable_error(server, reply, was_connected=True)
    return TemporaryFailure(
        "the mail server {server} temporarily refuses {subject}: {reply}",
        "Try again later. If it lasts, ask the administrator of the mail server."
        if cause is Cause.BLOCKED
        else _TRY_LATER,
        code="mail_deferred",
        server=server,
        subject=_SUBJECTS[stage],
        reply=reply,
    )


def smtputf8_error(server: SmtpServer, mail: Mail) -> EgecError:
    """Return the error for an address that the server cannot handle."""
    not_accepted = Words(
        "the mail server {server} accepts only ASCII letters before the @ of an address", server=server
    )
    if mail.recipient.isascii():
        return ConfigError(
            "{not_accepted}; EGEC_MAIL_FROM or EGEC_MAIL_REPLY_TO has others",
            "Set another address, or name a server in EGEC_MAIL_URL that offers SMTPUTF8.",
            code="smtputf8_not_offered",
            not_accepted=not_accepted,
        )
    return InvalidInput(
        "{not_accepted}: {recipient}",
        "Use another address for this client, or name a server in EGEC_MAIL_URL that offers SMTPUTF8.",
        code="smtputf8_not_offered",
        not_accepted=not_accepted,
        recipient=mail.recipient,
    )


def unavailable_error(server: SmtpServer, reason: str, *, was_connected: bool = False) -> TemporaryFailure:
    """Return the error for a server that cannot be reached, or that closed the connection."""
    return TemporaryFailure(
        "the mail server {server} closed the connection: {reason}"
        if was_connected
        else "the mail server {server} cannot be reached: {reason}",
        _TRY_LATER,
        code="mail_server_unavailable",
        server=server,
        reason=reason,
    )


def _blocked_error(server: SmtpServer, reply: str) -> PermissionDenied:
    return PermissionDenied(
        "the mail server {server} blocks our mail: {reply}",
        "Show its words to the administrator of the mail server, or to your mail provider.",
        code="mail_blocked",
        server=server,
        reply=reply,
    )


def _limit_error(server: SmtpServer, cause: Cause, reply: str) -> TemporaryFailure | None:
    """Return the error for a limit of the server that we exceed; None for any other cause."""
    if cause is Cause.THROTTLED:
        return TemporaryFailure(
            "the mail server {server} accepts no more mail for now: {reply}",
            "Try again later. If it asks to send more slowly, lower EGEC_MAIL_RATE.",
            code="mail_throttled",
            server=server,
            reply=reply,
        )
    if cause is Cause.CONNECTIONS:
        return TemporaryFailure(
            "the mail server {server} accepts no more connections for now: {reply}",
            "Try again later. In runs, lower EGEC_MAIL_CONNECTIONS.",
            code="too_many_connections",
            server=server,
            reply=reply,
        )
    return None


def describe_failure(error: Exception) -> str:
    """Return what a failed connection says, on one line."""
    if error.args and isinstance(error.args[0], Words):
        return error.args[0]
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {to_one_line(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return Words(to_one_line(error.strerror))
    return to_one_line(str(error) or type(error).__name__)
