"""Tell from a mail server's answer why it refused a mail: because of the recipient, our speed, or ourselves.

The reply code (RFC 5321) says too little: 450 is a greylist, a full mailbox or a quota. The status code (RFC 3463) says
more, but many servers send none or a general one. So `RULES` look at the stage, both codes and the words. The first
rule that fits decides, and the last rules fit by stage alone.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from egec_cli.mail.transports.interface import Cause


class Stage(StrEnum):
    """The step of the SMTP dialogue that was refused."""

    GREETING = "greeting"
    HELLO = "hello"  # EHLO and STARTTLS
    LOGIN = "login"
    SENDER = "sender"  # MAIL
    RECIPIENT = "recipient"  # RCPT
    DATA = "data"
    MESSAGE = "message"  # the answer to the final dot


def classify(stage: Stage, code: int, text: str) -> Cause:
    """Return why a server refused: by its reply code of 4xx or 5xx and the text that follows it."""
    return Cause.UNCLEAR


def same_answer(reply: str) -> str:
    """Return a key that is equal for the same refusal of different recipients."""
    return reply
