"""Mails with a password that opens nothing: to be looked at, or sent to try the way."""

import re
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import escape

from egec_cli.mail.compose import message, template, wording
from egec_cli.mail.compose.message import SAMPLE, SAMPLE_ADDRESS, SAMPLE_NAME, Mail
from egec_cli.mail.compose.wording import Kind, KindTemplates, MailText
from egec_cli.settings.schema import Settings

_BODY = re.compile(r"<body\b[^>]*>", re.IGNORECASE)


def sample_mail(
    settings: Settings,
    kind: Kind,
    language: str,
    *,
    at: datetime,
    recipient: str = SAMPLE_ADDRESS,
    name: str = SAMPLE_NAME,
    identifier: str = SAMPLE[0],
    sentence: str = "",
    is_test: bool = False,
) -> Mail:
    """Return a mail of a kind as a client would get it, but for the password.

    Args:
        settings: whose templates, names and addresses are used.
        kind: of the mail.
        language: one of `settings.LANGUAGES`.
        at: the moment of the issue or the change.
        recipient: the address as mail servers are told it.
        name: how the client is greeted; may be empty.
        identifier: the client's.
        sentence: that of a bulk run; empty where that is for the templates to say.
        is_test: let the subject and the first line say that it is a test.

    Raises:
        ConfigError: a template or a setting makes a mail that would not arrive as it was written.
    """
    values = wording.all_values(
        settings,
        kind,
        language,
        name=name,
        identifier=identifier,
        password=SAMPLE[1],
        sentence=sentence,
        at=at,
    )
    said = KindTemplates.find(settings, kind, language).filled(values)
    if is_test:
        said = _marked(said, template.render_text(settings, "test", language))
    return message.finish_mail(settings, said, recipient, at)


def _marked(said: MailText, mark: str) -> MailText:
    body = _BODY.search(said.html)
    place = body.end() if body else 0
    line = f'\n<p style="font-family:Arial,Helvetica,sans-serif"><strong>{escape(mark)}</strong></p>'
    return MailText(f"[test] {said.subject}", f"{mark}\n\n{said.text}", said.html[:place] + line + said.html[place:])


def render_as_text(mail: Mail) -> str:
    """Return a mail as a reader of plain text sees it: for whom, its subject, its text."""
    parsed = message_from_bytes(mail.content, policy=policy.default)
    return f"To: {parsed['To']}\nSubject: {parsed['Subject']}\n\n{_part(parsed, 'plain')}"


def html_of(mail: Mail) -> str:
    """Return the HTML of a mail."""
    return _part(message_from_bytes(mail.content, policy=policy.default), "html")


def _part(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None, "each mail has a text and a page"
    return str(part.get_content()).replace("\r\n", "\n")
