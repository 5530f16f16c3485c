"""What was looked at and how it was found: fine, worth a thought, or at fault; with the cure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from egec_cli.errors import ExitCode


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


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return how a program ends that has found all this: 0 all is well, 3 there are warnings, 78 there is a fault."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.FAULT in verdicts:
        return ExitCode.CONFIGURATION
    return ExitCode.PARTLY_DONE if Verdict.WARNING in verdicts else ExitCode.OK
