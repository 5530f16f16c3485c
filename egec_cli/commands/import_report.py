"""What `egec client import` tells people: the summary, the reasons of rejected rows with their numbers, the rows."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import NamedTuple, Self

from egec_cli.imports.run import ImportResult, RejectedRow
from egec_cli.output.formats import OutputFormat, is_at_terminal, is_hidden
from egec_cli.output.messages import format_message, warn
from egec_cli.output.screen import wrap_for
from egec_cli.translation import Words, format_number, translate

_LONGEST_VALUE = 80
# What a terminal shows of many; a pipe gets all rows.
_REASONS_AT_TERMINAL = 6
_FEW_ROWS = 10
_ROWS_OF_MANY = 5
# The reported lines that are kept in memory, in bytes; more of them go to a private file without a name.
_IN_MEMORY = 1 << 20
_BEGINNING = "egec: "
_TIMES = "\N{MULTIPLICATION SIGN}"
# A table with more kinds of faults than this is the wrong table.
_MOST_REASONS = 1_000
OTHER_REASONS = Words("other reasons")
# Values of reasons that do not differ from row to row: the names of fields, and the known values.
_KEPT = {"field", "fields", "known"}


class CountedReason(NamedTuple):
    """A reason, in general words, and the number of rows that were rejected for it."""

    reason: str
    number: int


class RejectionReasons:
    """The reasons of rejected rows; memory stays small for any table."""

    def __init__(self) -> None:
        self._numbers = Counter[str]()

    def add(self, row: RejectedRow) -> None:
        """Count a rejected row."""
        reason = _generalize(row.reason)
        if row.field:
            reason = Words("{field}: {reason}", field=row.field, reason=reason)
        self._numbers[reason if reason in self._numbers or len(self._numbers) < _MOST_REASONS else OTHER_REASONS] += 1

    def list_by_number(self) -> Sequence[CountedReason]:
        """Return the reasons, the most frequent first."""
        return [CountedReason(*counted) for counted in self._numbers.most_common()]


class RejectionReport:
    """Reports rejected rows on stderr: at once, or after the summary."""

    def __init__(self, name: str, rejects: Path | None, *, is_deferred: bool) -> None:
        """Report the rows of the table of this name; `rejects` is the file that they are written to, if any."""
        self._name = name
        self._rejects = rejects
        self._is_deferred = is_deferred
        self._reasons = RejectionReasons()
        self._number = 0

    def __enter__(self) -> Self:
        self._lines = SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._lines:
            if error is not None and self._number:
                # The summary is not shown.
                for counted in self._reasons_to_show():
                    message = Words(
                        "egec: {number} {times} {reason}", number=counted.number, times=_TIMES, reason=counted.reason
                    )
                    warn(message)
                self._show_rows()

    def add(self, row: RejectedRow) -> str:
        """Report a row now or later, and return the reason with the field and the value."""
        reason = _describe_rejection(row)
        message = Words("egec: {name}:{line}: {reason}", name=self._name, line=row.line, reason=reason)
        if self._is_deferred:
            self._reasons.add(row)
            self._number += 1
            self._lines.write(f"{format_message(message)}\n")
        else:
            warn(message)
        return reason

    def show_summary(self, imported: ImportResult) -> None:
        """Show the numbers and the reasons on stdout, unless --quiet was given, then the rows on stderr."""
        if not is_hidden(OutputFormat.TABLE):
            self._show_numbers(imported)
        sys.stdout.flush()
        self._show_rows()

    def _show_numbers(self, imported: ImportResult) -> None:
        addresses = len(imported.email_changes)
        changed = Words("({addresses} with another e-mail)", addresses=addresses) if addresses else ""
        numbers = [
            (Words("created"), imported.created, ""),
            (Words("updated"), imported.updated, changed),
            (Words("unchanged"), imported.skipped, ""),
            (Words("rejected"), imported.rejected, ""),
        ]
        width = max(len(translate(label)) for label, _, _ in numbers)
        for label, number, more in numbers:
            shown = format_number(number) if is_at_terminal() else str(number)
            sys.stdout.write(f"{translate(label).ljust(width)}  {shown} {translate(more)}".rstrip() + "\n")
        reasons = self._reasons_to_show()
        digits = max((len(str(counted.number)) for counted in reasons), default=0)
        for counted in reasons:
            beginning = f"  {counted.number:>{digits}} {_TIMES} "
            for line in wrap_for(sys.stdout, format_message(counted.reason), beginning):
                sys.stdout.write(f"{line}\n")

    def _reasons_to_show(self) -> Sequence[CountedReason]:
        """Return the reasons, the most frequent first; at a terminal, the rare ones of many as one."""
        reasons = self._reasons.list_by_number()
        if len(reasons) <= _REASONS_AT_TERMINAL or not is_at_terminal():
            return reasons
        frequent, others = reasons[: _REASONS_AT_TERMINAL - 1], reasons[_REASONS_AT_TERMINAL - 1 :]
        number = sum(counted.number for counted in others)
        return [*frequent, CountedReason(OTHER_REASONS, number)]

    def _show_rows(self) -> None:
        """Show the rows that are not reported yet: all of them, or the first at a terminal."""
        self._lines.seek(0)
        shown = _ROWS_OF_MANY if self._number > _FEW_ROWS and sys.stderr.isatty() else self._number
        for _, line in zip(range(shown), self._lines, strict=False):
            for part in wrap_for(sys.stderr, line.rstrip("\n").removeprefix(_BEGINNING), _BEGINNING):
                sys.stderr.write(f"{part}\n")
        if shown < self._number:
            more = format_number(self._number - shown)
            if self._rejects is None:
                message = Words("egec: {more} more rows were rejected; --rejects FILE writes all of them", more=more)
            else:
                message = Words(
                    "egec: {more} more rows were rejected; all are in {file}", more=more, file=self._rejects
                )
            warn(message)


def _describe_rejection(row: RejectedRow) -> str:
    value = row.value if len(row.value) <= _LONGEST_VALUE else f"{row.value[:_LONGEST_VALUE]}…"
    if not row.field:
        return row.reason
    return Words(
        "{field}: {reason}" if repr(value) in row.reason else "{field} {value!r}: {reason}",
        field=row.field,
        value=value,
        reason=row.reason,
    )


class _AnyValue:
    """Stands for a value that differs from row to row."""

    def __format__(self, _specification: str) -> str:
        return "…"

    def __repr__(self) -> str:
        return "…"


_ANY_VALUE = _AnyValue()


def _generalize(reason: str) -> str:
    """Return a reason with `…` for each value that differs from row to row."""
    if not isinstance(reason, Words):
        return reason
    values = {
        name: _generalize(value) if isinstance(value, Words) else value if name in _KEPT else _ANY_VALUE
        for name, value in reason.values.items()
    }
    return Words(reason.template, **values)
