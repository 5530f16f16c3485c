"""`egec client import`."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO

import typer

from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened, read_settings
from egec_cli.errors import ExitCode, UsageError
from egec_cli.files import standard_input
from egec_cli.imports import rows, tables
from egec_cli.imports.formats import OnConflict, TableKind, TableOptions
from egec_cli.imports.rejects import open_rejects_file
from egec_cli.imports.run import EmailChange, RejectedRow, import_clients
from egec_cli.output.formats import OutputFormat, render
from egec_cli.output.messages import note, warn
from egec_cli.translation import Words

app = new_app()

_LONGEST_VALUE = 80
# Of the columns that stand for no field.
_MOST_NAMED = 10


@app.command("import", epilog="Example: egec client import clients.csv --on-conflict update --rejects rejects.csv")
def import_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV, TSV or JSON Lines; - for standard input.")],
    on_conflict: Annotated[
        OnConflict, typer.Option("--on-conflict", help="What to do with a client who is there with other data.")
    ] = OnConflict.FAIL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Take all rows or none.")] = False,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Write the rejected rows there, with the reason.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="Which field a column stands for.")
    ] = None,
    kind: Annotated[TableKind | None, typer.Option("--input", help="What the file is, if not found by itself.")] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="Of the file, such as utf-8 or windows-1252.")] = "",
    delimiter: Annotated[str, typer.Option("--delimiter", help="What stands between two cells: ; , tab …")] = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make client files of the rows of a table, or bring them up to date."""
    given = TableOptions(kind, encoding, _delimiter(delimiter), _columns(column or []))
    name = Words("standard input") if file == "-" else file
    with ExitStack() as files, opened(read_settings(), create=True) as context:
        table = tables.read_table(files.enter_context(_seekable(file)), name, rows.FIELD_OF_COLUMN, given)
        note("egec: {name} is read as {described}", name=name, described=table.described)
        unused = [column for column in table.unused if tables.fold_header(column) not in rows.IGNORED_COLUMNS]
        if unused:
            more = Words(" and {number} more", number=len(unused) - _MOST_NAMED) if len(unused) > _MOST_NAMED else ""
            note("egec: no field is known for: {columns}{more}", columns=", ".join(unused[:_MOST_NAMED]), more=more)
        told = [_told_to_people(name)]
        if rejects is not None:
            rejected_rows = files.enter_context(open_rejects_file(rejects, table))
            told.append(lambda one: rejected_rows.add(one.raw, _reason(one)))
        imported = import_clients(
            context,
            table,
            _all_of(told),
            on_conflict=on_conflict,
            strict=strict,
            dry_run=dry_run,
            report_change=_told_of_change(name, dry_run=dry_run),
        )
        if dry_run:
            note("egec: nothing was changed")
        # A table has the numbers; stderr has just told each change of an e-mail.
        in_table = [field for field in imported._fields if field != "email_changes"]
        render(imported, output, in_table if output is OutputFormat.TABLE else ())
    if imported.rejected:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _columns(given: Sequence[str]) -> dict[str, str]:
    """Return the fields by the columns of options such as `Adresse mail=email`.

    Raises:
        Usage: one of them is not of that form, or names no field.
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


def _delimiter(text: str) -> str:
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
def _seekable(file: str) -> Iterator[BinaryIO]:
    """Open a file, or copy what cannot be read twice to a file that nobody else can open."""
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


def _told_to_people(name: str) -> Callable[[RejectedRow], None]:
    def tell(one: RejectedRow) -> None:
        warn("egec: {name}:{line}: {reason}", name=name, line=one.line, reason=_reason(one))

    return tell


def _told_of_change(name: str, *, dry_run: bool) -> Callable[[EmailChange], None]:
    def tell(one: EmailChange) -> None:
        warn(
            "egec: {name}:{line}: e-mail of client {identifier} would change from {former} to {email}"
            if dry_run
            else "egec: {name}:{line}: e-mail of client {identifier} changed from {former} to {email}",
            name=name,
            line=one.line,
            identifier=one.identifier,
            former=one.former_email,
            email=one.email,
        )

    return tell


def _reason(one: RejectedRow) -> str:
    value = one.value if len(one.value) <= _LONGEST_VALUE else f"{one.value[:_LONGEST_VALUE]}…"
    if not one.field:
        return one.reason
    return Words(
        "{field}: {reason}" if repr(value) in one.reason else "{field} {value!r}: {reason}",
        field=one.field,
        value=value,
        reason=one.reason,
    )


def _all_of(told: Sequence[Callable[[RejectedRow], None]]) -> Callable[[RejectedRow], None]:
    def tell(one: RejectedRow) -> None:
        for each in told:
            each(one)

    return tell
