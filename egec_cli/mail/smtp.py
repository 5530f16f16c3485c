"""Mail sent by SMTP (RFC 5321), with verified TLS; in clear text only to loopback or where the URL says so.

What matters is to tell three ends apart: accepted (250 after the final dot), refused for certain, and
unknown. Until the server has said 354, nothing of the message has left, so any failure is a refusal.
From there on only a whole answer of 4xx or 5xx is one.
"""

import re
import smtplib
import socket
import ssl

from egec_cli.errors import BadInput, EgecError, Misconfigured, NotNow
from egec_cli.mail.message import Mail
from egec_cli.mail.transport import AnswerLost, Refused, Reply, one_line
from egec_cli.settings import SmtpServer, Tls

_READY_FOR_TLS = 220
_OK = 250
_GO_AHEAD = 354
_AUTHENTICATION_REQUIRED = 530
_AUTHENTICATION_CODES = {_AUTHENTICATION_REQUIRED, 534, 535, 538}
_LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)


class SmtpTransport:
    """A connection to one server, opened when it is first wanted and kept for the mails that follow."""

    def __init__(self, server: SmtpServer, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._smtp: smtplib.SMTP | None = None
        self._failure: Refused | None = None

    def prepare(self) -> None:
        """Connect, make the connection private and log in; `deliver` tells of a failure."""
        try:
            self._connected()
        except Refused as failure:
            self._failure = failure

    def deliver(self, mail: Mail) -> Reply:
        """Send one mail to its one recipient."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        smtp = self._connected()
        try:
            self._announce(smtp, mail)
        except Refused:
            self.close()
            raise
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Refused(NotNow(f"the mail server {self._server} went away: {_words(error)}", _AGAIN)) from None
        return self._transmit(smtp, mail)

    def close(self) -> None:
        """Say goodbye; what the server answers to that is of no account."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        try:
            smtp.quit()
        except (smtplib.SMTPException, OSError):
            smtp.close()

    def _connected(self) -> smtplib.SMTP:
        if self._smtp is None:
            try:
                self._smtp = self._connect()
            except EgecError as error:
                raise Refused(error) from None
        return self._smtp

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        try:
            tls = None if server.tls is Tls.NONE else ssl.create_default_context(cafile=server.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"the CA file {server.ca_file} cannot be used: {_words(error)}", "Mend ca= in EGEC_MAIL_URL."
            ) from None
        smtp: smtplib.SMTP | None = None
        try:
            if tls is not None and server.tls is Tls.IMPLICIT:
                smtp = smtplib.SMTP_SSL(server.host, server.port, _own_name(), timeout=self._timeout, context=tls)
            else:
                smtp = smtplib.SMTP(server.host, server.port, _own_name(), timeout=self._timeout)
            smtp.ehlo_or_helo_if_needed()
            if tls is not None and server.tls is Tls.STARTTLS:
                smtp.starttls(context=tls)
                smtp.ehlo()
            if server.user:
                smtp.login(server.user, server.password.reveal())
        except (smtplib.SMTPException, OSError) as error:
            if smtp is not None:
                smtp.close()
            raise self._connection_failure(error) from None
        return smtp

    def _connection_failure(self, error: Exception) -> EgecError:
        server = self._server
        if isinstance(error, ssl.SSLCertVerificationError):
            return Misconfigured(
                f"the certificate of the mail server {server} is not to be trusted: {error.verify_message}",
                "Name the host as its certificate does, or add ?ca=FILE to EGEC_MAIL_URL for an authority of your own.",
            )
        if isinstance(error, smtplib.SMTPNotSupportedError):
            missing = "STARTTLS" if "STARTTLS" in str(error) else "a login"
            return Misconfigured(
                f"the mail server {server} does not offer {missing}",
                "Mend EGEC_MAIL_URL: smtps:// for TLS from the start; ?tls=none only where clear text may be.",
            )
        if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code in _AUTHENTICATION_CODES:
            return Misconfigured(
                f"the mail server {server} refuses the login of {server.user!r}: {_words(error)}",
                "Mend the user or the password in EGEC_MAIL_URL.",
            )
        if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
            return Misconfigured(f"the mail server {server} refuses the login: {_words(error)}", "Mend EGEC_MAIL_URL.")
        return NotNow(f"the mail server {server} cannot be reached: {_words(error)}", _AGAIN)

    def _announce(self, smtp: smtplib.SMTP, mail: Mail) -> None:
        """Carry the dialogue up to the server's 354."""
        options = [f"SIZE={len(mail.content)}"] if smtp.has_extn("size") else []
        if mail.needs_smtputf8:
            if not smtp.has_extn("smtputf8"):
                raise Refused(
                    BadInput(
                        f"the mail server {self._server} takes no address with letters beyond ASCII: {mail.recipient}",
                        "Use another address for this client, or a server that offers SMTPUTF8.",
                    )
                )
            smtp.command_encoding = "utf-8"
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        self._expect(smtp.mail(mail.sender, options), _OK, "the sender", mail)
        self._expect(smtp.rcpt(mail.recipient), _OK, "the recipient", mail)
        self._expect(smtp.docmd("DATA"), _GO_AHEAD, "the message", mail)

    def _transmit(self, smtp: smtplib.SMTP, mail: Mail) -> Reply:
        """Send the message itself; from here on a lost answer leaves it in doubt."""
        try:
            smtp.send(_LINE_START_DOT.sub(b"..", mail.content) + b".\r\n")
            code, answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            smtp.close()
            self._smtp = None
            raise AnswerLost(f"the answer of the mail server {self._server} was lost: {_words(error)}") from None
        except BaseException:
            smtp.close()
            self._smtp = None
            raise
        if not (code == _OK or 400 <= code <= 599):
            smtp.close()
            self._smtp = None
            raise AnswerLost(f"the mail server {self._server} gave no clear answer: {one_line(answer)}")
        self._expect((code, answer), _OK, "the message", mail)
        return Reply(f"{code} {one_line(answer)}")

    def _expect(self, answer: tuple[int, bytes], wanted: int, subject: str, mail: Mail) -> None:
        code, words = answer
        if code == wanted:
            return
        reply = f"{code} {one_line(words)}"
        if (subject == "the sender" and code >= 500) or code in _AUTHENTICATION_CODES:
            error: EgecError = Misconfigured(
                f"the mail server {self._server} refuses the sender {mail.sender}: {reply}",
                "Mend EGEC_MAIL_FROM, or the login in EGEC_MAIL_URL.",
            )
        elif 500 <= code <= 599:
            error = BadInput(
                f"the mail server {self._server} refuses {subject} for {mail.recipient}: {reply}",
                "Correct the client's address, or ask the administrator of the mail server.",
            )
        else:
            error = NotNow(f"the mail server {self._server} does not take {subject} now: {reply}", _AGAIN)
        raise Refused(error, reply)


_AGAIN = "Nothing was changed. Run the same again later."


def _own_name() -> str:
    # Not getfqdn(), which may wait for a name server. A name without a dot is none to a mail server (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {one_line(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    return one_line(str(error) or type(error).__name__)
