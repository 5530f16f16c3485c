"""The way by which mail leaves: the one that the settings name, with a signature where they have a key."""

from collections.abc import Callable
from functools import partial

from egec_cli.mail.compose import message
from egec_cli.mail.transports.interface import Transport
from egec_cli.settings.schema import MaildirFolder, SendmailProgram, Settings, SmtpServer


def open_transport(settings: Settings) -> Transport:
    """Return the transport that the settings name; nothing is connected yet.

    Raises:
        ConfigError: the key by which mails are to be signed is not fit for it, or dkimpy is not installed.
    """
    return transport_factory(settings)()


def transport_factory(settings: Settings) -> Callable[[], Transport]:
    """Return what makes such transports, for several threads; their key is checked once.

    Raises:
        ConfigError: as for `of`.
    """
    if settings.dkim is None:
        return partial(_unsigned, settings)
    # Imported here: without a key, nothing is signed.
    from egec_cli.mail.compose.signing import Signer, SigningTransport

    signer = Signer(settings.dkim, message.sender_domain(settings))
    folder = settings.mail_server
    if isinstance(folder, MaildirFolder):
        from egec_cli.mail.transports.maildir import MaildirTransport

        # It changes the body, so it signs by itself.
        return lambda: MaildirTransport(folder, signer.signed)
    return lambda: SigningTransport(_unsigned(settings), signer)


def _unsigned(settings: Settings) -> Transport:
    # Each kind is imported only where it is used: SMTP brings TLS along, which a Maildir has no use for.
    server = settings.mail_server
    if isinstance(server, SmtpServer):
        from egec_cli.mail.transports.smtp import SmtpTransport

        return SmtpTransport(server, settings.mail_timeout)
    if isinstance(server, SendmailProgram):
        from egec_cli.mail.transports.sendmail import SendmailTransport

        return SendmailTransport(server, settings.mail_timeout)
    assert isinstance(server, MaildirFolder)
    from egec_cli.mail.transports.maildir import MaildirTransport

    return MaildirTransport(server)
