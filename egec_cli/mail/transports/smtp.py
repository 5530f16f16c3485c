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
    ConfigError,
    EgecError,
    TemporaryFailure,
)
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports import login, login_secret
from egec_cli.mail.transports.interface import (
    Cause,
    DeliveryRefused,
    DeliveryUnknown,
    Reply,
    to_one_line,
)
from egec_cli.mail.transports.login import LoginRefused
from egec_cli.mail.transports.reply_rules import Stage, classify
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.mail.transports.smtp_errors import (
    connection_error,
    describe_failure,
    refusal_to_connect,
    refused_mail_error,
    smtputf8_error,
    unavailable_error,
)
from egec_cli.password import Password
from egec_cli.settings.types import SmtpServer, Tls

_OK = 250
_WILL_FORWARD = 251
_GO_AHEAD = 354
_CLOSING = 421
# How a reply begins when the login of this connection has ended, as it may with a token that expires.
_LOGIN_ENDED = re.compile(r"53[05]\b")
_QUIT_TIMEOUT = 2.0  # seconds
_LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)

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
        is_reused = self._smtp is not None and self._is_used
        try:
            smtp = self._start_message(mail)
        except DeliveryRefused as refusal:
            if not (is_reused and _closed_the_connection(refusal)):
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
            raise DeliveryRefused(
                unavailable_error(self._server, describe_failure(error), was_connected=True), cause=Cause.DROPPED
            ) from None
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
            raise ConfigError(
                "the CA file {ca_file} cannot be used: {reason}",
                "Correct ca= in EGEC_MAIL_URL.",
                ca_file=server.ca_file,
                reason=describe_failure(error),
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
                raise refusal_to_connect(self._server, self._used_secret, error, stage) from None
            if isinstance(error, smtplib.SMTPException | OSError | UnicodeError):
                raise connection_error(self._server, error) from None
            raise
        return smtp

    def _converse(self, smtp: SmtpConnection, mail: Mail) -> None:
        """Send the commands up to DATA and require 354."""
        options = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        if mail.needs_smtputf8:
            if not smtp.has_extn("smtputf8"):
                error = smtputf8_error(self._server, mail)
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
                reason=describe_failure(error),
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
        raise DeliveryRefused(
            refused_mail_error(self._server, stage, code, text, cause, mail), f"{code} {text}", cause=cause
        )


def _closed_the_connection(refusal: DeliveryRefused) -> bool:
    """Return whether the server ended the connection: with 421 or without a word."""
    if refusal.reply is None:
        return refusal.cause is Cause.DROPPED
    return refusal.reply.startswith(f"{_CLOSING} ")


def _client_name() -> str:
    # getfqdn() may wait for a name server. A name without a dot is invalid in EHLO (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"
