"""What `egec client import` tells people: the summary, the reasons of rejected rows with their numbers, the rows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Self

from egec_cli.imports.reasons import CountedReason, RejectionReasons
from egec_cli.imports.run import ImportResult, RejectedRow
from egec_cli.output.formats import OutputFormat, is_at_terminal, is_hidden
from egec_cli.output.messages import format_message, warn
from egec_cli.output.terminal import write_wrapped
from egec_cli.translation import Words, format_number, translate

_LONGEST_VALUE = 80
# What a terminal shows of many; a pipe gets all rows.
_REASONS_AT_TERMINAL = 10
_ROWS_AT_TERMINAL = 10
# The reported lines that are kept in memory, in bytes; more of them go to a private file without a name.
_IN_MEMORY = 1 << 20
_BEGINNING = "egec: "
_TIMES = "\N{MULTIPLICATION SIGN}"
_COUNTED = Words("egec: {number} \N{MULTIPLICATION SIGN} {reason}")


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
                # There is no summary.
                for counted in self._reasons_to_show():
                    warn_wrapped(
                        "egec: {number} \N{MULTIPLICATION SIGN} {reason}", number=counted.number, reason=counted.reason
                    )
                self._show_rows()

    def add(self, row: RejectedRow) -> str:
        """Report a row now or later, and return the reason with the field and the value."""
        reason = _describe_rejection(row)
        if self._is_deferred:
            self._reasons.add(row)
            self._number += 1
            line = format_message(_TEMPLATE, name=self._name, line=row.line, reason=reason)
            self._lines.write(f"{line}\n")
        else:
            warn(_TEMPLATE, name=self._name, line=row.line, reason=reason)
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
            write_wrapped(
                f"  {counted.number:>{digits}} \N{MULTIPLICATION SIGN} ", format_message(counted.reason), sys.stdout
            )

    def _reasons_to_show(self) -> Sequence[CountedReason]:
        """Return the reasons, the most frequent first; at a terminal, the rare ones of many as one."""
        reasons = self._reasons.list_by_number()
        if len(reasons) <= _REASONS_AT_TERMINAL or not is_at_terminal():
            return reasons
        frequent, others = reasons[: _REASONS_AT_TERMINAL - 1], reasons[_REASONS_AT_TERMINAL - 1 :]
        number = sum(counted.number for counted in others)
        return [*frequent, CountedReason(Words("{number} other reasons", number=len(others)), number)]

    def _show_rows(self) -> None:
        """Show the rows that are not reported yet: all of them, or the first at a terminal."""
        self._lines.seek(0)
        shown = _ROWS_AT_TERMINAL if sys.stderr.isatty() else self._number
        for _, line in zip(range(shown), self._lines, strict=False):
            write_wrapped(_BEGINNING, line.rstrip("\n").removeprefix(_BEGINNING), sys.stderr)
        if shown < self._number:
            more = format_number(self._number - shown)
            if self._rejects is None:
                warn_wrapped("egec: {more} more rows were rejected; --rejects FILE writes all of them", more=more)
            else:
                warn_wrapped("egec: {more} more rows were rejected; all are in {file}", more=more, file=self._rejects)


_TEMPLATE = "egec: {name}:{line}: {reason}"


def warn_wrapped(text: str, /, **values: object) -> None:
    """Write a line to stderr as `warn` does; at a terminal it is wrapped at words."""
    write_wrapped(_BEGINNING, format_message(text, **values).removeprefix(_BEGINNING), sys.stderr)


def _show_number(number: int) -> str:
    """Return a number on stdout: easy to read at a terminal, easy to parse elsewhere."""
    return format_number(number) if is_at_terminal() else str(number)


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
