"""`egec audit`: list, prune."""

from typing import Annotated

import typer

from egec_cli.audit import query
from egec_cli.audit.prune import PruneResult, count_events_before, prune_events, retention_limit
from egec_cli.audit.query import EventFilter, EventRecord
from egec_cli.clients import records
from egec_cli.commands import options
from egec_cli.commands.options import FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.errors import ExitCode, UsageError
from egec_cli.output.formats import OutputFormat, render, render_all
from egec_cli.output.messages import note, warn
from egec_cli.reissue import runs
from egec_cli.translation import Words

app = new_app("List and prune the record of what was done.")

_IN_TABLE = ("at", "action", "outcome", "client", "run", "actor", "details")


@app.command("list", epilog="Example: egec audit list --since 7d --action client.erase")
def list_command(
    since: Annotated[str, typer.Option("--since", metavar="DATE|90d", help="From a date on, or from days ago.")] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="DATE|90d", help="Up to a date, which is included, or days ago.")
    ] = "",
    action: Annotated[
        str, typer.Option("--action", help="Such as client.erase, or client for all that is done to files.")
    ] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="Such as accepted or refused.")] = "",
    actor: Annotated[str, typer.Option("--actor", metavar="TEXT", help="A part of who did it, in any case.")] = "",
    client: Annotated[
        str, typer.Option("--client", metavar="CLIENT", help="About this client: e-mail, identifier or ref:REFERENCE.")
    ] = "",
    run: Annotated[str, typer.Option("--run", metavar="NAME", help="Of this re-issue run.")] = "",
    after: Annotated[
        int | None, typer.Option("--after", metavar="ID", min=0, help="Only what came behind the event of this id.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The last so many; with --after, the next so many.")
    ] = None,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List what was done, the newest last: changes, mails, logins, exports."""
    with opened(only_read=True) as context:
        wanted = EventFilter(
            since=since,
            until=until,
            action=action,
            outcome=outcome,
            actor=actor,
            client=records.find_client(client) if client else None,
            run=runs.find_run(run) if run else None,
            after=after,
            limit=limit,
        )
        render_all(query.list_events(context, wanted), EventRecord, output, names(fields), in_table=_IN_TABLE)


@app.command("prune", epilog="Example: egec audit prune --yes")
def prune_command(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="DATE|90d", help="Than a date or days, instead of EGEC_AUDIT_DAYS."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many would go, and delete none.")] = False,
    yes: options.YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Delete events older than EGEC_AUDIT_DAYS for good.

    What `egec client show` tells of that time goes with them, but for the making of the file and its mails.
    """
    # Imported here: a list needs none of what changes files.
    from egec_cli.store.sql import truncate_log

    if not (yes or dry_run or options.can_be_asked()):
        raise UsageError("there is no terminal to ask whether to delete events", "Add --yes; nothing was deleted.")
    with opened() as context:
        before = retention_limit(context, older_than)
        if before is None:
            note("egec: EGEC_AUDIT_DAYS is 0, which keeps all events; --older-than 365d deletes those of before")
            render(PruneResult(0, None), output)
            return
        if dry_run:
            render(count_events_before(before), output)
            note("egec: nothing was deleted")
            return
        if not (yes or options.is_given(_question(count_events_before(before)))):
            note("egec: nothing was deleted")
            raise typer.Exit(ExitCode.REFUSED)
        render(prune_events(context, before), output)
        if not truncate_log():
            warn("egec: another process reads the database; what was deleted leaves its log when the next egec ends")


def _question(found: PruneResult) -> Words:
    return Words(
        "Delete {events} events of before {before}? "
        "What `egec client show` tells of that time goes with them, and nothing brings it back.",
        events=found.events,
        before=found.before,
    )
