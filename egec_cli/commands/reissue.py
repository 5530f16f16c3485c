"""`egec reissue`: start, resume, status, retry, cancel."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from egec_cli.clients.select import Selected
from egec_cli.commands.client_selectors import Selectors, open_selection, report_unmatched, with_selectors
from egec_cli.commands.options import (
    CLIENT_IN_TABLE,
    CLIENT_OPTIONAL,
    OUTPUT,
    FieldsOption,
    OutputOption,
    YesOption,
    can_ask,
    confirm,
    no_terminal,
    split_fields,
)
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context, stop_on_signal
from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.errors import ExitCode, UsageError, quoted
from egec_cli.output.formats import OutputFormat, render, render_all
from egec_cli.output.messages import note, warn
from egec_cli.output.terminal import Progress
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import runs
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.runs import RunRecord
from egec_cli.settings.schema import MaildirFolder
from egec_cli.store.models import ItemState, ReissueRun
from egec_cli.translation import Words, join_words

if TYPE_CHECKING:
    from egec_cli.reissue.preview import RunPreview

app = new_app("Mail new passwords to many clients: start, resume, status, retry, cancel.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.")]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="N",
        min=0,
        max=100_000,
        help="Maximum mails per second, across all workers; 0 for no limit.",
    ),
]

# These formats show one result for the run; the others show one for each client.
_SUMMARISED = {OutputFormat.TABLE, OutputFormat.JSON}


@app.command(
    "start",
    epilog=(
        "egec reissue start spring-2026 --all --dry-run\n"
        "egec reissue start spring-2026 --all --expect 48213 --rate 20\n"
        "egec reissue start letter --from letter.csv --column courriel --yes"
    ),
)
@with_selectors
def start_command(
    name: NameArgument,
    selectors: Selectors,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the clients, sample mails and the duration without starting.")
    ] = False,
    expect: Annotated[
        int | None,
        typer.Option("--expect", metavar="N", min=0, help="Start only if exactly this number of clients is selected."),
    ] = None,
    rate: RateOption = None,
    sentence: Annotated[
        str,
        typer.Option(
            "--sentence", metavar="TEXT", help="First sentence of each mail (default: that of the templates)."
        ),
    ] = "",
    yes: YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Start a run that mails a first or new password to each selected client.

    Run the same command again to continue an interrupted run; it does nothing once the run is done.
    """
    if not (yes or dry_run or can_ask()):
        raise no_terminal()
    with open_selection(selectors) as selection, open_context(only_read=dry_run) as context:
        mail_route.require(context)
        selected = Selected(context, selection)
        if dry_run or not yes:
            # With --yes, `start_run` checks the same.
            before = runs.find_existing_run(name, selected, expect=expect, rate=rate, sentence=sentence)
            if dry_run:
                _show_dry_run(context, selected, before, rate, sentence, output)
                return
            if not _confirm_start(selected, before):
                note("egec: nothing was started")
                raise typer.Exit(ExitCode.REFUSED)
        run = runs.start_run(context, name, selected, expect=expect, rate=rate, sentence=sentence)
        runs.resume_run(context, run, rate=rate)
        _work(context, run, output, selected)


