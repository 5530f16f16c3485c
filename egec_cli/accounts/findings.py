"""What an examination of the installation finds: verdicts, and what to do about them."""

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How a check ended: all is well, something is to be seen to, or it does not work."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(NamedTuple):
    """What one check found: a stable name, how it ended, what was seen, and what to type; the last may be empty."""

    check: str
    verdict: Verdict
    detail: str
    cure: str
