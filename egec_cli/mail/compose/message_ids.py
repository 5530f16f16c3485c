"""Message-IDs and envelope senders by which a delivery report finds the credential of its mail again.

Both hold the same mark: the key of the client, by which the few credentials that it can mean are found at once, and
random digits, without which nobody who has not had the mail, or its report, in hand can name one of them.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# The key of the client of a sample: nobody has it.
NOBODY = 0
_RANDOM_BYTES = 12
_MARK = r"([0-9]{1,10})\.[0-9a-f]{24}"
# Before a mark, a report has the < of the Message-ID or the + of the envelope sender, as it is or as =3C or %2B.
_MARK_BEFORE_AT = re.compile(rf"(?<![0-9.])({_MARK})(?=@|=40|%40)".encode())
_FORM = re.compile(rf"<({_MARK})@[^<>@\s]+>")


class Mark(NamedTuple):
    """What is found of a Message-ID or an envelope sender: the client's key, and the whole before the @."""

    client: int
    text: str


def new_message_id(client: int, domain: str) -> str:
    """Return a Message-ID that no other mail has.

    Args:
        client: the key of the client who is mailed.
        domain: of the sender; a host that is no full domain name is a mark of spam.
    """
    return f"<{client}.{os.urandom(_RANDOM_BYTES).hex()}@{domain}>"


def message_id_pattern(domain: str) -> str:
    """Return the regular expression of the Message-IDs that `new` makes for this domain."""
    return rf"<{_MARK}@{re.escape(domain)}>"


def envelope_sender(bounces: str, message_id: str) -> str:
    """Return the address to which a mail of this Message-ID comes back: `local+MARK@domain` (VERP).

    Args:
        bounces: the address that gets the bounces; what is behind a + in it is for the mail server to ignore.
        message_id: of the mail; where it was not made by `new`, the address stays as it is.
    """
    parts = _FORM.fullmatch(message_id)
    local, _, domain = bounces.rpartition("@")
    return f"{local}+{parts[1]}@{domain}" if parts else bounces


def find_marks(content: bytes) -> Iterator[Mark]:
    """Yield the marks that stand before an @, in their order, however often each comes."""
    for found in _MARK_BEFORE_AT.finditer(content):
        yield Mark(int(found[2]), found[1].decode())


def is_mark_of(mark: Mark, message_id: str | None) -> bool:
    """Tell whether a mark is that of a Message-ID."""
    return message_id is not None and message_id.startswith(f"<{mark.text}@")
