"""`egec client show`."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from egec_cli.clients import history, records
from egec_cli.clients.history import HistoryEntry, MailRecord
from egec_cli.clock import to_rfc3339_or_none
from egec_cli.commands.find import MatchOption, find_client
from egec_cli.commands.options import OUTPUT, ClientArgument, FieldsOption, OutputOption, split_fields
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.credentials.validity import local_moment
from egec_cli.logins.limits import load_limits
from egec_cli.logins.sources import count_networks
from egec_cli.output.formats import (
    OutputFormat,
    is_for_terminal,
    print_unless_quiet,
    render,
    render_all,
)
from egec_cli.output.messages import note

app = new_app()


class ClientHistory(NamedTuple):
    """What machine formats add to the fields of a client and the limits on its logins.

    Attributes:
        failure_origins: the number of networks whose logins were refused since the last accepted one; 0 if the callers
            of `egec verify` pass no origins.
        email_bounced_at: when a mail to the registered e-mail bounced, as RFC 3339 in UTC.
        closing_notified_at: when the client was last notified that the account will be closed, as RFC 3339 in UTC; None
            if a login or a new e-mail followed, or if the account is disabled.
        mails: the latest mails, newest first; all with `--full`.
        history: the latest events, oldest first; all with `--full`.
    """

    failure_origins: int
    email_bounced_at: str | None
    closing_notified_at: str | None
    mails: Sequence[MailRecord]
    history: Sequence[HistoryEntry]


@app.command(
    "show",
    epilog=(
        "egec client show jeanne@example.org\n"
        "egec client show ref:D-2047 --full\n"
        "egec client show 5079512743 --format json"
    ),
)
def show_command(
    client: ClientArgument,
    full: Annotated[
        bool,
        typer.Option("--full", help="Show the whole history (default: the latest entries).", rich_help_panel=OUTPUT),
    ] = False,
    match: MatchOption = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a client and its history: changes, mails and logins.

    A terminal shows what the status means, the latest events, and the command that helps.
    """
    with open_context(only_read=True) as context:
        found = find_client(client, match=match, output=output)
        if is_for_terminal(output) and not fields:
            # Imported here: only a terminal needs it.
            from egec_cli.commands.client_card import show_client

            show_client(context, found, full=full)
            return
        record = records.load_record(found, local_moment(context))
        limits = load_limits(found, context.clock())
        bounced_at = to_rfc3339_or_none(found.email_bounced_at)
        notified_at = history.find_closing_notice(found)
        events = history.load_history(context, found, most=None if full else history.EVENTS_SHOWN)
        if output is not OutputFormat.TABLE or fields:
            mails = history.list_mails(context, found, most=None if full else history.MAILS_SHOWN)
            added = ClientHistory(count_networks(found), bounced_at, notified_at, mails, events.entries)
            render(record._asdict() | limits._asdict() | added._asdict(), output, split_fields(fields))
        else:
            origins = count_networks(found)
            trouble = (
                (limits._asdict() if any(limits) else {})
                | ({"failure_origins": origins} if origins else {})
                | ({"email_bounced_at": bounced_at} if bounced_at else {})
                | ({"closing_notified_at": notified_at} if notified_at else {})
            )
            render(record._asdict() | trouble, output)
            print_unless_quiet("")
            render_all(events.entries, HistoryEntry, output)
        if record.email is None:
            note("egec: client {identifier} was erased", identifier=record.identifier)
        if events.is_cut:
            note("egec: earlier entries are left out; add --full to see them")
