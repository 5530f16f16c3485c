"""What may become of a mail: accepted, refused for certain, or nobody knows; the interface of all ways to send it."""

import re
import unicodedata
from enum import StrEnum
from typing import NamedTuple, Protocol

from egec_cli.errors import EgecError
from egec_cli.mail.compose.message import Mail
from egec_cli.translation import Words


class DeliveryOutcome(StrEnum):
    """What became of a mail, in a word that stays on record."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


class Reply(NamedTuple):
    """What was said of a mail that was accepted, in one line of harmless characters."""

    text: str


class DeliveryRefused(Exception):
    """The mail was not taken, for certain.

    Attributes:
        error: the reason, with the exit code that fits: 65 this address, 74 or 75 not now, 77 or 78 our own set-up.
        reply: the server's words, if it said any.
        server_away: no mail would have been taken at this moment, whosever it was.
    """

    def __init__(self, error: EgecError, reply: str | None = None, *, server_away: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.reply = reply
        self.server_away = server_away


class DeliveryUnknown(Exception):
    """The mail began to go out and nobody knows whether it was taken; `words` tell why, made as those of an error."""

    def __init__(self, what: str, /, **values: object) -> None:
        self.words = Words(what, **values)
        super().__init__(self.words)


class Transport(Protocol):
    """A way for mail to leave. It is used by one thread at a time."""

    def connect(self) -> None:
        """Connect where there is no connection, so that the next mail does not wait.

        Raises:
            Refused: there is no way for mail to leave at present.
        """

    def deliver(self, mail: Mail) -> Reply:
        """Hand over one mail; to return means that it was accepted.

        Raises:
            Refused: it was not taken, for certain.
            DeliveryUnknown: it may have been taken.
        """

    def close(self) -> None:
        """Let go of the connection; never raises."""


def to_one_line(answer: bytes | str) -> str:
    """Return a server's answer as one line without control characters."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    clean = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(" +", " ", clean).strip()
