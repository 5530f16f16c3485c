"""`egec mail`: check, preview, test; bounces has a module of its own."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli import clock
from egec_cli.clients import records
from egec_cli.commands import mail_bounces
from egec_cli.commands.doctor import show_findings
from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import log_of, opened, read_settings
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
from egec_cli.output.messages import note, warn
from egec_cli.settings.schema import MaildirFolder

app = new_app("Check, preview and test the mails; read bounces.")

KindOption = Annotated[Kind, typer.Option("--kind", help="Which mail.")]
LanguageOption = Annotated[str, typer.Option("--language", help="fr or en; else the client's, or EGEC_LANGUAGE.")]


@app.command("check", epilog="Example: egec mail check --format json")
def check_command(
    no_connection: Annotated[
        bool, typer.Option("--no-connection", help="Check the templates alone, and ask no mail server.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Prove every template and look at the mail server; nothing is sent.

    The exit code is 0 if all is well, 3 if there are warnings, 75 if the mail server is unavailable and nothing else is
    at fault, and 78 if there is any other fault.
    """
    settings = read_settings()
    found = check_templates(settings) + check_signature(settings)
    found += [] if no_connection else check_server(settings, is_missing=mail_route.is_url_missing(settings))
    show_findings(found, output)


@app.command("preview", epilog="Example: egec mail preview --kind reissue --html mail.html")
def preview_command(
    client: Annotated[
        str, typer.Argument(metavar="[CLIENT]", help="E-mail, identifier or ref:REFERENCE; else somebody made up.")
    ] = "",
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    sentence: Annotated[str, typer.Option("--sentence", help="The sentence of a run.")] = "",
    text: Annotated[bool, typer.Option("--text", help="Print the text; so does no option at all.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML to a new file.")] = None,
    eml: Annotated[Path | None, typer.Option("--eml", metavar="FILE", help="Write the mail to a new file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Show a mail as a client would get it, with a password that opens nothing; nothing is sent."""
    if sentence and kind not in KINDS_OF_A_RUN:
        raise UsageError("a mail of kind {kind} has no sentence", "Leave --sentence out.", kind=kind)
    mail = _preview(client, kind, language, sentence)
    if text or not (html or eml):
        print_line(sample.render_as_text(mail).rstrip("\n"))
    for path, content in ((html, sample.extract_html(mail)), (eml, mail.content.decode())):
        if path is not None:
            with atomic_write(path, force=force) as file:
                file.write(content)


def _preview(client: str, kind: Kind, language: str, sentence: str) -> Mail:
    settings = read_settings()
    if not client:
        return mail_trial.preview_mail(
            settings, kind, language=language, sentence=sentence, client=None, at=clock.now()
        )
    with opened(settings, only_read=True) as context:
        return mail_trial.preview_mail(
            settings, kind, language=language, sentence=sentence, client=records.find_client(client), at=context.clock()
        )


@app.command("test", epilog="Example: egec mail test you@example.org")
def try_command(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An address of yours.")],
    language: LanguageOption = "",
    kind: KindOption = Kind.CREDENTIALS,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Send a mail that is marked as a test, with a password that opens nothing; no client is touched."""
    settings = read_settings()
    if mail_route.is_url_missing(settings):
        raise mail_route.missing_url_error()
    mail_route.try_to_record(settings)
    way = choose.open_transport(settings)
    try:
        tried: TestMailResult = mail_trial.send_test_mail(
            settings, address, kind, language=language, transport=way, at=clock.now(), log=log_of(settings)
        )
    finally:
        way.close()
    render(tried, output)
    if isinstance(settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the mail was laid down in {server_reply}",
            server_reply=tried.server_reply,
        )
    if not tried.on_record:
        warn("egec: that is not on record: there is no database yet, or it is away, busy or to be upgraded")


app.add_typer(mail_bounces.app)
