"""Mail sent by SMTP (RFC 5321), with verified TLS; in clear text only to loopback or where the URL says so.

What matters is to tell three ends apart: accepted (250 after the final dot), refused for certain, and
unknown. Until the server has said 354, nothing of the message has left, so any failure is a refusal.
From there on only a whole answer of 4xx or 5xx is one.
"""

import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from egec_cli.errors import AddressRefused, ConfigError, EgecError, InvalidInput, TemporaryFailure
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import DeliveryRefused, DeliveryUnknown, Reply, to_one_line
from egec_cli.mail.transports.quoting import without_secret
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.settings.schema import SmtpServer, Tls
from egec_cli.translation import Words

_OK = 250
_WILL_FORWARD = 251
_GO_AHEAD = 354
_CLOSING = 421
_AUTHENTICATION_REQUIRED = 530
_AUTHENTICATION_CODES = {_AUTHENTICATION_REQUIRED, 534, 535, 538}
_TOO_LARGE = 552
# Of a refusal that is not about the address itself but about who writes, or what (RFC 3463, 3.8).
_POLICY = re.compile(rb"5\.7\.")
_LONGEST_GOODBYE = 2.0  # seconds
_LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)
_SENDER, _RECIPIENT, _MESSAGE = Words("the sender"), Words("the recipient"), Words("the message")

# A command, the codes by which the server goes along with it, and what it is about.
_Turn = tuple[str, set[int], str]


class Greeted(NamedTuple):
    """What a server showed of itself when it was connected to.

    Attributes:
        tls: the version of TLS, or None in clear text.
        certificate_ends: the last moment of its certificate; None in clear text.
        size_limit: the largest mail that it takes, in octets; None where it names none.
        extensions: what it offers, in small letters.
    """

    tls: str | None
    certificate_ends: datetime | None
    size_limit: int | None
    extensions: frozenset[str]


