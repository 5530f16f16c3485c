"""`egec client show`."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from egec_cli.clients import history as mails
from egec_cli.clients import history as story
from egec_cli.clients import records
from egec_cli.clients.history import HistoryEntry, MailRecord
from egec_cli.clock import to_rfc3339_or_none
from egec_cli.commands.options import ClientArgument, FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.logins.limits import load_limits
from egec_cli.output.formats import OutputFormat, print_unless_quiet, render, render_all
from egec_cli.output.messages import note

app = new_app()


class History(NamedTuple):
    """What a client's file has in machine formats beside its fields and the limits on its logins.

    Attributes:
        email_bounced_at: when a mail to the registered e-mail came back, as RFC 3339 in UTC.
        mails: the last ones, the latest first; all with `--full`.
        story: the last of what happened, the oldest first; all with `--full`.
    """

    email_bounced_at: str | None
    mails: Sequence[MailRecord]
    story: Sequence[HistoryEntry]


@app.command("show", epilog="Example: egec client show jeanne@example.org --format json")
def show_command(
    client: ClientArgument,
    full: Annotated[bool, typer.Option("--full", help="The whole story, rather than the last of it.")] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a client's file and its story: how it came about, its changes, mails and logins."""
    with opened(only_read=True) as context:
        found = records.find_client(client)
        record = records.load_record(found, context.clock())
        limits = load_limits(found, context.clock())
        bounced_at = to_rfc3339_or_none(found.email_bounced_at)
        told = story.load_history(context, found, most=None if full else story.EVENTS_SHOWN)
        if output is not OutputFormat.TABLE or fields:
            last_mails = mails.list_mails(context, found, most=None if full else mails.MAILS_SHOWN)
            history = History(bounced_at, last_mails, told.entries)
            render(record._asdict() | limits._asdict() | history._asdict(), output, names(fields))
        else:
            at_odds = (limits._asdict() if any(limits) else {}) | (
                {"email_bounced_at": bounced_at} if bounced_at else {}
            )
            render(record._asdict() | at_odds, output)
            print_unless_quiet("")
            render_all(told.entries, HistoryEntry, output)
        if record.email is None:
            note("egec: client {identifier} was erased", identifier=record.identifier)
        if told.is_cut:
            note("egec: what came before is left out; --full shows it")
