"""Header lines that are read back as they were written (RFC 5322, RFC 2047).

`email.headerregistry` loses and adds blanks in French display names and subjects, both when it folds them and when it
reads a display name of several encoded words. `email.header`, which does neither, writes and reads these here.
"""

import re
import unicodedata
from email.charset import QP, Charset
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.utils import parseaddr

_LONGEST_LINE = 78
# The one header here whose value is free text (RFC 5322, 3.6.5): all others may only be written as they are read.
_FREE_TEXT = "Subject"
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
# Filters wonder at base64 where most of a text is ASCII.
_UTF_8 = Charset("utf-8")
_UTF_8.header_encoding = QP


def line(name: str, value: str | Address) -> bytes:
    """Return a header with its line end: in ASCII, but for what stands before the @ of an address.

    Args:
        name: of the header.
        value: as it is to be read. A subject and a display name become encoded words where they must.

    Raises:
        ValueError: the value has a line break or another control character, or half of a character.
    """
    written = str(value)
    if any(unicodedata.category(character) in _CONTROLS for character in written):
        raise ValueError(f"{name} has a control character")
    fits = len(f"{name}: {written}") <= _LONGEST_LINE
    if isinstance(value, Address) and value.display_name and not (fits and _is_plain(value.display_name)):
        written = f"{_encoded(name, value.display_name)}\r\n <{value.addr_spec}>"
    elif name == _FREE_TEXT and not (fits and _is_plain(written)):
        written = _encoded(name, written)
    return f"{name}: {written}\r\n".encode()


def read(content: bytes) -> dict[str, str]:
    """Return the headers of a message, unfolded, by their names."""
    head = content.partition(b"\r\n\r\n")[0].decode()
    lines = (whole.replace("\r\n", "").partition(": ") for whole in re.split(r"\r\n(?![ \t])", head))
    return {name: value for name, _, value in lines}


def read_text(value: str) -> str:
    """Return what an unfolded subject or display name says."""
    return str(make_header(decode_header(value)))


def read_address(value: str) -> Address:
    """Return the one address of an unfolded header.

    Raises:
        ValueError: there is none, or none that can be sent to.
    """
    display_name, address = parseaddr(value)
    username, _, domain = address.rpartition("@")
    return Address(read_text(display_name), username, domain)


def _is_plain(text: str) -> bool:
    """Tell whether a text is read as it is written: what reads a header may take several blanks for one."""
    return text.isascii() and "=?" not in text and text == " ".join(text.split())


def _encoded(name: str, text: str) -> str:
    return Header(text, _UTF_8, header_name=name).encode(linesep="\r\n")
