"""What was looked at and how it was found: fine, worth a thought, or at fault; with the cure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from egec_cli.errors import EgecError, ExitCode


class Severity(StrEnum):
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
    verdict: Severity
    detail: str
    cure: str


class TemporaryFault(Finding):
    """A fault that may pass by itself, such as a mail server that cannot be reached: no setting needs to change."""

    __slots__ = ()


def fault_of(check: str, error: EgecError) -> Finding:
    """Return the finding of a check that failed with this error."""
    kind = TemporaryFault if error.exit_code is ExitCode.TEMPORARY_FAILURE else Finding
    return kind(check, Severity.FAULT, error.message, error.hint)


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return the exit code for these findings: that of the worst.

    0 if all is well, 3 if there are warnings, 75 if all faults are temporary, 78 if there is any other fault.
    """
    found = list(findings)
    faults = [finding for finding in found if finding.verdict is Severity.FAULT]
    if faults:
        is_temporary = all(isinstance(fault, TemporaryFault) for fault in faults)
        return ExitCode.TEMPORARY_FAILURE if is_temporary else ExitCode.CONFIGURATION
    return ExitCode.PARTLY_DONE if any(one.verdict is Severity.WARNING for one in found) else ExitCode.OK
