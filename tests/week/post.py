"""The post: the mails that the server really accepted, as clients read them."""

import re
from collections.abc import Sequence
from email import message_from_bytes
from email.message import Message
from random import Random
from typing import NamedTuple

from tests.reissue_storm import LOST_ANSWERS, REFUSALS, REFUSALS_FOR_NOW
from tests.smtp_server import Fault, MailServer

_IDENTIFIER = re.compile(r"(?:identifiant CLIENT est|CLIENT identifier is)\s*:\s+([0-9]{10})\s")
_PASSWORD = re.compile(r"(?:mot de passe est|password is)\s*:\s+(\S{9})\s")
# Servers that quote the whole mail, password and all.
_QUOTATIONS = (Fault.ANSWER_THAT_QUOTES, Fault.REFUSAL_THAT_QUOTES)
FOUL = (REFUSALS, REFUSALS_FOR_NOW, LOST_ANSWERS, _QUOTATIONS)
# What does not strike for good.
PASSING = (REFUSALS_FOR_NOW, LOST_ANSWERS)


class Letter(NamedTuple):
    """A mail that the server accepted; a note has neither identifier nor password."""

    sender: str
    recipient: str
    message_id: str
    identifier: str
    password: str


class Post:
    """The letters of a mail server, oldest first."""

    def __init__(self, server: MailServer) -> None:
        self.server = server
        self._letters: list[Letter] = []

    @property
    def received(self) -> int:
        """How many mails the server has accepted so far."""
        return len(self.server.accepted)

    def letters(self) -> Sequence[Letter]:
        """Return all that was received so far."""
        for mail in self.server.accepted[len(self._letters) :]:
            self._letters.append(_read(mail.sender, mail.recipient, mail.content))
        return self._letters


def weather(mails: int, chance: Random, *, one_in: int, kinds: Sequence[Sequence[Fault]] = FOUL) -> list[Fault]:
    """Return the faults of `mails` mails, of which about one in `one_in` has a fault of these kinds."""
    return [chance.choice(chance.choice(kinds)) if chance.randrange(one_in) == 0 else Fault.NONE for _ in range(mails)]


def _read(sender: str, recipient: str, content: bytes) -> Letter:
    mail = message_from_bytes(content)
    # The text part alone, without the modern parser: there are many thousands.
    part = mail.get_payload(0)
    assert isinstance(part, Message)
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    text = payload.decode()
    identifier, password = (found[1] if (found := pattern.search(text)) else "" for pattern in (_IDENTIFIER, _PASSWORD))
    return Letter(sender, recipient, mail["Message-ID"], identifier, password)
