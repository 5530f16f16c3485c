"""The mail that carries an identifier and a password: built, then parsed back before it may leave.

The headers are those that mail filters ask of an automatic message (RFC 5322; RFC 3834 for Auto-Submitted).
No header holds a value of a client but the bare address in To: a name could smuggle in other headers
(CVE-2024-6923), and the standard library's folding garbles long names.
"""

import os
import re
from binascii import b2a_qp
from datetime import UTC, datetime
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
    values = _values(settings, _greeting(settings, name, language), identifier, password, issued_at, language)
    subject, text = _subject_and_text(template.find(settings, f"credentials.{language}.txt"), values)
    html = template.find(settings, f"credentials.{language}.html").render(values, _REQUIRED)
    return _built(settings, recipient, subject, text, html, issued_at)


class Form:
    """The mail of the memo in one language, ready to be filled in for many clients.

    The standard library takes a hundred times as long for each; what it makes, of a sample, is filled in here. The two
    parse to the same message.

    Raises:
        Misconfigured: a template or a setting makes a mail that would not arrive as it was written.
    """

    def __init__(self, settings: Settings, language: str) -> None:
        self._settings = settings
        self._language = language
        sample = self.sample(datetime.now(UTC))
        self._domain = sample.message_id.rpartition("@")[2]
        self._sender = sample.sender
        self._text = template.find(settings, f"credentials.{language}.txt")
        self._html = template.find(settings, f"credentials.{language}.html")
        self._subject_varies = bool(_OF_EACH_CLIENT.search(self._text.text.partition("\n")[0]))
        self._unnamed = template.text(settings, "greeting-unnamed", language)
        self._named = template.find(settings, f"greeting.{language}.txt")
        head, _, body = sample.content.partition(b"\r\n\r\n")
        boundary = message_from_bytes(sample.content).get_boundary()
        self._head = _HEADER_THAT_VARIES.split(head)
        _, text_part, html_part, self._end = body.split(f"--{boundary}".encode())
        self._text_head, self._html_head = (part.partition(b"\r\n\r\n")[0] for part in (text_part, html_part))
        self._delimiter = f"--{boundary}".encode()

    def sample(self, issued_at: datetime) -> Mail:
        """Return the mail of a client who does not exist, with a password that opens nothing."""
        return credentials_mail(
            self._settings,
            recipient="jeanne.dupont@example.org",
            language=self._language,
            name="Mme Dupont",
            identifier="1234567890",
            password=Password("fG69a*6jH"),
            issued_at=issued_at,
        )

    def new_message_id(self) -> str:
        """Return a Message-ID that no other mail has."""
        return f"<{os.urandom(16).hex()}@{self._domain}"

    def filled(
        self, *, recipient: str, name: str, identifier: str, password: Password, issued_at: datetime, message_id: str
    ) -> Mail:
        """Return the mail for one client; the arguments are those of `credentials_mail`."""
        greeting = self._named.filled({"name": name}).rstrip() if name else self._unnamed
        values = _values(self._settings, greeting, identifier, password, issued_at, self._language)
        text = self._text.filled(values).partition("\n")[2].lstrip("\n")
        html = self._html.filled(values)
        if self._subject_varies or not recipient.isascii() or not self._sender.isascii():
            subject = self._text.filled(values).partition("\n")[0].removeprefix("Subject: ").strip()
            return _built(self._settings, recipient, subject, text, html, issued_at, message_id)
        varying = {b"To": recipient, b"Date": format_datetime(issued_at), b"Message-ID": message_id}
        head = b"".join(
            piece if index % 2 == 0 else b"%s: %s" % (piece, varying[piece].encode())
            for index, piece in enumerate(self._head)
        )
        parts = [head, b"\r\n\r\n"]
        parts += [self._delimiter, self._text_head, b"\r\n\r\n", _quoted_printable(text)]
        parts += [self._delimiter, self._html_head, b"\r\n\r\n", _quoted_printable(html)]
        parts += [self._delimiter, self._end]
        return Mail(self._sender, recipient, message_id, False, b"".join(parts))


# Split by this, a block of headers alternates between what stays and the names of those that are each client's own.
_HEADER_THAT_VARIES = re.compile(rb"^(To|Date|Message-ID):.*(?:\r\n[ \t].*)*", re.MULTILINE)


_OF_EACH_CLIENT = re.compile(r"\$\{?(greeting|identifier|issued_at)\b", re.IGNORECASE)


def _quoted_printable(text: str) -> bytes:
    """Return a text as the body of a part, up to the line break that belongs to the delimiter after it."""
    lines = text.rstrip("\n").replace("\n", "\r\n") + "\r\n"
    return b2a_qp(lines.encode(), istext=True) + b"\r\n"


def _values(
    settings: Settings, greeting: str, identifier: str, password: Password, issued_at: datetime, language: str
) -> dict[str, str]:
    return {
        "greeting": greeting,
        "identifier": identifier,
        "password": password.reveal(),
        "issued_at": _moment(issued_at, language),
        "app_name": settings.app_name,
        "app_url": settings.app_url,
        "support": settings.support,
    }


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


def _built(
    settings: Settings,
    recipient: str,
    subject: str,
    text: str,
    html: str,
    issued_at: datetime,
    message_id: str | None = None,
) -> Mail:
    sender = _address(settings.mail_from, "EGEC_MAIL_FROM")
    reply_to = _address(settings.mail_reply_to, "EGEC_MAIL_REPLY_TO") if settings.mail_reply_to else None
    addresses = [recipient, sender.addr_spec, reply_to.addr_spec if reply_to else ""]
    needs_smtputf8 = not all(address.isascii() for address in addresses)
    rules = policy.SMTPUTF8 if needs_smtputf8 else policy.SMTP
    message_id = message_id or f"<{os.urandom(16).hex()}@{sender.domain}>"
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
