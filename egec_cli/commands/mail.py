"""`egec mail`: check, preview, test; bounces has a module of its own."""

from pathlib import Path
from typing import Annotated

import typer

from egec_cli import clock
from egec_cli.accounts import clients, mail_check, mail_route, mail_trial
from egec_cli.accounts.mail_trial import Tried
from egec_cli.commands import mail_bounces
from egec_cli.commands.findings import show_findings
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import OutputOption
from egec_cli.commands.session import log_of, opened, read_settings
from egec_cli.errors import Usage
from egec_cli.mail import specimen, transport
from egec_cli.mail.message import Mail
from egec_cli.mail.wording import KINDS_OF_A_RUN, Kind
from egec_cli.new_file import written
from egec_cli.settings import MaildirFolder
from egec_cli.show import OutputFormat, note, say, show, warn

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
    found = mail_check.templates(settings) + mail_check.signature(settings)
    found += [] if no_connection else mail_check.server(settings, is_missing=mail_route.is_missing_here(settings))
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
        raise Usage("a mail of kind {kind} has no sentence", "Leave --sentence out.", kind=kind)
    mail = _preview(client, kind, language, sentence)
    if text or not (html or eml):
        say(specimen.as_read(mail).rstrip("\n"))
    for path, content in ((html, specimen.page_of(mail)), (eml, mail.content.decode())):
        if path is not None:
            with written(path, force=force) as file:
                file.write(content)


def _preview(client: str, kind: Kind, language: str, sentence: str) -> Mail:
    settings = read_settings()
    if not client:
        return mail_trial.preview(settings, kind, language=language, sentence=sentence, client=None, at=clock.now())
    with opened(settings, only_read=True) as egec:
        return mail_trial.preview(
            settings, kind, language=language, sentence=sentence, client=clients.find(client), at=egec.clock()
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
    if mail_route.is_missing_here(settings):
        raise mail_route.missing()
    mail_route.note(settings)
    way = transport.of(settings)
    try:
        tried: Tried = mail_trial.send(
            settings, address, kind, language=language, transport=way, at=clock.now(), log=log_of(settings)
        )
    finally:
        way.close()
    show(tried, output)
    if isinstance(settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the mail was laid down in {server_reply}",
            server_reply=tried.server_reply,
        )
    if not tried.on_record:
        warn("egec: that is not on record: there is no database yet, or it is away, busy or to be upgraded")


app.add_typer(mail_bounces.app)
