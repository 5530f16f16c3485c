"""`egec client list`."""

from typing import Annotated

import typer

from egec_cli.clients import lists, records
from egec_cli.clients.lists import ListQuery
from egec_cli.clients.records import ClientRecord
from egec_cli.commands import client_selectors
from egec_cli.commands.options import CLIENT_IN_TABLE, FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.output.formats import OutputFormat, render_all

app = new_app()


@app.command("list", epilog="Example: egec client list --status new --format ids")
def list_command(
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
    after: Annotated[
        str, typer.Option("--after", metavar="CLIENT", help="The last client of the page before, for the next page.")
    ] = "",
    limit: client_selectors.LimitOption = None,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the client files, in the order in which they were made or sorted; erased ones are left out."""
    with (
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
        ) as selection,
        opened(only_read=True) as context,
    ):
        wanted = ListQuery(selection, search, sort, records.find_client(after) if after else None)
        render_all(lists.list_clients(context, wanted), ClientRecord, output, names(fields), in_table=CLIENT_IN_TABLE)
