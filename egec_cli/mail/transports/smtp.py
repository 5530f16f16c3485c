"""Send mail by SMTP (RFC 5321) over verified TLS; clear text only to loopback or if the URL requests it.

Three results must stay apart: accepted (250 after the final dot), certainly refused, and in doubt. Before the server
answers 354, nothing of the message has left, so every failure is a refusal. After that, only a complete 4xx or 5xx
answer is one.
"""

import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from egec_cli.errors import (
    AddressRefused,
    ConfigError,
    EgecError,
    InvalidInput,
    PermissionDenied,
    TemporaryFailure,
)
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports import login, login_secret
from egec_cli.mail.transports.answers import Stage, classify, names_a_block
from egec_cli.mail.transports.interface import (
    Cause,
    DeliveryRefused,
    DeliveryUnknown,
    Reply,
    to_one_line,
    without_secret,
)
from egec_cli.mail.transports.login import LoginRefused
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.password import Password
from egec_cli.settings.schema import SmtpServer, Tls
from egec_cli.translation import Words

_OK = 250
_WILL_FORWARD = 251
_GO_AHEAD = 354
_CLOSING = 421
_AUTHENTICATION_REQUIRED = 530
_AUTHENTICATION_CODES = {_AUTHENTICATION_REQUIRED, 534, 535, 538}
# How a reply begins when the login of this connection has ended, as it may with a token that expires.
_LOGIN_ENDED = re.compile(r"53[05]\b")
_TOO_LARGE = 552
_QUIT_TIMEOUT = 2.0  # seconds
_LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)
_SUBJECTS = {
    Stage.SENDER: Words("the sender"),
    Stage.RECIPIENT: Words("the recipient"),
    Stage.DATA: Words("the message"),
    Stage.MESSAGE: Words("the message"),
}

# A command, the expected reply codes, and the stage that it begins.
_Step = tuple[str, set[int], Stage]


class ServerGreeting(NamedTuple):
    """What a server announced when we connected.

    Attributes:
        tls: the version of TLS; None in clear text.
        certificate_ends: when the certificate expires; None in clear text.
        size_limit: the maximum size of a mail in octets, if announced.
        extensions: their names in lower case.
        login: the SASL mechanism of the login; empty without a login.
    """

    tls: str | None
    certificate_ends: datetime | None
    size_limit: int | None
    extensions: frozenset[str]
    login: str


