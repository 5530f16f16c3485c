"""The findings of checks, and the exit code for them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from egec_cli.errors import EgecError, ExitCode


class Severity(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        check: a stable name.
        verdict: the severity.
        details: what was found, for people.
        fix: what to do; empty if nothing.
    """

    check: str
    verdict: Severity
    details: str
    fix: str = ""


class TemporaryError(Finding):
    """An error that may pass without a change of settings, such as an unavailable mail server."""

    __slots__ = ()


class NotedFinding(Finding):
    """A finding with a note for the summary that people see, such as `1,969 clients`. Machine formats lack it."""

    note: str = ""


def add_note(finding: Finding, note: str) -> Finding:
    """Return the finding with a note for the summary."""
    noted = NotedFinding(*finding)
    noted.note = note
    return noted


def convert_error(check: str, error: EgecError) -> Finding:
    """Return the finding for a check that failed with this error."""
    kind = TemporaryError if error.exit_code is ExitCode.TEMPORARY_FAILURE else Finding
    return kind(check, Severity.ERROR, error.message, error.hint)


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return the exit code for these findings.

    0 without warnings and errors, 3 with warnings only, 75 if all errors are temporary, 78 with any other error.
    """
    found = list(findings)
    errors = [finding for finding in found if finding.verdict is Severity.ERROR]
    if errors:
        is_temporary = all(isinstance(error, TemporaryError) for error in errors)
        return ExitCode.TEMPORARY_FAILURE if is_temporary else ExitCode.CONFIGURATION
    return ExitCode.PARTLY_DONE if any(one.verdict is Severity.WARNING for one in found) else ExitCode.OK
