"""Sample mails with an invalid password, for previews and test mails."""

import re
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import escape

from egec_cli.mail.compose import message, template
from egec_cli.mail.compose.message import SAMPLE, SAMPLE_ADDRESS, SAMPLE_NAME, Mail
from egec_cli.mail.compose.template import Kind, KindTemplates, MailText
from egec_cli.settings.types import Settings

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
    record: str = "",
) -> Mail:
    """Return a mail as a client would get it, except for the password.

    Args:
        at: the time of the issue or the change.
        recipient: the address in its ASCII (IDNA) form.
        name: how the client is greeted; may be empty.
        sentence: that of a bulk run; if empty, the one of the templates.
        is_test: mark the subject and the first line as a test.
        record: how the mail names the client, if several clients have the address.

    Raises:
        ConfigError: a template or a setting would damage the mail.
    """
    values = template.all_values(
        settings,
        kind,
        language,
        name=name,
        identifier=identifier,
        password=SAMPLE[1],
        sentence=sentence,
        at=at,
        record=record,
    )
    text = KindTemplates.find(settings, kind, language).fill(values)
    if is_test:
        text = _mark_as_test(text, template.render_text(settings, "test", language))
    return message.finish_mail(settings, text, recipient, at)


def _mark_as_test(text: MailText, mark: str) -> MailText:
    body = _BODY.search(text.html)
    place = body.end() if body else 0
    line = f'\n<p style="font-family:Arial,Helvetica,sans-serif"><strong>{escape(mark)}</strong></p>'
    return MailText(f"[test] {text.subject}", f"{mark}\n\n{text.text}", text.html[:place] + line + text.html[place:])


def render_as_text(mail: Mail) -> str:
    """Return the recipient, the subject and the plain text of a mail."""
    parsed = message_from_bytes(mail.content, policy=policy.default)
    return f"To: {parsed['To']}\nSubject: {parsed['Subject']}\n\n{_read_part(parsed, 'plain')}"


def extract_html(mail: Mail) -> str:
    """Return the HTML part of a mail."""
    return _read_part(message_from_bytes(mail.content, policy=policy.default), "html")


def _read_part(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None, "each mail has both parts"
    return str(part.get_content()).replace("\r\n", "\n")
