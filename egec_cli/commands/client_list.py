"""`egec client list`."""

from typing import Annotated

import typer

from egec_cli.clients import lists, records
from egec_cli.clients.lists import ListQuery
from egec_cli.clients.records import ClientRecord
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
from egec_cli.commands.options import (
    CLIENT_IN_TABLE,
    CLIENT_OPTIONAL,
    OUTPUT,
    ROWS_AT_TERMINAL,
    FieldsOption,
    OutputOption,
    show_total,
    split_fields,
)
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.errors import ExitCode
from egec_cli.output.formats import OutputFormat, is_at_terminal, render_all
from egec_cli.translation import Words

app = new_app()


@app.command(
    "list",
    epilog=(
        "egec client list --search dupont\n"
        "egec client list --status new --format ids\n"
        "egec client list --never-logged-in --issued-before 90d --format csv"
    ),
)
@with_selectors
def list_command(
    selectors: Selectors,
    search: SearchOption = "",
    sort: SortOption = "",
    after: Annotated[
        str,
        typer.Option(
            "--after",
            metavar="CLIENT",
            help="Last client of the previous page, to get the next page.",
            rich_help_panel=OUTPUT,
        ),
    ] = "",
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List clients, oldest first unless --sort is given; erased clients are left out.

    At a terminal, a table shows 30 of them unless --limit is given; --limit 0 shows all. Lines of a list that match no
    client are reported on stderr, and the exit code is 3.
    """
    with open_selection(selectors) as selection, open_context(only_read=True) as context:
        is_page = output is OutputFormat.TABLE and is_at_terminal() and not after
        limit = ROWS_AT_TERMINAL if is_page and selection.limit is None else selection.limit or None
        selection = selection._replace(limit=limit)
        query = ListQuery(selection, search, sort, records.find_client(after) if after else None)
        selected = Selected(context, selection, to_mail=False)
        if is_page:
            total, clients = lists.list_page(context, query, selected)
        else:
            total, clients = 0, lists.list_clients(context, query, selected=selected)
        is_selected = selectors != Selectors() or bool(search or after)
        render_all(
            note_if_none(clients, output, is_selected=is_selected),
            ClientRecord,
            output,
            split_fields(fields),
            in_table=CLIENT_IN_TABLE,
            optional=CLIENT_OPTIONAL,
            empty=Words("No such clients.") if is_selected else Words("No clients."),
        )
        if is_page and total:
            show_total(total, limit)
        unmatched = report_unmatched(selected)
    if unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)
