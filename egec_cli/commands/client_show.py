"""`egec client show`."""

from typing import Annotated

import typer

from egec_cli.accounts import clients, login_limits, mails, story
from egec_cli.clock import rfc3339_or_none
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import ClientArgument, FieldsOption, OutputOption, names
from egec_cli.commands.session import opened
from egec_cli.show import OutputFormat, note, say_unless_quiet, show, show_all

app = new_app()


@app.command("show", epilog="Example: egec client show jeanne@example.org --format json")
def show_command(
    client: ClientArgument,
    full: Annotated[bool, typer.Option("--full", help="The whole story, rather than the last of it.")] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a client's file and its story: how it came about, its changes, mails and logins."""
    with opened() as egec:
        found = clients.find(client)
        record = clients.shown(found, egec.clock())
        limits = login_limits.shown(found, egec.clock())
        bounced = {"email_bounced_at": rfc3339_or_none(found.email_bounced_at)}
        told = story.of(egec, found, most=None if full else story.LAST)
        if output is not OutputFormat.TABLE or fields:
            last_mails = mails.last_of(egec, found, most=None if full else mails.LAST)
            more = {
                "mails": [mail._asdict() for mail in last_mails],
                "story": [entry._asdict() for entry in told.entries],
            }
            show(record._asdict() | limits._asdict() | bounced | more, output, names(fields))
        else:
            at_odds = (limits._asdict() if any(limits) else {}) | (bounced if any(bounced.values()) else {})
            show(record._asdict() | at_odds, output)
            say_unless_quiet("")
            show_all(told.entries, story.StoryEntry, output)
        if record.email is None:
            note("egec: client {identifier} was erased", identifier=record.identifier)
        if told.is_cut:
            note("egec: what came before is left out; --full shows it")
