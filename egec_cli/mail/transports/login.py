"""Log in to a mail server: with a password, or with an access token by OAUTHBEARER (RFC 7628) or XOAUTH2.

XOAUTH2 is described at https://developers.google.com/workspace/gmail/imap/xoauth2-protocol and, by Microsoft, at
https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
"""

import base64
import smtplib

from egec_cli.errors import ConfigError
from egec_cli.mail.transports.interface import to_one_line, without_secret
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.password import Password
from egec_cli.settings.types import SecretCommand, SmtpServer
from egec_cli.translation import Words

# A longer command must not contain the response (RFC 4954, 4). Google and Dovecot refuse it.
_LONGEST_COMMAND = 512
# The mechanisms for tokens, the best one first, each with what the client answers to an error.
_ANSWERS_TO_ERROR = {"OAUTHBEARER": "\x01", "XOAUTH2": ""}


class LoginRefused(ConfigError):
    """The mail server refuses the user name with this secret, which may have expired."""

    def __init__(self, message: Words, hint: Words, secret: Password, reply: str) -> None:
        super().__init__(message, hint)
        self.secret = secret
        self.reply = reply


def find_mechanism(smtp: SmtpConnection, server: SmtpServer) -> str:
    """Return the mechanism for tokens to use; empty for a password, for which smtplib chooses.

    Raises:
        ConfigError: the server offers no login by token.
    """
    if not server.uses_oauth:
        return ""
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    for mechanism in _ANSWERS_TO_ERROR:
        if mechanism in offered:
            return mechanism
    raise ConfigError(
        "the mail server {server} does not offer a login by OAuth (OAUTHBEARER or XOAUTH2)",
        "Remove auth=oauth from EGEC_MAIL_URL, or name a server that offers it.",
        server=server,
    )


def log_in(smtp: SmtpConnection, server: SmtpServer, mechanism: str, secret: Password) -> None:
    """Log in with the password, or with the token by this mechanism.

    Raises:
        LoginRefused: the server refuses the user name or the secret.
        SMTPException, OSError: the login failed for another reason.
        UnicodeError: the user name or the password is not ASCII.
    """
    errors: list[str] = []
    try:
        if mechanism:
            _log_in_by_token(smtp, server, mechanism, secret, errors)
        else:
            smtp.login(server.user, secret.reveal())
    except smtplib.SMTPAuthenticationError as error:
        if error.smtp_code < 500:
            raise
        # A server may quote the login (RFC 4616, RFC 4954).
        words = without_secret(" ".join([f"{error.smtp_code} {to_one_line(error.smtp_error)}", *errors]), secret)
        message = Words(
            "the mail server {server} refuses the login of {user!r}: {words}",
            server=server,
            user=server.user,
            words=words,
        )
        raise LoginRefused(message, _hint(server), secret, words) from None


def _log_in_by_token(
    smtp: SmtpConnection, server: SmtpServer, mechanism: str, secret: Password, errors: list[str]
) -> None:
    """Log in with a token; the errors that the server explains in a challenge are appended to `errors`."""
    token = secret.reveal()
    response = f"user={server.user}\x01auth=Bearer {token}\x01\x01"
    if mechanism == "OAUTHBEARER":
        user = server.user.replace("=", "=3D").replace(",", "=2C")
        response = f"n,a={user},\x01host={server.host}\x01port={server.port}\x01auth=Bearer {token}\x01\x01"

    def respond(challenge: bytes | None = None) -> str:
        if not challenge:
            return response
        # The server explains, as JSON, why it refuses the token, and waits for an answer.
        errors.append(to_one_line(challenge))
        return _ANSWERS_TO_ERROR[mechanism]

    command = f"AUTH {mechanism} {base64.b64encode(response.encode()).decode()}\r\n"
    smtp.auth(mechanism, respond, initial_response_ok=len(command) <= _LONGEST_COMMAND)


def _hint(server: SmtpServer) -> Words:
    if server.secret is None:
        return Words("Check the user name and password in EGEC_MAIL_URL.")
    setting = server.secret.setting
    if isinstance(server.secret, SecretCommand):
        return Words("Check the user name in EGEC_MAIL_URL, and what the program in {setting} prints.", setting=setting)
    return Words("Check the user name in EGEC_MAIL_URL, and the file in {setting}.", setting=setting)
