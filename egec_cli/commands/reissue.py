"""`egec reissue`: start, resume, status, retry, cancel."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from egec_cli.clients.select import Selected, Unmatched
from egec_cli.commands import client_selectors
from egec_cli.commands import options as consent
from egec_cli.commands.options import CLIENT_IN_TABLE, FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened, orderly_stop
from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.errors import ExitCode, UsageError, quoted
from egec_cli.output.formats import OutputFormat, render, render_all
from egec_cli.output.messages import note, warn
from egec_cli.output.progress import Progress
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

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the run.")]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate", min=0, max=100_000, help="At most so many mails a second, of all workers together; 0 for no limit."
    ),
]

# With these, one result sums the run up; with the others, each client is a result.
_SUMMARISED = {OutputFormat.TABLE, OutputFormat.JSON}


@app.command("start", epilog="Example: egec reissue start spring-2026 --all --yes")
def start_command(
    name: NameArgument,
    everyone: client_selectors.AllOption = False,
    status: client_selectors.StatusOption = None,
    never_logged_in: client_selectors.NeverLoggedInOption = False,
    issued_before: client_selectors.IssuedBeforeOption = "",
    last_mail_failed: client_selectors.LastMailFailedOption = False,
    weak_hash: client_selectors.WeakHashOption = False,
    from_file: client_selectors.FromOption = "",
    exclude: client_selectors.ExcludeOption = "",
    column: client_selectors.ColumnOption = "",
    limit: client_selectors.LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show who would get a mail, what it says and how long it takes.")
    ] = False,
    expect: Annotated[
        int | None, typer.Option("--expect", min=0, help="Mail nothing unless the run has so many clients.")
    ] = None,
    rate: RateOption = None,
    sentence: Annotated[
        str, typer.Option("--sentence", help="What each mail says first, such as why; else that of the templates.")
    ] = "",
    yes: consent.YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Mail a first or a new password to each selected client, under a name.

    The same command again goes on where it stopped, and does nothing once all is done.
    """
    if not (yes or dry_run or consent.can_be_asked()):
        raise UsageError("there is no terminal to ask whether to mail new passwords", "Add --yes; nothing was started.")
    with (
        client_selectors.selection(
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
        ) as wanted,
        opened(only_read=dry_run) as context,
    ):
        mail_route.require(context)
        selected = Selected(context, wanted)
        if dry_run or not yes:
            # With --yes, `start_run` checks the same.
            before = runs.find_existing_run(name, selected, expect=expect, rate=rate, sentence=sentence)
            if dry_run:
                _show_dry_run(context, selected, before, rate, sentence, output)
                return
            if not _is_agreed_to(selected, before):
                note("egec: nothing was started")
                raise typer.Exit(ExitCode.REFUSED)
        run = runs.start_run(context, name, selected, expect=expect, rate=rate, sentence=sentence)
        runs.resume_run(context, run, rate=rate)
        _work(context, run, output, selected)


