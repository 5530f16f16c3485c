"""`egec client list`."""

from typing import Annotated

import typer

from egec_cli.accounts import clients, listing
from egec_cli.accounts.clients import ClientRecord
from egec_cli.accounts.listing import Wanted
from egec_cli.commands import selectors
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import CLIENT_IN_TABLE, FieldsOption, OutputOption, names
from egec_cli.commands.session import opened
from egec_cli.show import OutputFormat, show_all

app = new_app()


@app.command("list", epilog="Example: egec client list --status new --format ids")
def list_command(
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
    after: Annotated[
        str, typer.Option("--after", metavar="CLIENT", help="The last client of the page before, for the next page.")
    ] = "",
    limit: selectors.LimitOption = None,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the client files, in the order in which they were made or sorted; erased ones are left out."""
    with (
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
        ) as selection,
        opened(only_read=True) as egec,
    ):
        wanted = Wanted(selection, search, sort, clients.find(after) if after else None)
        show_all(listing.listed(egec, wanted), ClientRecord, output, names(fields), in_table=CLIENT_IN_TABLE)