class SmtpTransport:
    """A connection to one server, opened for the first mail and kept for the next ones."""

    def __init__(self, server: SmtpServer, timeout: float, final_timeout: float | None = None) -> None:
        """Talk to a server; it connects later.

        Args:
            server: the server and the login.
            timeout: the maximum time for each step of the dialogue, in seconds.
            final_timeout: the same for the answer to the final dot, during which a server may deliver the mail
                (default: `timeout`).
        """
        self._server = server
        self._timeout = timeout
        self._final_timeout = timeout if final_timeout is None else final_timeout
        self._secret = login_secret.open_secret(server)
        # What this connection, or the attempt to connect, has logged in with.
        self._used_secret = Password("")
        self._smtp: SmtpConnection | None = None
        # Whether this connection has sent a mail, and whether a refusal left a mail transaction open on it.
        self._is_used = False
        self._must_reset = False

    def connect(self) -> None:
        """Connect, start TLS and log in, unless connected."""
        self._open_connection()

    def read_greeting(self) -> ServerGreeting:
        """Connect if needed and return what the server announced.

        Raises:
            DeliveryRefused: the server cannot be used at present.
        """
        smtp = self._open_connection()
        tls, ends = None, None
        if isinstance(smtp.sock, ssl.SSLSocket):
            tls = smtp.sock.version()
            certificate = smtp.sock.getpeercert() or {}
            ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        limit = smtp.esmtp_features.get("size", "")
        size_limit = int(limit) if re.fullmatch(r"[1-9][0-9]{0,17}", limit) else None
        return ServerGreeting(tls, ends, size_limit, frozenset(smtp.esmtp_features), smtp.login_mechanism)

    def deliver(self, mail: Mail) -> Reply:
        """Send one mail; log in again once if the login of this connection has ended."""
        try:
            return self._deliver(mail)
        except DeliveryRefused as refusal:
            has_ended = not isinstance(refusal.error, LoginRefused) and _LOGIN_ENDED.match(refusal.reply or "")
            if self._server.secret is None or not has_ended:
                raise
        self._drop()
        self._secret.forget(self._used_secret)
        return self._deliver(mail)

    def _deliver(self, mail: Mail) -> Reply:
        """Send one mail; reconnect once if the server closed the connection between two mails, as many do."""
        try:
            smtp = self._start_message(mail)
        except DeliveryRefused as refusal:
            if not (_closed_the_connection(refusal) and self._is_used):
                raise
            smtp = self._start_message(mail)
        self._is_used = True
        return self._transmit(smtp, mail)

    def _start_message(self, mail: Mail) -> SmtpConnection:
        """Return a connection whose server has answered 354."""
        smtp = self._open_connection()
        try:
            self._converse(smtp, mail)
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise DeliveryRefused(self._closed(_describe(error)), cause=Cause.UNREACHABLE) from None
        except DeliveryRefused:
            self._must_reset = True
            raise
        except BaseException:
            self._drop()
            raise
        return smtp

    def close(self) -> None:
        """Send QUIT, and wait only briefly for the answer."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        smtp.timeout = min(self._timeout, _QUIT_TIMEOUT)
        try:
            smtp.quit()
        except (smtplib.SMTPException, OSError):
            smtp.close()

    def _drop(self) -> None:
        """Close the connection without QUIT."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def _open_connection(self) -> SmtpConnection:
        if self._smtp is None:
            try:
                self._smtp = self._connect()
            except DeliveryRefused as refusal:
                if refusal.cause is Cause.THROTTLED:
                    # No mail was offered yet: a later connection may send this one.
                    refusal.cause = Cause.UNREACHABLE
                raise
            except EgecError as error:
                is_ours = not isinstance(error, TemporaryFailure)
                reply = error.reply if isinstance(error, LoginRefused) else None
                raise DeliveryRefused(error, reply, cause=Cause.BLOCKED if is_ours else Cause.UNREACHABLE) from None
            self._is_used = self._must_reset = False
        return self._smtp

    def _connect(self) -> SmtpConnection:
        """Connect and log in; if the server refuses the secret, once more with another one, if there is one."""
        try:
            return self._connect_with(None)
        except LoginRefused as refusal:
            another = self._secret.renew(refusal.secret)
            if another is None:
                raise
        # The server may have closed the connection after the refusal.
        return self._connect_with(another)

    def _connect_with(self, secret: Password | None) -> SmtpConnection:
        """Connect and log in with this secret; by default it is fetched once the server has answered."""
        server = self._server
        try:
            tls = None if server.tls is Tls.NONE else ssl.create_default_context(cafile=server.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise DeliveryRefused(
                ConfigError(
                    "the CA file {ca_file} cannot be used: {reason}",
                    "Correct ca= in EGEC_MAIL_URL.",
                    ca_file=server.ca_file,
                    reason=_describe(error),
                ),
                cause=Cause.BLOCKED,
            ) from None
        smtp: SmtpConnection | None = None
        stage = Stage.GREETING
        try:
            smtp = SmtpConnection(
                server.host, server.port, _client_name(), timeout=self._timeout, tls=server.tls, context=tls
            )
            stage = Stage.HELLO
            smtp.ehlo_or_helo_if_needed()
            if tls is not None and server.tls is Tls.STARTTLS:
                smtp.starttls(context=tls)
                smtp.ehlo()
            stage = Stage.LOGIN
            if server.user:
                mechanism = login.find_mechanism(smtp, server)
                self._used_secret = secret or self._secret.get()
                login.log_in(smtp, server, mechanism, self._used_secret)
        except BaseException as error:
            if smtp is not None:
                smtp.close()
            if isinstance(error, smtplib.SMTPResponseException):
                raise self._refusal_to_connect(error, stage) from None
            if isinstance(error, smtplib.SMTPException | OSError | UnicodeError):
                fault = self._connection_fault(error)
                is_ours = isinstance(fault, ConfigError)
                raise DeliveryRefused(fault, cause=Cause.BLOCKED if is_ours else Cause.UNREACHABLE) from None
            raise
        return smtp

    def _connection_fault(self, error: Exception) -> EgecError:
        """Return the error for a connection that failed without a refusal of the server."""
        server = self._server
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
        return self._unavailable(_describe(error))

    def _refusal_to_connect(self, error: smtplib.SMTPResponseException, stage: Stage) -> DeliveryRefused:
        server, code, text = self._server, error.smtp_code, to_one_line(error.smtp_error)
        cause = classify(stage, code, text)
        # A server may quote the login (RFC 4616, RFC 4954).
        reply = without_secret(f"{code} {text}", self._used_secret)
        if code in _AUTHENTICATION_CODES:
            fault: EgecError = ConfigError(
                "the mail server {server} refuses the login of {user!r}: {words}",
                "Check the user name and password in EGEC_MAIL_URL.",
                server=server,
                user=server.user,
                words=reply,
            )
        elif limit := self._limit_error(cause, reply):
            fault = limit
        elif cause is Cause.BLOCKED and code >= 500:
            fault = self._blocked(reply)
        else:
            fault = self._unavailable(reply)
        return DeliveryRefused(fault, reply, cause=cause)

    def _unavailable(self, words: str) -> TemporaryFailure:
        return TemporaryFailure(
            "the mail server {server} cannot be reached: {words}",
            _TRY_LATER,
            code="mail_server_unavailable",
            server=self._server,
            words=words,
        )

    def _blocked(self, reply: str) -> PermissionDenied:
        return PermissionDenied(
            "the mail server {server} blocks our mail: {reply}",
            "Show its words to the administrator of the mail server, or to your mail provider.",
            code="mail_blocked",
            server=self._server,
            reply=reply,
        )

    def _limit_error(self, cause: Cause, reply: str) -> TemporaryFailure | None:
        """Return the error for a limit of the server that we exceed; None for any other cause."""
        if cause is Cause.THROTTLED:
            return TemporaryFailure(
                "the mail server {server} accepts no more mail for now: {reply}",
                "Try again later. If it asks to send more slowly, lower EGEC_MAIL_RATE.",
                code="mail_throttled",
                server=self._server,
                reply=reply,
            )
        if cause is Cause.CONNECTIONS:
            return TemporaryFailure(
                "the mail server {server} accepts no more connections for now: {reply}",
                "Try again later. In runs, lower EGEC_MAIL_CONNECTIONS.",
                code="too_many_connections",
                server=self._server,
                reply=reply,
            )
        return None

    def _converse(self, smtp: SmtpConnection, mail: Mail) -> None:
        """Send the commands up to DATA and require 354."""
        options = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        if mail.needs_smtputf8:
            if not smtp.has_extn("smtputf8"):
                error = self._smtputf8_error(mail)
                is_ours = isinstance(error, ConfigError)
                raise DeliveryRefused(error, cause=Cause.BLOCKED if is_ours else Cause.RECIPIENT)
            # A server with SMTPUTF8 must offer 8BITMIME (RFC 6531, 3.1); our body is always ASCII.
            options += ["SMTPUTF8", *(["BODY=8BITMIME"] if smtp.has_extn("8bitmime") else [])]
        dialogue = [
            (" ".join([f"MAIL FROM:<{mail.sender}>", *options]), {_OK}, Stage.SENDER),
            (f"RCPT TO:<{mail.recipient}>", {_OK, _WILL_FORWARD}, Stage.RECIPIENT),
            ("DATA", {_GO_AHEAD}, Stage.DATA),
        ]
        if self._must_reset:
            dialogue.insert(0, ("RSET", {_OK}, Stage.SENDER))
            self._must_reset = False
        if smtp.has_extn("pipelining"):
            self._pipeline(smtp, dialogue, mail)
        else:
            for command, wanted, stage in dialogue:
                smtp.send(f"{command}\r\n".encode())
                self._expect(smtp.getreply(), wanted, stage, mail)

    def _smtputf8_error(self, mail: Mail) -> EgecError:
        not_accepted = Words(
            "the mail server {server} accepts only ASCII letters before the @ of an address", server=self._server
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

    def _pipeline(self, smtp: SmtpConnection, dialogue: Sequence[_Step], mail: Mail) -> None:
        """Send several commands together, then read all answers (RFC 2920)."""
        smtp.send("".join(f"{command}\r\n" for command, _, _ in dialogue).encode())
        refusal: DeliveryRefused | None = None
        code = 0
        for _, wanted, stage in dialogue:
            try:
                code, words = smtp.getreply()
                self._expect((code, words), wanted, stage, mail)
            except DeliveryRefused as new:
                refusal = refusal or new
            except (smtplib.SMTPException, OSError):
                # After a refusal, a lost connection changes nothing.
                if refusal is None:
                    raise
                self._drop()
                break
        if refusal is not None:
            if code == _GO_AHEAD:
                # The server waits for a message that must not arrive. Only closing the connection prevents that.
                self._drop()
            raise refusal

    def _transmit(self, smtp: SmtpConnection, mail: Mail) -> Reply:
        """Send the message itself; from here on, a lost answer means in doubt."""
        try:
            smtp.send(_LINE_START_DOT.sub(b"..", mail.content) + b".\r\n")
            code, answer = smtp.getreply(self._final_timeout)
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise DeliveryUnknown(
                "the answer of the mail server {server} was lost: {reason}",
                server=self._server,
                reason=_describe(error),
            ) from None
        except BaseException:
            self._drop()
            raise
        if not (code == _OK or 400 <= code <= 599):
            self._drop()
            # The text is left out, because it may quote the message.
            raise DeliveryUnknown(
                "the mail server {server} gave no clear answer: {code}", server=self._server, code=code
            )
        self._expect((code, answer), {_OK}, Stage.MESSAGE, mail)
        return Reply(f"{code} {to_one_line(answer)}")

    def _expect(self, answer: tuple[int, bytes], wanted: set[int], stage: Stage, mail: Mail) -> None:
        code, words = answer
        if code in wanted:
            return
        if code == _CLOSING:
            self._drop()
        text = to_one_line(words)
        cause = classify(stage, code, text)
        raise DeliveryRefused(self._refusal(stage, code, text, cause, mail), f"{code} {text}", cause=cause)

    def _refusal(self, stage: Stage, code: int, text: str, cause: Cause, mail: Mail) -> EgecError:
        """Return the error for an answer of 4xx or 5xx, or one that does not fit."""
        server, reply, is_permanent = self._server, f"{code} {text}", 500 <= code <= 599
        if stage is Stage.SENDER and code == _TOO_LARGE:
            return ConfigError(
                "a mail of {octets} bytes is too large for the mail server {server}: {reply}",
                "Shorten the templates, or ask the administrator of the mail server.",
                octets=len(mail.content),
                server=server,
                reply=reply,
            )
        if limit := self._limit_error(cause, reply):
            return limit
        if cause is Cause.BLOCKED and is_permanent:
            is_setting = code in _AUTHENTICATION_CODES or (stage is Stage.SENDER and not names_a_block(text))
            if not is_setting:
                return self._blocked(reply)
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
        if cause is Cause.UNREACHABLE:
            return self._closed(reply)
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

    def _closed(self, reason: str) -> TemporaryFailure:
        return TemporaryFailure(
            "the mail server {server} closed the connection: {reason}",
            _TRY_LATER,
            code="mail_server_unavailable",
            server=self._server,
            reason=reason,
        )


def _closed_the_connection(refusal: DeliveryRefused) -> bool:
    """Return whether the server ended the connection: with 421 or without a word."""
    if refusal.reply is None:
        return refusal.cause is Cause.UNREACHABLE
    return refusal.reply.startswith(f"{_CLOSING} ")


_TRY_LATER = Words("Try again later.")


def _client_name() -> str:
    # getfqdn() may wait for a name server. A name without a dot is invalid in EHLO (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _describe(error: Exception) -> str:
    if error.args and isinstance(error.args[0], Words):
        return error.args[0]
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {to_one_line(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return Words(to_one_line(error.strerror))
    return to_one_line(str(error) or type(error).__name__)
