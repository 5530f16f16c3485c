"""Write and read the headers of mails (RFC 5322, RFC 2047).

`email.headerregistry` loses and adds blanks in French display names and subjects, when it folds them and when it reads
several encoded words. So `email.header` writes and reads them here.
"""

import re
import unicodedata
from email.charset import QP, Charset
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.utils import parseaddr

_LONGEST_LINE = 78
# The only header here with free text (RFC 5322, 3.6.5); others must not have encoded words.
_FREE_TEXT = "Subject"
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
# Spam filters suspect base64 in texts that are mostly ASCII.
_UTF_8 = Charset("utf-8")
_UTF_8.header_encoding = QP


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
