"""The mail that carries an identifier and a password: built, then parsed back before it may leave.

The headers are those that mail filters ask of an automatic message (RFC 5322; RFC 3834 for Auto-Submitted).
No header holds a value of a client but the bare address in To: a name could smuggle in other headers
(CVE-2024-6923), and the standard library's folding garbles long names.
"""

import secrets
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.errors import BadInput, Misconfigured
from egec_cli.mail import template
from egec_cli.password import Password
from egec_cli.settings import Settings

_REQUIRED = ("identifier", "password")


class Mail(NamedTuple):
    """A finished message and its envelope. `content` holds a clear password, so it never shows itself.

    Attributes:
        needs_smtputf8: an address has letters beyond ASCII before its @ (RFC 6531).
    """

    sender: str
    recipient: str
    message_id: str
    needs_smtputf8: bool
    content: bytes

    def __repr__(self) -> str:
        return f"Mail({self.message_id} to {self.recipient})"


def credentials_mail(
    settings: Settings,
    *,
    recipient: str,
    language: str,
    name: str,
    identifier: str,
    password: Password,
    issued_at: datetime,
) -> Mail:
    """Return the mail of the memo for one client.

    Args:
        settings: whose templates, names and addresses are used.
        recipient: the client's address as mail servers are told it.
        language: of the client, one of `settings.LANGUAGES`.
        name: how the client is greeted, such as `M. Dupont`; may be empty.
        identifier: the client's identifier.
        password: the new password.
        issued_at: the moment of the issue; the client tells the latest mail by it.

    Raises:
        Misconfigured: a template or a setting makes a mail that would not arrive as it was written.
    """
    values = {
        "greeting": _greeting(settings, name, language),
        "identifier": identifier,
        "password": password.reveal(),
        "issued_at": _moment(issued_at, language),
        "app_name": settings.app_name,
        "app_url": settings.app_url,
        "support": settings.support,
    }
    subject, text = _subject_and_text(template.find(settings, f"credentials.{language}.txt"), values)
    html = template.find(settings, f"credentials.{language}.html").render(values, _REQUIRED)
    return _built(settings, recipient, subject, text, html, issued_at)


def _greeting(settings: Settings, name: str, language: str) -> str:
    if not name:
        return template.text(settings, "greeting-unnamed", language)
    return template.text(settings, "greeting", language, name=name)


def _moment(moment: datetime, language: str) -> str:
    local = moment.astimezone()
    offset = local.strftime("%z")
    form = "%d/%m/%Y à %H:%M:%S" if language == "fr" else "%Y-%m-%d at %H:%M:%S"
    return f"{local.strftime(form)} (UTC{offset[:3]}:{offset[3:]})"


def _subject_and_text(source: template.Template, values: dict[str, str]) -> tuple[str, str]:
    filled = source.render(values, _REQUIRED)
    first, _, rest = filled.partition("\n")
    if not first.startswith("Subject: ") or not rest.startswith("\n"):
        raise Misconfigured(
            f"{source.path}:1: the first line is not `Subject: ...` with an empty line below it",
            "Begin the file with the subject of the mail.",
        )
    subject = first.removeprefix("Subject: ").strip()
    if values["password"] in subject:
        raise Misconfigured(f"{source.path}:1: the subject shows the password", "Take $password out of the first line.")
    return subject, rest.lstrip("\n")


def _built(settings: Settings, recipient: str, subject: str, text: str, html: str, issued_at: datetime) -> Mail:
    sender = _address(settings.mail_from, "EGEC_MAIL_FROM")
    reply_to = _address(settings.mail_reply_to, "EGEC_MAIL_REPLY_TO") if settings.mail_reply_to else None
    addresses = [recipient, sender.addr_spec, reply_to.addr_spec if reply_to else ""]
    needs_smtputf8 = not all(address.isascii() for address in addresses)
    rules = policy.SMTPUTF8 if needs_smtputf8 else policy.SMTP
    message_id = f"<{secrets.token_hex(16)}@{sender.domain}>"
    headers: dict[str, str | Address] = {
        "From": sender,
        "To": recipient,
        "Subject": subject,
        "Date": format_datetime(issued_at),
        "Message-ID": message_id,
        "Auto-Submitted": "auto-generated",
    }
    if reply_to:
        headers["Reply-To"] = reply_to
    message = EmailMessage(policy=rules)
    try:
        for header, value in headers.items():
            message[header] = value
        message.set_content(text, cte="quoted-printable")
        message.add_alternative(html, subtype="html", cte="quoted-printable")
        content = message.as_bytes()
    except (ValueError, HeaderParseError):
        raise _garbled("cannot be written as a mail") from None
    _parse_back(content, headers, text, html)
    return Mail(sender.addr_spec, recipient, message_id, needs_smtputf8, content)


def _address(setting: str, variable: str) -> Address:
    display_name, bracket, rest = setting.rpartition("<")
    try:
        wire = email_address.checked(rest.removesuffix(">")).wire
        # Not by `addr_spec`, which takes ASCII alone.
        local_part, _, domain = wire.rpartition("@")
        return Address(display_name.strip() if bracket else "", local_part, domain)
    except (BadInput, ValueError, HeaderParseError):
        raise Misconfigured(f"{variable} is no e-mail address: {setting}", f"Mend {variable}.") from None


def _parse_back(content: bytes, headers: dict[str, str | Address], text: str, html: str) -> None:
    parsed = message_from_bytes(content, policy=policy.default)
    names = [name for name in parsed if name not in {"Content-Type", "MIME-Version"}]
    if names != list(headers):
        raise _garbled(f"has other headers than it was given: {', '.join(names)}")
    for name, value in headers.items():
        if str(parsed[name]) != str(value):
            raise _garbled(f"loses a part of its {name} on the way: {value}")
    for kind, written in (("plain", text), ("html", html)):
        part = parsed.get_body((kind,))
        # The standard library ends the last line where a template does not.
        if part is None or part.get_content().replace("\r\n", "\n").rstrip("\n") != written.rstrip("\n"):
            raise _garbled(f"loses a part of its {kind} text on the way")


def _garbled(what: str) -> Misconfigured:
    return Misconfigured(f"the mail {what}", "Use short names and subjects without accents in EGEC_* and templates.")
