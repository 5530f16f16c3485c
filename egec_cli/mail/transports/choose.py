"""Choose the transport that the settings name, and sign its mails if they contain a DKIM key."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from egec_cli.mail.compose import headers
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.transports.interface import Reply, Transport
from egec_cli.settings.types import MaildirFolder, SendmailProgram, Settings, SmtpServer

if TYPE_CHECKING:
    from egec_cli.mail.compose.signing import Signer


def open_transport(settings: Settings) -> Transport:
    """Return the transport that the settings name; it connects later.

    Raises:
        ConfigError: the DKIM key is invalid, or dkimpy is not installed.
    """
    return transport_factory(settings)()


def transport_factory(settings: Settings) -> Callable[[], Transport]:
    """Return a function that opens transports, one per thread; the DKIM key is checked once.

    Raises:
        ConfigError: the DKIM key is invalid, or dkimpy is not installed.
    """
    if settings.dkim is None:
        return partial(_open_unsigned, settings)
    # Imported here: needed only with a key.
    from egec_cli.mail.compose.signing import Signer

    signer = Signer(settings.dkim, headers.sender_domain(settings))
    folder = settings.mail_server
    if isinstance(folder, MaildirFolder):
        from egec_cli.mail.transports.maildir import MaildirTransport

        # This transport changes the body, so it must sign afterwards.
        return lambda: MaildirTransport(folder, signer.sign)
    return lambda: SigningTransport(_open_unsigned(settings), signer)


class SigningTransport:
    """Signs each mail and passes it to another transport."""

    def __init__(self, inner: Transport, signer: "Signer") -> None:
        self._inner = inner
        self._signer = signer

    def connect(self) -> None:
        """Connect the inner transport."""
        self._inner.connect()

    def deliver(self, mail: Mail) -> Reply:
        """Sign and send one mail."""
        return self._inner.deliver(mail._replace(content=self._signer.sign(mail.content)))

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


def _open_unsigned(settings: Settings) -> Transport:
    # Each kind is imported only if used: SMTP needs TLS, a Maildir does not.
    server = settings.mail_server
    if isinstance(server, SmtpServer):
        from egec_cli.mail.transports.smtp import SmtpTransport

        return SmtpTransport(server, settings.mail_timeout, settings.mail_final_timeout)
    if isinstance(server, SendmailProgram):
        from egec_cli.mail.transports.sendmail import SendmailTransport

        return SendmailTransport(server, settings.mail_final_timeout)
    assert isinstance(server, MaildirFolder)
    from egec_cli.mail.transports.maildir import MaildirTransport

    return MaildirTransport(server)
