"""`egec reissue`: start, resume, status, retry, cancel."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from typing import Annotated

import typer

from egec_cli.clients.select import Selected, check_selection
from egec_cli.commands.client_selectors import Selectors, open_selection, report_unmatched, with_selectors
from egec_cli.commands.options import (
    OUTPUT,
    FieldsOption,
    OutputOption,
    RecordOption,
    YesOption,
    can_ask,
    confirm,
    count_clients,
    no_terminal,
    show_total,
    split_fields,
)
from egec_cli.commands.reissue_plan import Plan, confirm_start, show_dry_run
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context, stop_on_signal
from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.errors import EgecError, ExitCode, UsageError, code_of_signal, database_busy, quoted
from egec_cli.output.formats import OutputFormat, is_at_terminal, render, render_all
from egec_cli.output.messages import is_quiet, note, warn
from egec_cli.output.progress import Progress
from egec_cli.reissue import items as reissue_items
from egec_cli.reissue import report, runs
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.report import RunRecord
from egec_cli.settings.parsing import Fault, parse_rate
from egec_cli.settings.types import MaildirFolder, Rate
from egec_cli.store import peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.models import ItemState, ReissueRun, RunState
from egec_cli.translation import Words

app = new_app("Mail new passwords to many clients: start, resume, status, retry, cancel.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.")]
RateOption = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="RATE",
        help="Maximum mails per s, min, h or d, such as 30/min,500/h, across all workers; 0 for no limit.",
    ),
]
# In minutes.
DEFAULT_WAIT = 10
WaitOption = Annotated[
    int,
    typer.Option(
        "--wait",
        metavar="MINUTES",
        min=0,
        max=24 * 60,
        help="Minutes to wait for deferred mail or a paused run before ending with 75.",
    ),
]
NowOption = Annotated[bool, typer.Option("--now", help="Retry deferred mail and a paused run immediately.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be mailed, with a sample mail, without mailing.")
]
ListOption = Annotated[
    bool, typer.Option("--list", help="With --dry-run: also list the clients; other formats always do.")
]

# These formats show one result for the run; the others show one for each client.
_SUMMARISED = {OutputFormat.TABLE, OutputFormat.JSON}


@app.command(
    "start",
    epilog=(
        "egec reissue start spring-2026 --all --dry-run\n"
        "egec reissue start spring-2026 --all --expect 48213 --rate 20/s\n"
        "egec reissue start letter --from letter.csv --column courriel --yes"
    ),
)
@with_selectors
def start_command(
    name: NameArgument,
    selectors: Selectors,
    dry_run: DryRunOption = False,
    with_list: ListOption = False,
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
    wait: WaitOption = DEFAULT_WAIT,
    now: NowOption = False,
    yes: YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Start a run that mails a first or new password to each selected client.

    Run the same command again to continue the run, whether it was interrupted, paused or has deferred mail; it does
    nothing once the run is done.
    """
    _require_dry_run(with_list, dry_run)
    quotas = _parse_rate_option(rate)
    with open_selection(selectors) as selection, open_context(only_read=dry_run) as context:
        check_selection(context, selection, to_mail=True)
        if not (yes or dry_run or can_ask()):
            raise no_terminal()
        mail_route.require(context)
        selected = Selected(context, selection)
        if dry_run or not yes:
            # With --yes, `start_run` checks the same.
            before = runs.find_existing_run(name, selected, expect=expect, rate=quotas, sentence=sentence)
            plan = Plan.for_start(name, selected, before, quotas, sentence)
            if dry_run:
                show_dry_run(context, plan, output, with_list=with_list)
                return
            if not confirm_start(context, plan):
                note("egec: nothing was started")
                raise typer.Exit(ExitCode.REFUSED)
        run = runs.start_run(context, name, selected, expect=expect, rate=quotas, sentence=sentence)
        runs.resume_run(context, run, rate=quotas, now=now)
        _work(context, run, output, wait, selected)