@app.command("resume", epilog="egec reissue resume spring-2026")
def resume_command(name: NameArgument, rate: RateOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """Continue a run; several machines that share a database can work on it at the same time."""
    with open_context() as context:
        mail_route.require(context)
        run = runs.find_run(name)
        runs.resume_run(context, run, rate=rate)
        _work(context, run, output)


@app.command(
    "status",
    epilog=(
        "egec reissue status\negec reissue status spring-2026 --failed\negec reissue status spring-2026 --format json"
    ),
)
def status_command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Name of the run (default: all runs).")] = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="List the clients whose mail failed.", rich_help_panel=OUTPUT)
    ] = False,
    items: Annotated[
        bool,
        typer.Option(
            "--items", help="List all clients of the run with the state of their mails.", rich_help_panel=OUTPUT
        ),
    ] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show the progress of one run or of all runs."""
    if failed and not name:
        raise UsageError("--failed needs the name of a run", "Type `egec reissue status NAME --failed`.")
    if items and not name:
        raise UsageError("--items needs the name of a run", "Type `egec reissue status NAME --items`.")
    if items and failed:
        raise UsageError("--items and --failed contradict each other", "Give one of them.")
    with open_context(only_read=True) as context:
        if failed:
            _show_items(
                reissue_items.list_failures(runs.find_run(name)), Words("No mail of this run failed."), fields, output
            )
        elif items:
            _show_items(reissue_items.list_items(runs.find_run(name)), Words("The run has no clients."), fields, output)
        elif name:
            run = runs.find_run(name)
            render(runs.load_run(context, run), output, split_fields(fields))
            if output is OutputFormat.TABLE and runs.has_no_worker(context, run):
                note(
                    "egec: no worker is active on the run {name}. To continue it, type: egec reissue resume {quoted}",
                    name=run.name,
                    quoted=quoted(run.name),
                )
        else:
            render_all(
                runs.list_runs(context),
                RunRecord,
                output,
                split_fields(fields),
                optional=("finished_at", "created_at"),
                empty=Words("No runs yet."),
            )


def _show_items(items: Iterator[ItemRecord], empty: Words, fields: str, output: OutputFormat) -> None:
    render_all(items, ItemRecord, output, split_fields(fields), optional=("line", "attempts"), empty=empty)


@app.command("retry", epilog="egec reissue retry spring-2026")
def retry_command(name: NameArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """Retry the clients of a run whose mail failed, and continue the run."""
    with open_context() as context:
        mail_route.require(context)
        run = runs.find_run(name)
        runs.retry_run(context, run)
        runs.resume_run(context, run)
        _work(context, run, output)


@app.command("cancel", epilog="egec reissue cancel spring-2026")
def cancel_command(name: NameArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """Cancel a run permanently; clients not mailed yet keep their current password."""
    with open_context() as context:
        run = runs.find_run(name)
        runs.cancel_run(context, run)
        render(runs.load_run(context, run), output)


def _work(context: Context, run: ReissueRun, output: OutputFormat, selected: Selected | None = None) -> None:
    """Work through a run, show the outcome of each client, and end with the right exit code."""
    # Imported here, as below: `status` and completion do not load what sends mail.
    from egec_cli.mail.transports import choose
    from egec_cli.reissue import worker

    before = runs.load_run(context, run)
    if before.remaining and isinstance(context.settings.mail_server, MaildirFolder):
        note(
            "egec: no mail server configured; mails are saved to {folder}",
            folder=context.settings.mail_server,
        )
    new_transport = choose.transport_factory(context.settings)
    done = before.accepted + before.failed
    has_lines = output is OutputFormat.TABLE
    progress = Progress(run.name, before.total, done, before.failed, has_lines=has_lines)
    with stop_on_signal() as stop, progress:
        unmatched = report_unmatched(selected) if selected else 0
        with closing(worker.work_on_run(context, run, new_transport, stop)) as outcomes:
            _show_outcomes(_track_progress(outcomes, progress), output)
        after = runs.load_run(context, run)
        progress.correct(after.accepted + after.failed, after.failed)
    if output in _SUMMARISED:
        render(after, output)
    if after.failed:
        warn(
            "egec: run {name}: {failed} of {total} clients could not be mailed. "
            "Next: egec reissue status {quoted} --failed; "
            "after correcting the addresses: egec reissue retry {quoted}",
            name=after.name,
            failed=after.failed,
            total=after.total,
            quoted=quoted(after.name),
        )
    if after.failed or after.remaining or unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _track_progress(outcomes: Iterable[ItemRecord], progress: Progress) -> Iterator[ItemRecord]:
    for outcome in outcomes:
        yield outcome
        progress.advance(failed=outcome.outcome is ItemState.FAILED)


def _show_outcomes(outcomes: Iterable[ItemRecord], output: OutputFormat) -> None:
    if output not in _SUMMARISED:
        render_all(outcomes, ItemRecord, output, flush=True)
        return
    for one in outcomes:
        if one.outcome is ItemState.FAILED:
            line = Words("line {line}: ", line=one.line) if one.line else ""
            if (one.details or "").startswith(f"client {one.identifier} "):
                # The message already names the client, as in `client 1234567890 was erased`.
                warn("egec: {line}{details} ({failure})", line=line, details=one.details, failure=one.failure)
                continue
            warn(
                "egec: {line}client {identifier} ({email}) failed: {failure}: {details}",
                line=line,
                identifier=one.identifier,
                email=one.email,
                failure=one.failure,
                details=one.details,
            )


def _confirm_start(selected: Selected, before: ReissueRun | None) -> bool:
    """Ask the operator, unless the run exists and has no client left to mail."""
    from egec_cli.reissue import preview as reissue_preview

    wanted = selected if before is None else reissue_preview.RemainingClients(before)
    total, first = wanted.count(), wanted.count_without_password()
    if before is not None and not total:
        return True
    if not first:
        question = Words("Mail new passwords to {clients}?", clients=_count_clients(total))
    elif first == total:
        question = Words("Mail first passwords to {clients}?", clients=_count_clients(total))
    else:
        question = Words(
            "Mail first passwords to {clients} and new passwords to {others}?",
            clients=_count_clients(first),
            others=total - first,
        )
    return confirm(question)


def _count_clients(number: int) -> Words:
    return Words("1 client") if number == 1 else Words("{number} clients", number=number)


def _show_dry_run(
    context: Context,
    selected: Selected,
    before: ReissueRun | None,
    rate: int | None,
    sentence: str,
    output: OutputFormat,
) -> None:
    """Show the clients that `start` would mail: if the run exists, those left of it."""
    from egec_cli.mail.transports import choose
    from egec_cli.reissue import preview as reissue_preview

    wanted = selected
    if before is not None:
        existing = runs.load_run(context, before)
        wanted = reissue_preview.RemainingClients(before)
        options = runs.RunOptions.parse(before.options)
        rate, sentence = options.rate if rate is None else rate, sentence or options.sentence
        note(
            "egec: the run {name} already exists. State: {state}; clients left: {remaining} of {total}. "
            "`start` would mail only these.",
            name=existing.name,
            state=existing.state,
            remaining=existing.remaining,
            total=existing.total,
        )
    planned = reissue_preview.list_planned_clients(context, wanted)
    render_all(
        planned, reissue_preview.PlannedRecord, output, in_table=(*CLIENT_IN_TABLE, "mail"), optional=CLIENT_OPTIONAL
    )
    unmatched = report_unmatched(selected)
    found = reissue_preview.preview_run(
        context, wanted, choose.open_transport(context.settings), rate=rate, sentence=sentence
    )
    note(_describe_preview(found, wanted.count_bounced()))
    if unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _describe_preview(found: "RunPreview", bounced: int) -> str:
    from egec_cli.mail.compose.template import Kind

    if found.fault is not None:
        mails = Words("no mail can be sent at present: {fault}", fault=found.fault)
    else:
        mails = Words(
            "the mail server answers within {milliseconds:.0f} ms", milliseconds=(found.mail_seconds or 0) * 1000
        )
    seconds = round(found.seconds)
    duration = (
        Words("about {duration}", duration=timedelta(seconds=seconds)) if seconds else Words("less than a second")
    )
    readers = {
        Kind.CREDENTIALS: Words("A client who has never had a password"),
        Kind.REISSUE: Words("A client who has had a password"),
    }
    came_back = (
        Words("egec: the addresses of {bounced} of them have bounced a mail\n", bounced=bounced) if bounced else ""
    )
    return Words(
        "egec: {clients} would get a mail, in {duration}: "
        "a hash takes {hash_milliseconds:.0f} ms, {mails}\n"
        "egec: {first} of them would get a first mail, {others} a new password\n"
        "{came_back}egec: nothing was started. {samples}",
        clients=_count_clients(sum(found.mails.values())),
        duration=duration,
        hash_milliseconds=found.hash_seconds * 1000,
        mails=mails,
        first=found.mails[Kind.CREDENTIALS],
        others=found.mails[Kind.REISSUE],
        came_back=came_back,
        samples=join_words(
            "\n",
            [
                Words("{who} would read, with another password:\n\n{sample}", who=readers[kind], sample=Words(sample))
                for kind, sample in found.samples.items()
            ],
        ),
    )