class SmtpTransport:
    """A connection to one server, opened when it is first wanted and kept for the mails that follow."""

    def __init__(self, server: SmtpServer, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._smtp: SmtpConnection | None = None
        # Whether the connection has served before, and whether it was left in the middle of a mail that was refused.
        self._is_used = False
        self._must_reset = False

    def connect(self) -> None:
        """Connect, make the connection private and log in, where that is not done yet."""
        self._connected()

    def greeted(self) -> Greeted:
        """Connect and log in where that is not done yet, and return what the server showed of itself.

        Raises:
            Refused: there is no way for mail to leave at present.
        """
        smtp = self._connected()
        tls, ends = None, None
        if isinstance(smtp.sock, ssl.SSLSocket):
            tls = smtp.sock.version()
            certificate = smtp.sock.getpeercert() or {}
            ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        limit = smtp.esmtp_features.get("size", "")
        size_limit = int(limit) if re.fullmatch(r"[1-9][0-9]{0,17}", limit) else None
        return Greeted(tls, ends, size_limit, frozenset(smtp.esmtp_features))

    def deliver(self, mail: Mail) -> Reply:
        """Send one mail to its one recipient.

        A server that hangs up between two mails, as many do after so many, is connected to once more.
        """
        try:
            smtp = self._announced(mail)
        except DeliveryRefused as refusal:
            if not (refusal.server_away and self._is_used and self._smtp is None):
                raise
            smtp = self._announced(mail)
        self._is_used = True
        return self._transmit(smtp, mail)

    def _announced(self, mail: Mail) -> SmtpConnection:
        """Return a connection on which the server waits for the message itself."""
        smtp = self._connected()
        try:
            self._announce(smtp, mail)
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise self._gone(Words("went away: {reason}", reason=_words(error))) from None
        except DeliveryRefused as refusal:
            self._must_reset = True
            if refusal.server_away:
                self._drop()
            raise
        except BaseException:
            self._drop()
            raise
        return smtp

    def _gone(self, what: str) -> DeliveryRefused:
        return DeliveryRefused(
            TemporaryFailure(
                "the mail server {server} {what}", _AGAIN, code="mail_server_away", server=self._server, what=what
            ),
            server_away=True,
        )

    def close(self) -> None:
        """Send QUIT; the server's answer does not matter, and is not waited for beyond a short deadline."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        smtp.timeout = min(self._timeout, _LONGEST_GOODBYE)
        try:
            smtp.quit()
        except (smtplib.SMTPException, OSError):
            smtp.close()

    def _drop(self) -> None:
        """Cut the connection without a goodbye."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def _connected(self) -> SmtpConnection:
        if self._smtp is None:
            try:
                self._smtp = self._connect()
            except EgecError as error:
                raise DeliveryRefused(error, server_away=True) from None
            self._is_used = self._must_reset = False
        return self._smtp

    def _connect(self) -> SmtpConnection:
        server = self._server
        try:
            tls = None if server.tls is Tls.NONE else ssl.create_default_context(cafile=server.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "the CA file {ca_file} cannot be used: {reason}",
                "Mend ca= in EGEC_MAIL_URL.",
                ca_file=server.ca_file,
                reason=_words(error),
            ) from None
        smtp: SmtpConnection | None = None
        try:
            smtp = SmtpConnection(
                server.host, server.port, _own_name(), timeout=self._timeout, tls=server.tls, context=tls
            )
            smtp.ehlo_or_helo_if_needed()
            if tls is not None and server.tls is Tls.STARTTLS:
                smtp.starttls(context=tls)
                smtp.ehlo()
            if server.user:
                smtp.login(server.user, server.password.reveal())
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            if smtp is not None:
                smtp.close()
            raise self._connection_failure(error) from None
        return smtp

    def _connection_failure(self, error: Exception) -> EgecError:
        server = self._server
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConfigError(
                "the certificate of the mail server {server} is not to be trusted: {reason}",
                "Name the host as its certificate does, or add ?ca=FILE to EGEC_MAIL_URL for an authority of your own.",
                server=server,
                reason=error.verify_message,
            )
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER" and server.tls is Tls.IMPLICIT:
            return ConfigError(
                "the mail server {server} does not begin with TLS",
                "Write smtp:// instead of smtps:// in EGEC_MAIL_URL.",
                server=server,
            )
        if isinstance(error, UnicodeError):
            # smtplib writes logins in ASCII only. The error itself would quote the password.
            return ConfigError(
                "the mail server {host} or its login cannot be written in ASCII",
                "Mend the host, the user or the password in EGEC_MAIL_URL.",
                host=server.host,
            )
        # smtplib has no narrower class for a server whose logins are all of kinds that it does not know.
        if isinstance(error, smtplib.SMTPNotSupportedError) or type(error) is smtplib.SMTPException:
            if "STARTTLS" in str(error):
                return ConfigError(
                    "the mail server {server} does not offer STARTTLS",
                    "Correct EGEC_MAIL_URL: smtps:// for TLS from the start, ?tls=none only where clear text is safe.",
                    server=server,
                )
            return ConfigError(
                "the mail server {server} does not offer a login by user and password",
                "Leave the user and the password out of EGEC_MAIL_URL if the server needs no login."
                if server.tls is not Tls.NONE
                else "Leave the user and the password out of EGEC_MAIL_URL if the server needs no login. If it needs "
                "one, it may offer it with TLS only: smtps://, or ?tls=required.",
                server=server,
            )
        # A server may quote the login that it was sent (RFC 4616, RFC 4954).
        words = without_secret(_words(error), server.password)
        if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code in _AUTHENTICATION_CODES:
            return ConfigError(
                "the mail server {server} refuses the login of {user!r}: {words}",
                "Mend the user or the password in EGEC_MAIL_URL.",
                server=server,
                user=server.user,
                words=words,
            )
        if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
            return ConfigError(
                "the mail server {server} refuses the login: {words}", "Mend EGEC_MAIL_URL.", server=server, words=words
            )
        return TemporaryFailure(
            "the mail server {server} cannot be reached: {words}",
            _AGAIN,
            code="mail_server_away",
            server=server,
            words=words,
        )

    def _announce(self, smtp: SmtpConnection, mail: Mail) -> None:
        """Carry the dialogue up to the server's 354."""
        options = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        if mail.needs_smtputf8:
            if not smtp.has_extn("smtputf8"):
                raise DeliveryRefused(self._no_such_letters(mail))
            # A server that offers the one is to offer the other (RFC 6531, 3.1); the body is plain ASCII in any case.
            options += ["SMTPUTF8", *(["BODY=8BITMIME"] if smtp.has_extn("8bitmime") else [])]
        dialogue = [
            (" ".join([f"MAIL FROM:<{mail.sender}>", *options]), {_OK}, _SENDER),
            (f"RCPT TO:<{mail.recipient}>", {_OK, _WILL_FORWARD}, _RECIPIENT),
            ("DATA", {_GO_AHEAD}, _MESSAGE),
        ]
        if self._must_reset:
            dialogue.insert(0, ("RSET", {_OK}, _SENDER))
            self._must_reset = False
        if smtp.has_extn("pipelining"):
            self._speak_at_once(smtp, dialogue, mail)
        else:
            for command, wanted, subject in dialogue:
                smtp.send(f"{command}\r\n".encode())
                self._expect(smtp.getreply(), wanted, subject, mail)

    def _no_such_letters(self, mail: Mail) -> EgecError:
        takes_none = Words(
            "the mail server {server} takes no address with letters beyond ASCII before the @", server=self._server
        )
        if mail.recipient.isascii():
            return ConfigError(
                "{takes_none}, as EGEC_MAIL_FROM or EGEC_MAIL_REPLY_TO has",
                "Write another address there, or name a server in EGEC_MAIL_URL that offers SMTPUTF8.",
                code="smtputf8_not_offered",
                takes_none=takes_none,
            )
        return InvalidInput(
            "{takes_none}: {recipient}",
            "Use another address for this client, or name a server in EGEC_MAIL_URL that offers SMTPUTF8.",
            code="smtputf8_not_offered",
            takes_none=takes_none,
            recipient=mail.recipient,
        )

    def _speak_at_once(self, smtp: SmtpConnection, dialogue: Sequence[_Turn], mail: Mail) -> None:
        """Send several commands together and then read all the answers (RFC 2920)."""
        smtp.send("".join(f"{command}\r\n" for command, _, _ in dialogue).encode())
        refusal: DeliveryRefused | None = None
        code = 0
        for _, wanted, subject in dialogue:
            try:
                code, words = smtp.getreply()
                self._expect((code, words), wanted, subject, mail)
            except DeliveryRefused as first:
                refusal = refusal or first
            except (smtplib.SMTPException, OSError):
                # One that hangs up after its refusal has said enough.
                if refusal is None:
                    raise
                self._drop()
                break
        if refusal is not None:
            if code == _GO_AHEAD:
                # The server waits for a message that nobody may get: nothing but the end of the connection ends that.
                self._drop()
            raise refusal

    def _transmit(self, smtp: SmtpConnection, mail: Mail) -> Reply:
        """Send the message itself; from here on a lost answer leaves it in doubt."""
        try:
            smtp.send(_LINE_START_DOT.sub(b"..", mail.content) + b".\r\n")
            code, answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise DeliveryUnknown(
                "the answer of the mail server {server} was lost: {reason}", server=self._server, reason=_words(error)
            ) from None
        except BaseException:
            self._drop()
            raise
        if not (code == _OK or 400 <= code <= 599):
            self._drop()
            # Not its words: they may quote the message.
            raise DeliveryUnknown(
                "the mail server {server} gave no clear answer: {code}", server=self._server, code=code
            )
        if code == _CLOSING:
            self._drop()
        self._expect((code, answer), {_OK}, _MESSAGE, mail)
        return Reply(f"{code} {to_one_line(answer)}")

    def _expect(self, answer: tuple[int, bytes], wanted: set[int], subject: str, mail: Mail) -> None:
        code, words = answer
        if code in wanted:
            return
        reply = f"{code} {to_one_line(words)}"
        if subject == _SENDER and code == _TOO_LARGE:
            error: EgecError = ConfigError(
                "a mail of {octets} bytes is too large for the mail server {server}: {reply}",
                "Shorten the templates, or ask the administrator of the mail server.",
                octets=len(mail.content),
                server=self._server,
                reply=reply,
            )
        elif (subject == _SENDER and code >= 500) or code in _AUTHENTICATION_CODES:
            error = ConfigError(
                "the mail server {server} refuses the sender {sender}: {reply}",
                "Mend EGEC_MAIL_FROM, or the login in EGEC_MAIL_URL.",
                server=self._server,
                sender=mail.sender,
                reply=reply,
            )
        elif subject == _RECIPIENT and 500 <= code <= 599 and not _POLICY.match(words):
            error = AddressRefused(
                "the mail server {server} refuses the address {recipient}: {reply}",
                "Correct the address.",
                server=self._server,
                recipient=mail.recipient,
                reply=reply,
            )
        elif 500 <= code <= 599:
            error = InvalidInput(
                "the mail server {server} refuses {subject} for {recipient}: {reply}",
                "Ask the administrator of the mail server.",
                code="mail_refused",
                server=self._server,
                subject=subject,
                recipient=mail.recipient,
                reply=reply,
            )
        else:
            error = TemporaryFailure(
                "the mail server {server} does not take {subject} now: {reply}",
                _AGAIN,
                code="mail_deferred",
                server=self._server,
                subject=subject,
                reply=reply,
            )
        raise DeliveryRefused(error, reply, server_away=code == _CLOSING)


_AGAIN = Words("Run the same again later.")


def _own_name() -> str:
    # Not getfqdn(), which may wait for a name server. A name without a dot is none to a mail server (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _words(error: Exception) -> str:
    if error.args and isinstance(error.args[0], Words):
        return error.args[0]
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {to_one_line(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return Words(to_one_line(error.strerror))
    return to_one_line(str(error) or type(error).__name__)