@app.command("resume", epilog="egec reissue resume spring-2026\negec reissue resume spring-2026 --rate 300/h")
def resume_command(
    name: NameArgument,
    dry_run: DryRunOption = False,
    with_list: ListOption = False,
    rate: RateOption = None,
    wait: WaitOption = DEFAULT_WAIT,
    now: NowOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Continue a run as `start` does, without selectors.

    Several machines that share a database can work on a run at the same time.
    """
    _continue(name, rate, output, wait, now=now, dry_run=dry_run, with_list=with_list)


def _continue(
    name: str,
    rate: str | None,
    output: OutputFormat,
    wait: int,
    *,
    now: bool,
    dry_run: bool,
    with_list: bool,
    with_failed: bool = False,
) -> None:
    """Mail the clients that are left of a run or, with `dry_run`, show what would be mailed.

    Args:
        wait: how long to wait for deferred mail or a paused run, in minutes.
        now: try them now.
        with_failed: also the clients whose mail failed.
    """
    _require_dry_run(with_list, dry_run)
    quotas = _parse_rate_option(rate)
    with open_context(only_read=dry_run) as context:
        mail_route.require(context)
        run = runs.find_run(name)
        if dry_run:
            runs.require_not_cancelled(run)
            plan = Plan.for_rest(run, quotas, with_failed=with_failed)
            show_dry_run(context, plan, output, with_list=with_list)
            return
        if with_failed:
            number = runs.retry_run(context, run)
            note("egec: clients to try again: {number}", number=number)
        runs.resume_run(context, run, rate=quotas, now=now)
        _work(context, run, output, wait)


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
            _show_failures(context, runs.find_run(name), fields, output)
        elif items:
            _show_items(reissue_items.list_items(runs.find_run(name)), Words("The run has no clients."), fields, output)
        elif name:
            _show_run(context, runs.find_run(name), fields, output)
        else:
            _show_runs(context, fields, output)


def _show_failures(context: Context, run: ReissueRun, fields: str, output: OutputFormat) -> None:
    failures, empty = reissue_items.list_failures(run), Words("No mail of this run failed.")
    if not _wants_card(output):
        _show_items(failures, empty, fields, output)
        return
    # Imported here, as below: only people read it.
    from egec_cli.commands import reissue_texts
    from egec_cli.mail.transports.interface import without_addresses
    from egec_cli.output.cards import show_lines

    # The client's address is in the line already.
    _show_items((one._replace(details=without_addresses(one.details or "")) for one in failures), empty, fields)
    found = report.report_run(context, run)
    if found.failures:
        show_total(found.run.failed, None)
        lines = reissue_texts.reason_lines(found.failures)
        if found.run.state is not RunState.CANCELLED:
            lines.append(reissue_texts.retry_line(found.run.name))
        show_lines(lines, sys.stdout)


def _show_run(context: Context, run: ReissueRun, fields: str, output: OutputFormat) -> None:
    """Show one run: as a card at a terminal, unless fields are chosen."""
    if _wants_card(output) and not fields:
        # Imported here, as below: only people read it.
        from egec_cli.commands import reissue_texts
        from egec_cli.output.cards import show_lines

        show_lines(reissue_texts.run_lines(report.report_run(context, run)), sys.stdout)
        return
    render(report.load_run(context, run), output, split_fields(fields))
    if output is OutputFormat.TABLE and runs.has_no_worker(context, run):
        note(
            "egec: no worker is active on the run {name}. To continue it, type: egec reissue resume {quoted}",
            name=run.name,
            quoted=quoted(run.name),
        )


def _wants_card(output: OutputFormat) -> bool:
    return output is OutputFormat.TABLE and is_at_terminal() and not is_quiet()


# What a narrow terminal leaves out of the list of runs, the least important first.
_RUN_OPTIONAL = (
    "selection", "throttled_by", "finished_at", "throttled_rate", "rate", "created_at", "skipped", "deferred",
    "waits_because",
    "next_attempt_at",
)  # fmt: skip


def _show_runs(context: Context, fields: str, output: OutputFormat) -> None:
    render_all(
        report.list_runs(context),
        RunRecord,
        output,
        split_fields(fields),
        optional=_RUN_OPTIONAL,
        empty=Words("No runs yet."),
    )


def _show_items(
    items: Iterator[ItemRecord], empty: Words, fields: str, output: OutputFormat = OutputFormat.TABLE
) -> None:
    optional = ("attempts", "line", "outcome", "failure")
    render_all(items, ItemRecord, output, split_fields(fields), optional=optional, empty=empty)


@app.command("retry", epilog="egec reissue retry spring-2026 --dry-run\negec reissue retry spring-2026 --rate 300/h")
def retry_command(
    name: NameArgument,
    dry_run: DryRunOption = False,
    with_list: ListOption = False,
    rate: RateOption = None,
    wait: WaitOption = DEFAULT_WAIT,
    now: NowOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Retry the clients of a run whose mail failed, after correcting their addresses, and continue the run."""
    _continue(name, rate, output, wait, now=now, dry_run=dry_run, with_list=with_list, with_failed=True)


@app.command("cancel", epilog="egec reissue cancel spring-2026\negec reissue cancel spring-2026 --yes")
def cancel_command(name: NameArgument, yes: YesOption = False, output: RecordOption = OutputFormat.TABLE) -> None:
    """Cancel a run permanently; clients not mailed yet keep their current password."""
    with open_context() as context:
        run = runs.find_run(name)
        if not (yes or can_ask()):
            raise no_terminal()
        if not (yes or _confirm_cancel(context, run)):
            note("egec: nothing was cancelled")
            raise typer.Exit(ExitCode.REFUSED)
        runs.cancel_run(context, run)
        _show_run(context, run, "", output)


def _confirm_cancel(context: Context, run: ReissueRun) -> bool:
    """Ask the operator; return true without a question if the run has ended already."""
    found = report.load_run(context, run)
    if found.state in {RunState.DONE, RunState.CANCELLED}:
        return True
    clients = count_clients(found.remaining)
    return confirm(
        Words("Permanently cancel the run {name}, with {clients} not mailed yet?", name=run.name, clients=clients)
    )


def _work(context: Context, run: ReissueRun, output: OutputFormat, wait: int, selected: Selected | None = None) -> None:
    """Work through a run, show the outcome of each client, and end with the right exit code.

    Args:
        wait: how long to wait for deferred mail or a paused run, in minutes.
    """
    # Imported here, as below: `status` and completion do not load what sends mail.
    from egec_cli.mail.transports import choose
    from egec_cli.reissue import worker

    before = report.load_run(context, run)
    if before.remaining and isinstance(context.settings.mail_server, MaildirFolder):
        note(
            "egec: no mail server configured; mails are saved to {folder}",
            folder=context.settings.mail_server,
        )
    if not before.remaining and before.total:
        note(
            "egec: nothing left to do in the run {name}",
            name=run.name,
        )
    new_transport = choose.transport_factory(context.settings)
    unmatched = 0
    has_ended = False
    done = before.total - before.remaining
    has_lines = output is OutputFormat.TABLE
    progress = Progress(run.name, before.total, done, before.failed, has_lines=has_lines)

    def tell(words: Words) -> None:
        note("egec: {words}", words=words)
        # A wait, or a mail server that limits us.
        progress.expect_waits()

    try:
        with stop_on_signal() as stop, progress:
            if before.next_attempt_at is not None or before.deferred:
                progress.expect_waits()
            unmatched = report_unmatched(selected) if selected else 0
            work = worker.work_on_run(context, run, new_transport, stop, patience=timedelta(minutes=wait), tell=tell)
            with closing(work) as outcomes:
                _show_outcomes(_track_progress(outcomes, progress), output)
            has_ended = True
            after = report.load_run(context, run)
            progress.correct(after.total - after.remaining, after.failed)
    except EgecError as error:
        if has_lines and error.code != database_busy().code:
            _try_to_summarise(context, run, unmatched, error.exit_code, with_next=False)
        elif output is OutputFormat.JSON and error.exit_code is ExitCode.TEMPORARY_FAILURE:
            # What is left, and when it is due.
            _show_if_possible(context, lambda: render(report.load_run(context, run), output))
        raise
    except KeyboardInterrupt as signal_:
        # A second signal ends the program at once.
        if has_ended and has_lines:
            _try_to_summarise(context, run, unmatched, code_of_signal(signal_))
        raise
    code = ExitCode.PARTLY_DONE if after.failed or after.remaining or unmatched else ExitCode.OK
    if output in _SUMMARISED and not _wants_card(output):
        render(after, output)
        # The summary is the end of a log that has both.
        sys.stdout.flush()
    if code or has_lines:
        _summarise(context, run, unmatched, code)
    if code:
        raise typer.Exit(code)


def _summarise(context: Context, run: ReissueRun, unmatched: int, code: int, *, with_next: bool = True) -> None:
    """Show on stderr what the run has come to: with --quiet only if something failed."""
    from egec_cli.commands import reissue_texts
    from egec_cli.output.cards import show_lines

    if code or not is_quiet():
        found = report.report_run(context, run)
        lines = reissue_texts.summary_lines(found, unmatched=unmatched, code=code, with_next=with_next)
        show_lines(lines, sys.stderr)


def _try_to_summarise(context: Context, run: ReissueRun, unmatched: int, code: int, *, with_next: bool = True) -> None:
    """Show what the run has come to before what ended this command is reported; leave it out if that fails too."""
    _show_if_possible(context, lambda: _summarise(context, run, unmatched, code, with_next=with_next))


def _show_if_possible(context: Context, show: Callable[[], object]) -> None:
    """Connect to the database and call `show`; leave it out if either fails."""
    with suppress(EgecError, peewee.PeeweeException, OSError), translate_failures(context.settings.database):
        context.database.connect(reuse_if_open=True)
        show()


def _track_progress(outcomes: Iterable[ItemRecord], progress: Progress) -> Iterator[ItemRecord]:
    for outcome in outcomes:
        yield outcome
        progress.advance(failed=outcome.outcome is ItemState.FAILED)


def _show_outcomes(outcomes: Iterable[ItemRecord], output: OutputFormat) -> None:
    if output not in _SUMMARISED:
        render_all(outcomes, ItemRecord, output, flush=True, are_outcomes=True)
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


def _parse_rate_option(text: str | None) -> Rate | None:
    """Return the quotas of `--rate`."""
    try:
        return None if text is None else parse_rate(text)
    except Fault as fault:
        raise UsageError("--rate {fault}", "Example: --rate 30/min,500/h", fault=fault.words) from None


def _require_dry_run(with_list: bool, dry_run: bool) -> None:
    if with_list and not dry_run:
        raise UsageError("--list needs --dry-run", "Give both, or leave out --list.")
