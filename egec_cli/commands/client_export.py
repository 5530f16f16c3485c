"""`egec client export`."""

from contextlib import ExitStack, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from egec_cli import new_file
from egec_cli.accounts import audit, listing
from egec_cli.accounts.listing import ExportRecord, ExportRecordWithHash, HtpasswdRecord, Wanted
from egec_cli.commands import selectors
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import FieldsOption, names
from egec_cli.commands.session import opened
from egec_cli.errors import Usage
from egec_cli.show import OutputFormat, is_at_terminal, note, show_all, warn

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
    everyone: selectors.EveryoneOption = False,
    status: selectors.StatusOption = None,
    never_logged_in: selectors.NeverLoggedInOption = False,
    issued_before: selectors.IssuedBeforeOption = "",
    last_mail_failed: selectors.LastMailFailedOption = False,
    weak_hash: selectors.WeakHashOption = False,
    from_file: selectors.FromOption = "",
    exclude: selectors.ExcludeOption = "",
    column: selectors.ColumnOption = "",
    search: selectors.SearchOption = "",
    sort: selectors.SortOption = "",
    limit: selectors.LimitOption = None,
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
        raise Usage("each line of htpasswd is identifier:hash", "Leave --fields out, or choose another --format.")
    if with_hashes and file is None and is_at_terminal():
        raise Usage("the hashes of passwords are secrets, and not for a terminal", "Add --output FILE.")
    if force and file is None:
        raise Usage("--force is about the file of --output", "Give it too.")
    with ExitStack() as files:
        selection = files.enter_context(
            selectors.selection(
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
        egec = files.enter_context(opened(only_read=True))
        if file is not None:
            files.enter_context(redirect_stdout(files.enter_context(new_file.written(file, force=force))))
        if not audit.try_to_record(egec, "client.export", "begun", with_hashes=with_hashes):
            warn("egec: this export is not recorded: the database is read-only")
        wanted = Wanted(selection, search, sort)
        if is_htpasswd:
            show_all(listing.htpasswd(egec, wanted), HtpasswdRecord, OutputFormat.IDS)
        else:
            records = listing.exported(egec, wanted, with_hashes=with_hashes)
            kind: type[NamedTuple] = ExportRecordWithHash if with_hashes else ExportRecord
            show_all(records, kind, OutputFormat(output.value), names(fields))
    if file is not None:
        note("egec: wrote {file}", file=file)
