"""What was looked at and how it was found: fine, worth a thought, or at fault; with the cure."""

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How something was found."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        check: what, by a stable name.
        verdict: how it was found.
        detail: what was seen, for people.
        cure: what to do about it; empty where there is nothing to do.
    """

    check: str
    verdict: Verdict
    detail: str
    cure: str
