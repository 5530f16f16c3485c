"""`egec mail`: check, preview, test, bounces."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from egec_cli import clock
from egec_cli.commands.doctor import VerboseOption, show_findings
from egec_cli.commands.find import find_client
from egec_cli.commands.options import OUTPUT, FieldsOption, OutputOption, RecordOption, split_fields
from egec_cli.commands.root import new_app
from egec_cli.commands.session import make_log, note_saved_mail, open_context, read_settings, standard_input
from egec_cli.credentials import bounces, mail_route
from egec_cli.credentials.bounces import NOT_UNDERSTOOD, BounceOutcome, BounceRecord
from egec_cli.doctor import mail
from egec_cli.doctor.mail import TestMailResult, check_server, check_signature, check_templates
from egec_cli.errors import ExitCode, InvalidInput, UsageError
from egec_cli.files import atomic_write
from egec_cli.mail.bounces import Incoming, read_file, read_maildir, read_stream
from egec_cli.mail.compose import sample
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.mail.transports import choose
from egec_cli.output.formats import OutputFormat, print_line, render, render_all
from egec_cli.output.messages import is_verbose, warn
from egec_cli.output.screen import wrap_for
from egec_cli.translation import Words

app = new_app("Check, preview and test mails; read bounces.")

KindOption = Annotated[Kind, typer.Option("--kind", help="Kind of mail.")]
LanguageOption = Annotated[
    str, typer.Option("--language", metavar="fr|en", help="fr or en (default: the client's, or EGEC_LANGUAGE).")
]


@app.command("check", epilog=("egec mail check\negec mail check --format json"))
def check_command(
    no_connection: Annotated[
        bool, typer.Option("--no-connection", help="Check only the templates, without the mail server.")
    ] = False,
    verbose: VerboseOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check all templates and the mail server without sending mail.

    A terminal shows the problems, and one line for each group without problems.

    Exit codes: 0 all is well, 3 warnings, 75 only the mail server is unavailable, 78 any other error.
    """
    settings = read_settings()
    found = check_templates(settings) + check_signature(settings)
    found += [] if no_connection else check_server(settings, is_missing=mail_route.is_url_missing(settings))
    show_findings(found, output, verbose=verbose or is_verbose())


@app.command("preview", epilog=("egec mail preview --text\negec mail preview --kind reissue --html mail.html"))
def preview_command(
    client: Annotated[
        str,
        typer.Argument(metavar="[CLIENT]", help="Client, named as in `client show` (default: a fictitious one)."),
    ] = "",
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    sentence: Annotated[
        str, typer.Option("--sentence", metavar="TEXT", help="First sentence of the mail of a run.")
    ] = "",
    text: Annotated[bool, typer.Option("--text", help="Print the text (default without --html and --eml).")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML to a new file.")] = None,
    eml: Annotated[Path | None, typer.Option("--eml", metavar="FILE", help="Write the mail to a new file.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite existing regular files.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Show a mail as a client would receive it, with a sample password; nothing is sent."""
    if sentence and kind not in KINDS_OF_A_RUN:
        raise UsageError("mails of kind {kind} have no sentence", "Omit --sentence.", kind=kind)
    mail = _compose_preview(client, kind, language, sentence)
    if text or not (html or eml):
        for line in sample.render_as_text(mail).rstrip("\n").split("\n"):
            for part in wrap_for(sys.stdout, line):
                print_line(part)
    for path, content in ((html, sample.extract_html(mail)), (eml, mail.content.decode())):
        if path is not None:
            with atomic_write(path, force=force) as file:
                file.write(content)


def _compose_preview(client: str, kind: Kind, language: str, sentence: str) -> Mail:
    settings = read_settings()
    if not client:
        return mail.preview_mail(settings, kind, language=language, sentence=sentence, client=None, at=clock.now())
    with open_context(settings, only_read=True) as context:
        return mail.preview_mail(
            settings, kind, language=language, sentence=sentence, client=find_client(client), at=context.clock()
        )


@app.command("test", epilog="egec mail test you@example.org")
def try_command(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Your own address.")],
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Send a mail marked as a test, with a sample password; no client changes."""
    settings = read_settings()
    if mail_route.is_url_missing(settings):
        raise mail_route.missing_url_error()
    mail_route.try_to_record(settings)
    transport = choose.open_transport(settings)
    try:
        result: TestMailResult = mail.send_test_mail(
            settings, address, kind, language=language, transport=transport, at=clock.now(), log=make_log(settings)
        )
    finally:
        transport.close()
    render(result, output)
    note_saved_mail(settings, result.server_reply)
    if not result.recorded:
        warn("egec: the test was not recorded: the database is missing, unavailable, busy or needs an upgrade")


_IN_TABLE = ("identifier", "outcome", "address", "status", "reason")


@app.command(
    "bounces", epilog="egec mail bounces /var/mail/bounces --move\negec mail bounces /var/mail/bounces --format jsonl"
)
def bounces_command(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|MAILDIR|-", help="Message, mbox or Maildir; - for a message on standard input."),
    ],
    move: Annotated[
        bool, typer.Option("--move", help="Read only new messages of the Maildir, and move them to cur.")
    ] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Read delivery reports, and mark the mails and addresses that bounced.

    Passwords do not change. With a message on standard input the exit code is 0 whatever the message is, so that the
    mail server does not return it.
    """
    is_piped = source == "-"
    if move and not Path(source).is_dir():
        raise UsageError("--move needs a Maildir", "Name a Maildir, or omit --move.")
    outcomes: Counter[BounceOutcome] = Counter()
    with open_context() as context:
        found = bounces.process_messages(context, _read_messages(source, move=move))
        render_all(
            _count_outcomes(found, outcomes),
            BounceRecord,
            output,
            split_fields(fields),
            in_table=_IN_TABLE,
            are_outcomes=True,
        )
    if is_piped:
        return
    if not outcomes and not Path(source).is_dir():
        raise InvalidInput("{source} contains no message", "Name a message, an mbox or a Maildir.", source=source)
    if any(outcomes[one] for one in NOT_UNDERSTOOD):
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _read_messages(source: str, *, move: bool) -> Iterator[Incoming]:
    if source != "-":
        path = Path(source)
        return read_maildir(path, move=move) if path.is_dir() else read_file(path)
    stream = standard_input(Words("Pass the message on standard input, or name a file."))
    return read_stream(Words("standard input"), stream)


def _count_outcomes(found: Iterable[BounceRecord], outcomes: Counter[BounceOutcome]) -> Iterator[BounceRecord]:
    for record in found:
        outcomes[record.outcome] += 1
        if record.outcome in NOT_UNDERSTOOD:
            warn(
                "egec: {file}:{line}: {outcome}: {reason}",
                file=record.file,
                line=record.line,
                outcome=record.outcome,
                reason=record.reason,
            )
        yield record
