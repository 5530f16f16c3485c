"""`egec client show`."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from egec_cli.accounts import clients, login_limits, mails, story
from egec_cli.accounts.mails import MailRecord
from egec_cli.accounts.story import StoryEntry
from egec_cli.clock import rfc3339_or_none
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import ClientArgument, FieldsOption, OutputOption, names
from egec_cli.commands.session import opened
from egec_cli.show import OutputFormat, note, say_unless_quiet, show, show_all

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
    story: Sequence[StoryEntry]


@app.command("show", epilog="Example: egec client show jeanne@example.org --format json")
def show_command(
    client: ClientArgument,
    full: Annotated[bool, typer.Option("--full", help="The whole story, rather than the last of it.")] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a client's file and its story: how it came about, its changes, mails and logins."""
    with opened(only_read=True) as egec:
        found = clients.find(client)
        record = clients.shown(found, egec.clock())
        limits = login_limits.shown(found, egec.clock())
        bounced_at = rfc3339_or_none(found.email_bounced_at)
        told = story.of(egec, found, most=None if full else story.LAST)
        if output is not OutputFormat.TABLE or fields:
            last_mails = mails.last_of(egec, found, most=None if full else mails.LAST)
            history = History(bounced_at, last_mails, told.entries)
            show(record._asdict() | limits._asdict() | history._asdict(), output, names(fields))
        else:
            at_odds = (limits._asdict() if any(limits) else {}) | (
                {"email_bounced_at": bounced_at} if bounced_at else {}
            )
            show(record._asdict() | at_odds, output)
            say_unless_quiet("")
            show_all(told.entries, StoryEntry, output)
        if record.email is None:
            note("egec: client {identifier} was erased", identifier=record.identifier)
        if told.is_cut:
            note("egec: what came before is left out; --full shows it")
