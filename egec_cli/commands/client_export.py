"""`egec client export`."""

from contextlib import ExitStack, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from egec_cli.audit import record
from egec_cli.clients import lists
from egec_cli.clients.lists import ExportRecord, ExportRecordWithHash, HtpasswdRecord, ListQuery
from egec_cli.commands import client_selectors
from egec_cli.commands.options import FieldsOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.errors import UsageError
from egec_cli.files import atomic_write
from egec_cli.output.formats import OutputFormat, is_at_terminal, render_all
from egec_cli.output.messages import note, warn

app = new_app()

_FORMAT_HELP = "How to write it; htpasswd: who may log in now, with the hash of the password, which is a secret."


class ExportFormat(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"
    HTPASSWD = "htpasswd"


@app.command("export", epilog="Example: egec client export --output clients.csv")
def export_command(
    everyone: client_selectors.EveryoneOption = False,
    status: client_selectors.StatusOption = None,
    never_logged_in: client_selectors.NeverLoggedInOption = False,
    issued_before: client_selectors.IssuedBeforeOption = "",
    last_mail_failed: client_selectors.LastMailFailedOption = False,
    weak_hash: client_selectors.WeakHashOption = False,
    from_file: client_selectors.FromOption = "",
    exclude: client_selectors.ExcludeOption = "",
    column: client_selectors.ColumnOption = "",
    search: client_selectors.SearchOption = "",
    sort: client_selectors.SortOption = "",
    limit: client_selectors.LimitOption = None,
    fields: FieldsOption = "",
    with_hashes: Annotated[
        bool, typer.Option("--with-hashes", help="With the hashes of the passwords in use, which are secrets.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write a new file there, for its owner alone.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --output.")] = False,
    output: Annotated[ExportFormat, typer.Option("--format", help=_FORMAT_HELP)] = ExportFormat.CSV,
) -> None:
    """Write the client files as `egec client import` reads them, and spreadsheets do."""
    is_htpasswd = output is ExportFormat.HTPASSWD
    with_hashes = with_hashes or is_htpasswd
    if is_htpasswd and fields:
        raise UsageError("each line of htpasswd is identifier:hash", "Leave --fields out, or choose another --format.")
    if with_hashes and file is None and is_at_terminal():
        raise UsageError("the hashes of passwords are secrets, and not for a terminal", "Add --output FILE.")
    if force and file is None:
        raise UsageError("--force is about the file of --output", "Give it too.")
    with ExitStack() as files:
        selection = files.enter_context(
            client_selectors.selection(
                everyone=everyone,
                status=status,
                never_logged_in=never_logged_in,
                issued_before=issued_before,
                last_mail_failed=last_mail_failed,
                weak_hash=weak_hash,
                from_file=from_file,
                exclude=exclude,
                column=column,
                limit=limit,
            )
        )
        context = files.enter_context(opened(only_read=True))
        if file is not None:
            files.enter_context(redirect_stdout(files.enter_context(atomic_write(file, force=force))))
        if not record.try_to_record(context, "client.export", "begun", with_hashes=with_hashes):
            warn("egec: this export is not recorded: the database is read-only")
        wanted = ListQuery(selection, search, sort)
        if is_htpasswd:
            render_all(lists.list_htpasswd(context, wanted), HtpasswdRecord, OutputFormat.IDS)
        else:
            records = lists.export_clients(context, wanted, with_hashes=with_hashes)
            kind: type[NamedTuple] = ExportRecordWithHash if with_hashes else ExportRecord
            render_all(records, kind, OutputFormat(output.value), names(fields))
    if file is not None:
        note("egec: wrote {file}", file=file)
