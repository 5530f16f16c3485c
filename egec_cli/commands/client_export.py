"""`egec client export`."""

from contextlib import ExitStack, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from egec_cli.audit import events
from egec_cli.clients import lists
from egec_cli.clients.lists import ExportRecord, ExportRecordWithHash, HtpasswdRecord, ListQuery
from egec_cli.clients.select import Selected
from egec_cli.commands.client_selectors import (
    SearchOption,
    Selectors,
    SortOption,
    note_if_none,
    open_selection,
    report_unmatched,
    with_selectors,
)
from egec_cli.commands.options import OUTPUT, FieldsOption, split_fields
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.errors import ExitCode, UsageError
from egec_cli.files import atomic_write
from egec_cli.output.formats import OutputFormat, is_at_terminal, render_all
from egec_cli.output.messages import note, warn
from egec_cli.output.progress import ProgressLine, can_show_progress
from egec_cli.translation import Words

app = new_app()

_FORMAT_HELP = "Output format; htpasswd lists clients who may log in now, with their password hashes, which are secret."


class ExportFormat(StrEnum):
    """The format of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"
    HTPASSWD = "htpasswd"


@app.command(
    "export",
    epilog=(
        "egec client export --output clients.csv\n"
        "egec client export --status active --format jsonl --output active.jsonl\n"
        "egec client export --format htpasswd --output users --force"
    ),
)
@with_selectors
def export_command(
    selectors: Selectors,
    search: SearchOption = "",
    sort: SortOption = "",
    fields: FieldsOption = "",
    with_hashes: Annotated[
        bool, typer.Option("--with-hashes", help="Include the hashes of the passwords in use, which are secret.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write to a new file that only its owner can read.", rich_help_panel=OUTPUT
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite the file of --output; only a regular file is replaced.", rich_help_panel=OUTPUT
        ),
    ] = False,
    output: Annotated[
        ExportFormat, typer.Option("--format", help=_FORMAT_HELP, rich_help_panel=OUTPUT)
    ] = ExportFormat.CSV,
) -> None:
    """Export clients in the format that `egec client import` and spreadsheets read.

    Lines of a list that match no client are reported on stderr, and the exit code is 3.
    """
    is_htpasswd = output is ExportFormat.HTPASSWD
    with_hashes = with_hashes or is_htpasswd
    if is_htpasswd and fields:
        raise UsageError("each line of htpasswd is identifier:hash", "Omit --fields, or choose another --format.")
    if with_hashes and file is None and is_at_terminal():
        raise UsageError("password hashes are secret and are not printed to a terminal", "Add --output FILE.")
    if force and file is None:
        raise UsageError("--force needs --output", "Add --output FILE, or omit --force.")
    with ExitStack() as files:
        selection = files.enter_context(open_selection(selectors))
        context = files.enter_context(open_context(only_read=True))
        # Before the redirection, after which stdout is the file.
        line = ProgressLine(Words("exporting"), Words("clients"))
        is_counted = file is not None and can_show_progress()
        if is_counted:
            files.enter_context(line)
        if file is not None:
            files.enter_context(redirect_stdout(files.enter_context(atomic_write(file, force=force))))
        if not events.try_to_record(context, "client.export", "started", with_hashes=with_hashes):
            warn("egec: this export is not recorded: the database is read-only")
        query = ListQuery(selection, search, sort)
        selected = Selected(context, selection, to_mail=False)
        # A line of htpasswd is only for clients who may log in.
        is_selected = is_htpasswd or selectors != Selectors() or bool(search)
        if is_htpasswd:
            lines = lists.list_htpasswd(context, query, selected=selected)
            lines = note_if_none(lines, output, is_selected=is_selected)
            render_all(line.count(lines) if is_counted else lines, HtpasswdRecord, OutputFormat.IDS)
        else:
            report_total = line.set_total if is_counted else None
            records = lists.export_clients(
                context, query, with_hashes=with_hashes, report_total=report_total, selected=selected
            )
            records = note_if_none(records, output, is_selected=is_selected)
            records = line.count(records) if is_counted else records
            kind: type[NamedTuple] = ExportRecordWithHash if with_hashes else ExportRecord
            render_all(records, kind, OutputFormat(output.value), split_fields(fields))
        unmatched = report_unmatched(selected)
    if file is not None:
        note("egec: wrote {file}", file=file)
    if unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)
