"""`egec mail`: check, preview, test; bounces has a module of its own."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli import clock
from egec_cli.clients import records
from egec_cli.commands import mail_bounces
from egec_cli.commands.doctor import show_findings
from egec_cli.commands.options import OUTPUT, OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import make_log, note_saved_mail, open_context, read_settings
from egec_cli.credentials import mail_route
from egec_cli.doctor import mail_trial
from egec_cli.doctor.mail import check_server, check_signature, check_templates
from egec_cli.doctor.mail_trial import TestMailResult
from egec_cli.errors import UsageError
from egec_cli.files import atomic_write
from egec_cli.mail.compose import sample
from egec_cli.mail.compose.message import Mail
from egec_cli.mail.compose.wording import KINDS_OF_A_RUN, Kind
from egec_cli.mail.transports import choose
from egec_cli.output.formats import OutputFormat, print_line, render
from egec_cli.output.messages import warn

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
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check all templates and the mail server without sending mail.

    Exit codes: 0 all is well, 3 warnings, 75 only the mail server is unavailable, 78 any other error.
    """
    settings = read_settings()
    found = check_templates(settings) + check_signature(settings)
    found += [] if no_connection else check_server(settings, is_missing=mail_route.is_url_missing(settings))
    show_findings(found, output)


@app.command("preview", epilog=("egec mail preview --text\negec mail preview --kind reissue --html mail.html"))
def preview_command(
    client: Annotated[
        str,
        typer.Argument(metavar="[CLIENT]", help="E-mail, identifier or ref:REFERENCE (default: a fictitious client)."),
    ] = "",
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    sentence: Annotated[
        str, typer.Option("--sentence", metavar="TEXT", help="First sentence of the mail of a run.")
    ] = "",
    text: Annotated[bool, typer.Option("--text", help="Print the text (default without --html and --eml).")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML to a new file.")] = None,
    eml: Annotated[Path | None, typer.Option("--eml", metavar="FILE", help="Write the mail to a new file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Show a mail as a client would receive it, with a sample password; nothing is sent."""
    if sentence and kind not in KINDS_OF_A_RUN:
        raise UsageError("mails of kind {kind} have no sentence", "Omit --sentence.", kind=kind)
    mail = _compose_preview(client, kind, language, sentence)
    if text or not (html or eml):
        print_line(sample.render_as_text(mail).rstrip("\n"))
    for path, content in ((html, sample.extract_html(mail)), (eml, mail.content.decode())):
        if path is not None:
            with atomic_write(path, force=force) as file:
                file.write(content)


def _compose_preview(client: str, kind: Kind, language: str, sentence: str) -> Mail:
    settings = read_settings()
    if not client:
        return mail_trial.preview_mail(
            settings, kind, language=language, sentence=sentence, client=None, at=clock.now()
        )
    with open_context(settings, only_read=True) as context:
        return mail_trial.preview_mail(
            settings, kind, language=language, sentence=sentence, client=records.find_client(client), at=context.clock()
        )


@app.command("test", epilog="egec mail test you@example.org")
def try_command(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Your own address.")],
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Send a mail marked as a test, with a sample password; no client changes."""
    settings = read_settings()
    if mail_route.is_url_missing(settings):
        raise mail_route.missing_url_error()
    mail_route.try_to_record(settings)
    transport = choose.open_transport(settings)
    try:
        result: TestMailResult = mail_trial.send_test_mail(
            settings, address, kind, language=language, transport=transport, at=clock.now(), log=make_log(settings)
        )
    finally:
        transport.close()
    render(result, output)
    note_saved_mail(settings, result.server_reply)
    if not result.on_record:
        warn("egec: the test was not recorded: the database is missing, unavailable, busy or needs an upgrade")


app.add_typer(mail_bounces.app)
