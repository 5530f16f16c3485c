"""`egec client import`."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import Annotated, BinaryIO, NamedTuple, Self

import typer

from egec_cli.commands.options import OUTPUT, RecordOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context, standard_input
from egec_cli.errors import ExitCode, UsageError
from egec_cli.imports import tables
from egec_cli.imports.columns import FIELD_OF_COLUMN, IGNORED_COLUMNS, fold_header
from egec_cli.imports.formats import OnConflict, TableKind, TableOptions
from egec_cli.imports.run import EmailChange, ImportResult, RejectedRow, import_clients
from egec_cli.imports.tables import open_rejects_file
from egec_cli.output.formats import OutputFormat, is_at_terminal, is_hidden, render
from egec_cli.output.messages import format_message, note, warn
from egec_cli.output.progress import ProgressLine
from egec_cli.output.screen import wrap_for
from egec_cli.translation import Words, format_number, join_first, translate

app = new_app()

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


@app.command(
    "import",
    epilog=(
        "egec client import clients.csv --dry-run\n"
        "egec client import clients.csv --rejects rejects.csv\n"
        "egec client import clients.csv --on-conflict update --map 'Adresse=email'"
    ),
)
def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV, TSV, JSON or JSON Lines; - for standard input.")],
    on_conflict: Annotated[
        OnConflict, typer.Option("--on-conflict", help="Action if a client exists with different data.")
    ] = OnConflict.FAIL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the result without changing anything.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Import all rows or none.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects", metavar="FILE", help="Write rejected rows to FILE, with the reason.", rich_help_panel=OUTPUT
        ),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="Read a column as this field.")
    ] = None,
    kind: Annotated[TableKind | None, typer.Option("--input", help="Input format (default: detected).")] = None,
    encoding: Annotated[
        str,
        typer.Option("--encoding", metavar="NAME", help="Encoding such as utf-8 or windows-1252 (default: detected)."),
    ] = "",
    delimiter: Annotated[
        str,
        typer.Option(
            "--delimiter", metavar="CHARACTER", help="Character between cells: ; , tab … (default: detected)."
        ),
    ] = "",
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Create or update clients from the rows of a table."""
    options = TableOptions(kind, encoding, _parse_delimiter(delimiter), _parse_columns(column or []))
    name = Words("standard input") if file == "-" else file
    with ExitStack() as files, open_context(create=True) as context:
        stream = files.enter_context(_open_seekable(file))
        table = tables.read_table(stream, name, FIELD_OF_COLUMN, options)
        note("egec: reading {name} as {described}", name=name, described=table.described)
        _note_unused_columns(table.unused)
        rejected_rows = files.enter_context(open_rejects_file(rejects, table)) if rejects is not None else None
        # A table shows the summary first. Programs that follow stderr get each row at once.
        report = files.enter_context(RejectionReport(name, rejects, is_deferred=output is OutputFormat.TABLE))

        def report_rejected(row: RejectedRow) -> None:
            reason = report.add(row)
            if rejected_rows is not None:
                rejected_rows.add(row.raw, reason)

        words = Words("checking") if dry_run else Words("importing")
        with ProgressLine(words, Words("rows"), fraction=_fraction_read(stream)) as line:
            imported = import_clients(
                context,
                table,
                report_rejected,
                on_conflict=on_conflict,
                strict=strict,
                dry_run=dry_run,
                report_change=_email_change_reporter(name, dry_run=dry_run),
                report_progress=line.advance,
            )
        if dry_run:
            note("egec: nothing was changed")
        if output is OutputFormat.TABLE:
            report.show_summary(imported)
        else:
            render(imported, output)
    if imported.rejected:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _fraction_read(stream: BinaryIO) -> Callable[[], float]:
    """Return a function that returns how much of a file was read, from 0 to 1."""
    descriptor = stream.fileno()
    size = os.fstat(descriptor).st_size

    def fraction() -> float:
        # The place of the descriptor: to ask the stream while another thread reads it is not safe.
        return os.lseek(descriptor, 0, os.SEEK_CUR) / max(size, 1)

    return fraction


def _parse_columns(given: Sequence[str]) -> dict[str, str]:
    """Return the field of each column in options such as `Adresse mail=email`.

    Raises:
        UsageError: an option has another form, or an unknown field.
    """
    found = {}
    known = sorted(set(FIELD_OF_COLUMN.values()))
    for text in given:
        column, equals, field = text.rpartition("=")
        is_complete = equals and column.strip() and field
        if not is_complete or field not in known:
            raise UsageError(
                "--map {text!r}: unknown field {field!r}"
                if is_complete
                else "--map {text!r} is not of the form COLUMN=FIELD",
                "The fields are: {known}.",
                text=text,
                field=field,
                known=", ".join(known),
            )
        found[column] = field
    return found


def _parse_delimiter(text: str) -> str:
    r"""Return the character that an option means; `tab` and `\t` mean a tab.

    Raises:
        UsageError: it is not one character.
    """
    meant = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(meant) > 1 or meant in {'"', "\n", "\r"}:
        raise UsageError(
            "--delimiter {text!r} is not one character", "Write it as in --delimiter ';' or --delimiter tab.", text=text
        )
    return meant


@contextmanager
def _open_seekable(file: str) -> Iterator[BinaryIO]:
    """Open a file; copy one that can be read only once to a private temporary file."""
    with ExitStack() as files:
        stream: BinaryIO
        if file == "-":
            stream = standard_input(Words("Pass the table on standard input, or name a file."))
        else:
            stream = files.enter_context(open(file, "rb"))
        if not stream.seekable():
            copy = files.enter_context(TemporaryFile())
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            stream = copy
        yield stream


def _note_unused_columns(columns: Sequence[str]) -> None:
    unused = [column for column in columns if fold_header(column) not in IGNORED_COLUMNS]
    if unused:
        note("egec: ignored unknown columns: {columns}", columns=join_first(unused))


def _email_change_reporter(name: str, *, dry_run: bool) -> Callable[[EmailChange], None]:
    def report(one: EmailChange) -> None:
        message = Words(
            "egec: {name}:{line}: e-mail of client {identifier} would change from {previous} to {email}"
            if dry_run
            else "egec: {name}:{line}: e-mail of client {identifier} changed from {previous} to {email}",
            name=name,
            line=one.line,
            identifier=one.identifier,
            previous=one.previous_email,
            email=one.email,
        )
        warn(message)

    return report


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
