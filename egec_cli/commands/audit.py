"""`egec audit`: list, prune."""

from datetime import datetime
from typing import Annotated, get_args

import typer

from egec_cli import clock
from egec_cli.audit.events import (
    OUTCOMES,
    EventFilter,
    EventRecord,
    PruneResult,
    count_events_before,
    list_actions,
    list_events,
    prune_events,
    retention_limit,
)
from egec_cli.commands.find import MatchOption, find_client
from egec_cli.commands.options import (
    OUTPUT,
    ROWS_AT_TERMINAL,
    SELECTION,
    FieldsOption,
    OutputOption,
    RecordOption,
    YesOption,
    can_ask,
    confirm,
    no_terminal,
    split_fields,
)
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.context import Context
from egec_cli.errors import ExitCode, UsageError
from egec_cli.networks import prune_counts
from egec_cli.output.formats import OutputFormat, is_at_terminal, render, render_all
from egec_cli.output.messages import note, warn
from egec_cli.reissue import runs
from egec_cli.translation import Words, count_words

app = new_app("List and prune the audit log.")

_IN_TABLE = ("at", "action", "outcome", "client", "run", "actor", "details")


@app.command(
    "list",
    epilog=(
        "egec audit list --since 7d\n"
        "egec audit list --client 5079512743\n"
        "egec audit list --since 7d --action client.erase --format csv"
    ),
)
def list_command(
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="DATE|90d", help="Only events since this date or age.", rich_help_panel=SELECTION
        ),
    ] = "",
    until: Annotated[
        str,
        typer.Option(
            "--until",
            metavar="DATE|90d",
            help="Only events until this date, inclusive, or age.",
            rich_help_panel=SELECTION,
        ),
    ] = "",
    action: Annotated[
        str,
        typer.Option(
            "--action",
            metavar="ACTION",
            help="Action such as client.erase, or client for all actions on clients.",
            rich_help_panel=SELECTION,
        ),
    ] = "",
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome", metavar="OUTCOME", help="Outcome such as accepted or refused.", rich_help_panel=SELECTION
        ),
    ] = "",
    actor: Annotated[
        str, typer.Option("--actor", metavar="TEXT", help="Part of the actor, in any case.", rich_help_panel=SELECTION)
    ] = "",
    client: Annotated[
        str,
        typer.Option(
            "--client",
            metavar="CLIENT",
            help="Only events of this client, named as in `egec client show`.",
            rich_help_panel=SELECTION,
        ),
    ] = "",
    run: Annotated[
        str, typer.Option("--run", metavar="NAME", help="Only events of this run.", rich_help_panel=SELECTION)
    ] = "",
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="ID", min=0, help="Only events after the one with this id.", rich_help_panel=OUTPUT
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=0,
            help="Maximum number of events: the latest ones, or the next ones of --after.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    match: MatchOption = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List events, newest last: changes, mails, logins, exports.

    At a terminal, a table shows the latest 30 unless --limit is given; --limit 0 shows all.
    """
    is_page = output is OutputFormat.TABLE and is_at_terminal() and after is None and limit is None
    with open_context(only_read=True) as context:
        _require_known(context, action, outcome)
        wanted = EventFilter(
            since=since,
            until=until,
            action=action,
            outcome=outcome,
            actor=actor,
            client=find_client(client, match=match, output=output) if client else None,
            run=runs.find_run(run) if run else None,
            after=after,
            limit=ROWS_AT_TERMINAL if is_page else limit or None,
        )
        # A page is short; how many events there are could take long to count.
        events = list(list_events(context, wanted)) if is_page else list_events(context, wanted)
        render_all(
            events,
            EventRecord,
            output,
            split_fields(fields),
            in_table=_IN_TABLE,
            # With --client, each row has the same one.
            optional=("run", "client") if client else ("run",),
            empty=Words("No such events."),
        )
        if isinstance(events, list) and len(events) == ROWS_AT_TERMINAL:
            note("the latest {shown}; --limit 0 for all", shown=ROWS_AT_TERMINAL)


def _require_known(context: Context, action: str, outcome: str) -> None:
    """Require that an action and an outcome, if given, can occur, or did in an earlier version.

    Raises:
        UsageError: one cannot.
    """
    actions = list(list_actions())
    if action and action not in actions and not list(list_events(context, EventFilter(action=action, limit=1))):
        raise UsageError(
            "unknown action {action!r}", "The actions are: {known}.", action=action, known=", ".join(actions)
        )
    if outcome and outcome not in OUTCOMES:
        # Imported here: few have another outcome.
        from egec_cli.commands.contract import ERRORS
        from egec_cli.logins.explain import Cause

        known = outcome in ERRORS or outcome in get_args(Cause)
        if not known and not list(list_events(context, EventFilter(outcome=outcome, limit=1))):
            raise UsageError(
                "unknown outcome {outcome!r}",
                "The outcomes are: {known}; the codes of errors; the reasons of `egec verify --explain`.",
                outcome=outcome,
                known=", ".join(OUTCOMES),
            )


@app.command("prune", epilog="egec audit prune --yes")
def prune_command(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="DATE|90d", help="Date or age (default: EGEC_AUDIT_DAYS)."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the events without deleting them.")] = False,
    yes: YesOption = False,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Permanently delete events older than EGEC_AUDIT_DAYS.

    They also disappear from `egec client show`, except the creation of the client and its mails.
    """
    if not (yes or dry_run or can_ask()):
        raise no_terminal()
    with open_context() as context:
        before = retention_limit(context, older_than)
        if before is None:
            if not dry_run:
                prune_counts(context)
            note("egec: EGEC_AUDIT_DAYS is 0, so all events are kept; --older-than 365d deletes older ones")
            render(PruneResult(0, None), output)
            return
        if dry_run:
            render(count_events_before(before), output)
            note("egec: nothing was deleted")
            return
        if not (yes or confirm(_make_question(count_events_before(before).events, before))):
            note("egec: nothing was deleted")
            raise typer.Exit(ExitCode.REFUSED)
        render(prune_events(context, before), output)
        prune_counts(context)
        from egec_cli.store.sql import truncate_log

        if not truncate_log():
            warn("egec: another process uses the database; the deleted data leaves its log when the next egec ends")


def _make_question(number: int, before: datetime) -> Words:
    return count_words(
        "Permanently delete 0 events before {before}?",
        "Permanently delete 1 event before {before}? It also disappears from `egec client show`.",
        "Permanently delete {number} events before {before}? They also disappear from `egec client show`.",
        number,
        before=clock.to_zoned_text(before),
    )