@app.command("resume", epilog="Example: egec reissue resume spring-2026")
def resume_command(name: NameArgument, rate: RateOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """Go on with a run; several machines that share a database may do so at the same time."""
    with opened() as context:
        mail_route.require(context)
        run = runs.find_run(name)
        runs.resume_run(context, run, rate=rate)
        _work(context, run, output)


@app.command("status", epilog="Example: egec reissue status spring-2026 --format json")
def status_command(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The name of the run; all runs without it.")] = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="List the clients of the run who could not be mailed.")
    ] = False,
    items: Annotated[
        bool, typer.Option("--items", help="List all clients of the run, each with what became of its mail.")
    ] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show how a run stands, or all of them."""
    if failed and not name:
        raise UsageError("--failed lists the clients of one run", "Name the run too.")
    if items and not name:
        raise UsageError("--items lists the clients of one run", "Name the run too.")
    if items and failed:
        raise UsageError("--items and --failed contradict each other", "Give only one of them.")
    with opened(only_read=True) as context:
        if failed:
            render_all(reissue_items.list_failures(runs.find_run(name)), ItemRecord, output, names(fields))
        elif items:
            render_all(reissue_items.list_items(runs.find_run(name)), ItemRecord, output, names(fields))
        elif name:
            run = runs.find_run(name)
            render(runs.load_run(context, run), output, names(fields))
            if output is OutputFormat.TABLE and runs.has_no_worker(context, run):
                note(
                    "egec: nobody is working on the run {name}. To continue it, type: egec reissue resume {quoted}",
                    name=run.name,
                    quoted=quoted(run.name),
                )
        else:
            render_all(runs.list_runs(context), RunRecord, output, names(fields))


@app.command("retry", epilog="Example: egec reissue retry spring-2026")
def retry_command(name: NameArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """Try again those clients of a run who could not be mailed, and go on with it."""
    with opened() as context:
        mail_route.require(context)
        run = runs.find_run(name)
        runs.retry_run(context, run)
        runs.resume_run(context, run)
        _work(context, run, output)


@app.command("cancel", epilog="Example: egec reissue cancel spring-2026")
def cancel_command(name: NameArgument, output: OutputOption = OutputFormat.TABLE) -> None:
    """End a run for good; whom it has not mailed keeps the former password."""
    with opened() as context:
        run = runs.find_run(name)
        runs.cancel_run(context, run)
        render(runs.load_run(context, run), output)


def _work(context: Context, run: ReissueRun, output: OutputFormat, selected: Selected | None = None) -> None:
    """Work through a run, show what becomes of each client, and end with the exit code that fits."""
    # Imported here, as below: only who mails loads what does, and neither `status` nor a Tab behind NAME.
    from egec_cli.mail.transports import choose
    from egec_cli.reissue import worker

    before = runs.load_run(context, run)
    if before.remaining and isinstance(context.settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the mails are laid down in {folder}",
            folder=context.settings.mail_server,
        )
    new_transport = choose.transport_factory(context.settings)
    unmatched = 0
    done = before.accepted + before.failed
    with orderly_stop() as stop, Progress(run.name, before.total, done, before.failed, output) as progress:
        for stranger in selected.unmatched() if selected else ():
            unmatched += 1
            warn(_told(stranger))
        with closing(worker.work_on_run(context, run, new_transport, stop)) as outcomes:
            _tell(_counted(outcomes, progress), output)
        after = runs.load_run(context, run)
        progress.correct(after.accepted + after.failed, after.failed)
    if output in _SUMMARISED:
        render(after, output)
    if after.failed:
        warn(
            "egec: clients of the run {name} that could not be mailed: {failed} of {total}. "
            "Next: egec reissue status {quoted} --failed; "
            "after correcting the addresses: egec reissue retry {quoted}",
            name=after.name,
            failed=after.failed,
            total=after.total,
            quoted=quoted(after.name),
        )
    if after.failed or after.remaining or unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _told(stranger: Unmatched) -> str:
    return Words(
        "egec: {file}:{line}: no client is called {value!r}",
        file=stranger.file,
        line=stranger.line,
        value=stranger.value,
    )


def _counted(outcomes: Iterable[ItemRecord], progress: Progress) -> Iterator[ItemRecord]:
    for outcome in outcomes:
        yield outcome
        progress.advance(failed=outcome.outcome is ItemState.FAILED)


def _tell(outcomes: Iterable[ItemRecord], output: OutputFormat) -> None:
    if output not in _SUMMARISED:
        render_all(outcomes, ItemRecord, output, flush=True)
        return
    for one in outcomes:
        if one.outcome is ItemState.FAILED:
            line = Words("line {line}: ", line=one.line) if one.line else ""
            if (one.details or "").startswith(f"client {one.identifier} "):
                # Our own message names the client and the reason, such as `client 1234567890 was erased`.
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


def _is_agreed_to(selected: Selected, before: ReissueRun | None) -> bool:
    """Ask the operator, unless a run that was started before has nothing left to mail."""
    from egec_cli.reissue import preview as reissue_preview

    wanted = selected if before is None else reissue_preview.RemainingClients(before)
    total, first = wanted.count(), wanted.count_without_password()
    if before is not None and not total:
        return True
    if not first:
        question = Words("Mail new passwords to {clients}?", clients=_clients(total))
    elif first == total:
        question = Words("Mail first passwords to {clients}?", clients=_clients(total))
    else:
        question = Words(
            "Mail first passwords to {clients} and new passwords to {others}?",
            clients=_clients(first),
            others=total - first,
        )
    return consent.is_given(question)


def _clients(number: int) -> Words:
    return Words("1 client") if number == 1 else Words("{number} clients", number=number)


def _show_dry_run(
    context: Context,
    selected: Selected,
    before: ReissueRun | None,
    rate: int | None,
    sentence: str,
    output: OutputFormat,
) -> None:
    """Show whom `start` would mail, which is who is left of a run that was started before, if there is one."""
    from egec_cli.mail.transports import choose
    from egec_cli.reissue import preview as reissue_preview

    wanted = selected
    if before is not None:
        shown = runs.load_run(context, before)
        wanted = reissue_preview.RemainingClients(before)
        options = runs.RunOptions.parse(before.options)
        rate, sentence = options.rate if rate is None else rate, sentence or options.sentence
        note(
            "egec: the run {name} already exists. State: {state}; clients left: {remaining} of {total}. "
            "`start` would mail only these.",
            name=shown.name,
            state=shown.state,
            remaining=shown.remaining,
            total=shown.total,
        )
    planned = reissue_preview.list_planned_clients(context, wanted)
    render_all(planned, reissue_preview.PlannedRecord, output, in_table=(*CLIENT_IN_TABLE, "mail"))
    unmatched = 0
    for stranger in selected.unmatched():
        unmatched += 1
        warn(_told(stranger))
    found = reissue_preview.preview_run(
        context, wanted, choose.open_transport(context.settings), rate=rate, sentence=sentence
    )
    note(_in_words(found, wanted.count_bounced()))
    if unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _in_words(found: "RunPreview", bounced: int) -> str:
    from egec_cli.mail.compose.wording import Kind

    if found.fault is not None:
        mails = Words("no mail would leave at present: {fault}", fault=found.fault)
    else:
        mails = Words(
            "the mail server answers within {milliseconds:.0f} ms", milliseconds=(found.mail_seconds or 0) * 1000
        )
    seconds = round(found.seconds)
    duration = (
        Words("about {duration}", duration=timedelta(seconds=seconds)) if seconds else Words("less than a second")
    )
    readers = {
        Kind.CREDENTIALS: Words("A client without a password so far"),
        Kind.REISSUE: Words("A client who has had a password"),
    }
    came_back = (
        Words("egec: from the address of {bounced} of them, a mail came back\n", bounced=bounced) if bounced else ""
    )
    return Words(
        "egec: {clients} would get a mail, in {duration}: "
        "a hash takes {hash_milliseconds:.0f} ms, {mails}\n"
        "egec: {first} of them would get a first mail, {others} a new password\n"
        "{came_back}egec: nothing was started. {samples}",
        clients=_clients(sum(found.mails.values())),
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
