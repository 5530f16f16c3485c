"""`egec client import`."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO

import typer

from egec_cli.commands.import_report import RejectionReport
from egec_cli.commands.options import OUTPUT, RecordOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context, standard_input
from egec_cli.errors import ExitCode, UsageError
from egec_cli.imports import rows, tables
from egec_cli.imports.columns import fold_header
from egec_cli.imports.formats import OnConflict, TableKind, TableOptions
from egec_cli.imports.run import EmailChange, RejectedRow, import_clients
from egec_cli.imports.tables import open_rejects_file
from egec_cli.output.formats import OutputFormat, render
from egec_cli.output.messages import note, warn
from egec_cli.output.progress import ProgressLine
from egec_cli.translation import Words, join_first

app = new_app()


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
        table = tables.read_table(stream, name, rows.FIELD_OF_COLUMN, options)
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
    known = sorted(set(rows.FIELD_OF_COLUMN.values()))
    for text in given:
        column, equals, field = text.rpartition("=")
        if not (equals and column.strip() and field in known):
            raise UsageError(
                "--map {text!r} is not of the form COLUMN=FIELD",
                "The fields are: {known}.",
                text=text,
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
    unused = [column for column in columns if fold_header(column) not in rows.IGNORED_COLUMNS]
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
