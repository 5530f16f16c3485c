"""Choose, write and read the headers of mails (RFC 5322, RFC 2047).

The Message-ID and the envelope sender lead from a delivery report to the credential of its mail. Both contain the same
mark: the key of the client, for a fast search, and random digits, which only readers of the mail or its report know.

`email.headerregistry` loses and adds blanks in French display names and subjects, when it folds them and when it reads
several encoded words. So `email.header` writes and reads them here.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from email.charset import QP, Charset
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.utils import format_datetime, parseaddr
from typing import NamedTuple

from egec_cli import email_address
from egec_cli.errors import ConfigError, InvalidInput
from egec_cli.settings.types import Settings

_LONGEST_LINE = 78
# The only header here with free text (RFC 5322, 3.6.5); others must not have encoded words.
_FREE_TEXT = "Subject"
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
# Spam filters suspect base64 in texts that are mostly ASCII.
_UTF_8 = Charset("utf-8")
_UTF_8.header_encoding = QP
# The client key of samples.
NOBODY = 0
_RANDOM_BYTES = 12
_MARK = r"([0-9]{1,10})\.[0-9a-f]{24}"
# In a report, a mark follows the < of a Message-ID or the + of an envelope sender, plain or as =3C or %2B.
_MARK_BEFORE_AT = re.compile(rf"(?<![0-9.])({_MARK})(?=@|=40|%40)".encode())
_FORM = re.compile(rf"<({_MARK})@[^<>@\s]+>")


def list_headers(
    settings: Settings, recipient: str, subject: str, issued_at: datetime, message_id: str
) -> dict[str, str | Address]:
    """Return the headers of a mail by name, in order, except those that depend on its parts.

    Raises:
        ConfigError: an address in the settings is invalid.
    """
    sender, reply_to = own_addresses(settings)
    wanted: dict[str, str | Address] = {
        "From": sender,
        "To": recipient,
        "Subject": subject,
        "Date": format_datetime(issued_at),
        "Message-ID": message_id,
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply",
    }
    if reply_to:
        wanted["Reply-To"] = reply_to
    return wanted


def has_ascii_senders(settings: Settings) -> bool:
    """Return whether the addresses in From and Reply-To are ASCII, so that every server accepts them.

    Raises:
        ConfigError: an address is invalid.
    """
    return all(address.addr_spec.isascii() for address in own_addresses(settings) if address)


def own_addresses(settings: Settings) -> tuple[Address, Address | None]:
    """Return the addresses of From and Reply-To."""
    sender = _parse_setting(settings.mail_from, "EGEC_MAIL_FROM")
    reply_to = settings.mail_reply_to
    return sender, _parse_setting(reply_to, "EGEC_MAIL_REPLY_TO") if reply_to else None


def bounce_address(settings: Settings) -> str:
    """Return the address for bounces in its ASCII (IDNA) form; empty if the sender gets them."""
    return _parse_setting(settings.mail_bounces, "EGEC_MAIL_BOUNCES").addr_spec if settings.mail_bounces else ""


def _parse_setting(setting: str, variable: str) -> Address:
    display_name, bracket, rest = setting.rpartition("<")
    try:
        wire = email_address.parse_email(rest.removesuffix(">")).wire
        # The argument `addr_spec` accepts ASCII only.
        local_part, _, domain = wire.rpartition("@")
        return Address(display_name.strip() if bracket else "", local_part, domain)
    except (InvalidInput, ValueError, HeaderParseError):
        raise ConfigError(
            "{variable} is not an e-mail address: {setting}", "Correct {variable}.", variable=variable, setting=setting
        ) from None


def sender_domain(settings: Settings) -> str:
    """Return the domain of the address in From, in IDNA form.

    Raises:
        ConfigError: the address is invalid.
    """
    return _parse_setting(settings.mail_from, "EGEC_MAIL_FROM").domain


class Mark(NamedTuple):
    """The client key, and the whole mark as it stands before the @."""

    client: int
    text: str


def new_message_id(client: int, domain: str) -> str:
    """Return a unique Message-ID; its domain must be a full domain name, otherwise filters suspect spam."""
    return f"<{client}.{os.urandom(_RANDOM_BYTES).hex()}@{domain}>"


def message_id_pattern(domain: str) -> str:
    """Return a regular expression for the results of `new_message_id` with this domain."""
    return rf"<{_MARK}@{re.escape(domain)}>"


def envelope_sender(bounces: str, message_id: str) -> str:
    """Return the envelope sender `local+MARK@domain` (VERP) for a mail; unchanged if its Message-ID has no mark.

    Args:
        bounces: the address that gets the bounces; its mail server must ignore what follows a +.
    """
    parts = _FORM.fullmatch(message_id)
    local, _, domain = bounces.rpartition("@")
    return f"{local}+{parts[1]}@{domain}" if parts else bounces


def find_marks(content: bytes) -> Iterator[Mark]:
    """Yield the marks before an @, in order and with repetitions."""
    for found in _MARK_BEFORE_AT.finditer(content):
        yield Mark(int(found[2]), found[1].decode())


def format_header(name: str, value: str | Address) -> bytes:
    """Return a header with its line end, in ASCII except before the @ of an address.

    Subjects and display names become encoded words if necessary.

    Raises:
        ValueError: the value has a control character, such as a line break, or a lone surrogate.
    """
    written = str(value)
    if any(unicodedata.category(character) in _CONTROLS for character in written):
        raise ValueError(f"{name} has a control character")
    fits = len(f"{name}: {written}") <= _LONGEST_LINE
    if isinstance(value, Address) and value.display_name and not (fits and _is_plain(value.display_name)):
        written = f"{_encode_words(name, value.display_name)}\r\n <{value.addr_spec}>"
    elif name == _FREE_TEXT and not (fits and _is_plain(written)):
        written = _encode_words(name, written)
    return f"{name}: {written}\r\n".encode()


def parse_header(content: bytes) -> dict[str, str]:
    """Return the unfolded headers of a message by name."""
    head = content.partition(b"\r\n\r\n")[0].decode()
    lines = (whole.replace("\r\n", "").partition(": ") for whole in re.split(r"\r\n(?![ \t])", head))
    return {name: value for name, _, value in lines}


def parse_text_header(value: str) -> str:
    """Decode an unfolded subject or display name."""
    return str(make_header(decode_header(value)))


def parse_address_header(value: str) -> Address:
    """Return the address of an unfolded header.

    Raises:
        ValueError: the address is missing or invalid.
    """
    display_name, address = parseaddr(value)
    username, _, domain = address.rpartition("@")
    return Address(parse_text_header(display_name), username, domain)


def _is_plain(text: str) -> bool:
    """Return whether a header needs no encoding for this text; readers may merge several blanks."""
    return text.isascii() and "=?" not in text and text == " ".join(text.split())


def _encode_words(name: str, text: str) -> str:
    return Header(text, _UTF_8, header_name=name).encode(linesep="\r\n")
