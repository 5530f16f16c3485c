"""The interface of all mail transports, and the possible results of a delivery."""

import re
import unicodedata
from enum import StrEnum
from typing import NamedTuple, Protocol

from egec_cli.errors import EgecError
from egec_cli.mail.compose.message import Mail
from egec_cli.translation import Words


class DeliveryOutcome(StrEnum):
    """The result of a delivery, as recorded in the database."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


class Reply(NamedTuple):
    """The reply to an accepted mail, as one line of harmless characters."""

    text: str


class DeliveryRefused(Exception):
    """The mail was certainly not accepted.

    Attributes:
        error: the reason; its exit code is 65 for the address, 74 or 75 for a temporary failure, 77 or 78 for our
            configuration.
        reply: the server's text, if any.
        server_unavailable: the server would have refused any mail at this moment.
    """

    def __init__(self, error: EgecError, reply: str | None = None, *, server_unavailable: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.reply = reply
        self.server_unavailable = server_unavailable


class DeliveryUnknown(Exception):
    """The mail was sent, at least in part, and may have been accepted; `words` give the reason."""

    def __init__(self, what: str, /, **values: object) -> None:
        self.words = Words(what, **values)
        super().__init__(self.words)


class Transport(Protocol):
    """Sends mails, for one thread at a time."""

    def connect(self) -> None:
        """Connect in advance, so that the next mail does not wait.

        Raises:
            DeliveryRefused: the transport cannot send at present.
        """

    def deliver(self, mail: Mail) -> Reply:
        """Send one mail; returns only if the mail was accepted.

        Raises:
            DeliveryRefused: the mail was certainly not accepted.
            DeliveryUnknown: the mail may have been accepted.
        """

    def close(self) -> None:
        """Close the connection; never raises."""


def to_one_line(answer: bytes | str) -> str:
    """Return a server's answer as one line without control characters."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    clean = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(" +", " ", clean).strip()
