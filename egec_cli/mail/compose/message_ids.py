"""Message-IDs and envelope senders that lead from a delivery report to the credential of its mail.

Both contain the same mark: the key of the client, for a fast search, and random digits, which only readers of the mail
or its report can know.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# The client key of samples.
NOBODY = 0
_RANDOM_BYTES = 12
_MARK = r"([0-9]{1,10})\.[0-9a-f]{24}"
# In a report, a mark follows the < of a Message-ID or the + of an envelope sender, plain or as =3C or %2B.
_MARK_BEFORE_AT = re.compile(rf"(?<![0-9.])({_MARK})(?=@|=40|%40)".encode())
_FORM = re.compile(rf"<({_MARK})@[^<>@\s]+>")


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
        message_id: that of the mail.
    """
    parts = _FORM.fullmatch(message_id)
    local, _, domain = bounces.rpartition("@")
    return f"{local}+{parts[1]}@{domain}" if parts else bounces


def find_marks(content: bytes) -> Iterator[Mark]:
    """Yield the marks before an @, in order and with repetitions."""
    for found in _MARK_BEFORE_AT.finditer(content):
        yield Mark(int(found[2]), found[1].decode())
