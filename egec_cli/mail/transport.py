"""The way by which mail leaves: the one that the settings name."""

from egec_cli.mail.delivery import Transport
from egec_cli.settings import MaildirFolder, SendmailProgram, Settings, SmtpServer


def of(settings: Settings) -> Transport:
    """Return the transport that the settings name; nothing is connected yet."""
    # Each kind is imported only where it is used: SMTP brings TLS along, which a Maildir has no use for.
    server = settings.mail_server
    if isinstance(server, SmtpServer):
        from egec_cli.mail.smtp import SmtpTransport

        return SmtpTransport(server, settings.mail_timeout)
    if isinstance(server, SendmailProgram):
        from egec_cli.mail.sendmail import SendmailTransport

        return SendmailTransport(server, settings.mail_timeout)
    assert isinstance(server, MaildirFolder)
    from egec_cli.mail.maildir import MaildirTransport

    return MaildirTransport(server)
