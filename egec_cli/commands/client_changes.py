"""`egec client update`, `disable`, `enable`, `unblock` and `erase`."""

from typing import Annotated

import typer

from egec_cli.accounts.fields import CIVILITIES
from egec_cli.commands import client_changing, consent, selectors
from egec_cli.commands.lazy import new_app
from egec_cli.commands.options import ClientArgument, OutputOption
from egec_cli.errors import NotPermitted, Usage
from egec_cli.show import OutputFormat

app = new_app()

OneClientArgument = Annotated[
    str, typer.Argument(metavar="[CLIENT]", help="E-mail, identifier or ref:REFERENCE; or give --from.")
]
FromOption = Annotated[
    str, typer.Option("--from", metavar="FILE|-", help="All who are named there: e-mail, identifier or reference.")
]


@app.command("update", epilog="Example: egec client update 5079512743 --email marc.petit@example.org")
def update_command(
    client: ClientArgument,
    email: Annotated[str | None, typer.Option("--email", help="The new registered e-mail.")] = None,
    civility: Annotated[str | None, typer.Option("--civility", help=f"One of {' '.join(CIVILITIES)}.")] = None,
    first_name: Annotated[str | None, typer.Option("--first-name", help="The first name.")] = None,
    last_name: Annotated[str | None, typer.Option("--last-name", help="The last name, or that of the firm.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="The number of the file elsewhere.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="fr or en.")] = None,
    no_mail: Annotated[
        bool, typer.Option("--no-mail", help="With --email: do not tell the former address of the change.")
    ] = False,
    identifier: Annotated[str | None, typer.Option("--identifier", hidden=True)] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Change fields of a client's file; an empty value clears one. The identifier never changes.

    With a new e-mail, the former address of an activated client gets a note, without any password; if that fails, the
    file is changed all the same, and the exit code is 3.
    """
    if identifier is not None:
        raise NotPermitted(
            "the identifier of a client never changes",
            "Leave --identifier out; for another person, make another file by `egec client create`.",
            code="identifier_fixed",
        )
    options = {
        "email": email,
        "civility": civility,
        "first_name": first_name,
        "last_name": last_name,
        "reference": reference,
        "language": language,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise Usage("nothing is to be changed", "Give --email, --last-name or another field.")
    client_changing.update(client, given, output, no_mail=no_mail)


@app.command("disable", epilog="Example: egec client disable 5079512743 --reason 'contract ended'")
def disable_command(
    reason: Annotated[str, typer.Option("--reason", help="Why; `egec client show` tells it.")],
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let no password open a client's account, or those of many, until they are enabled."""
    client_changing.disable(_named(client, from_file, column), reason, output)


@app.command("enable", epilog="Example: egec client enable 5079512743")
def enable_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a client who was disabled, or many, log in as before."""
    client_changing.enable(_named(client, from_file, column), output)


@app.command("unblock", epilog="Example: egec client unblock 5079512743")
def unblock_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a client who is blocked or waits after failed logins, or many, try again at once."""
    client_changing.unblock(_named(client, from_file, column), output)


@app.command("erase", epilog="Example: egec client erase 5079512743 --yes")
def erase_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: selectors.ColumnOption = "",
    yes: consent.YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Erase a client's personal data for good, or that of many; the identifiers stay reserved for ever."""
    named = _named(client, from_file, column)
    if not yes and (from_file == "-" or not consent.can_be_asked()):
        raise Usage("there is no terminal to ask whether to erase for good", "Add --yes; nothing was erased.")
    client_changing.erase(named, output, yes=yes)


def _named(client: str, from_file: str, column: str) -> selectors.Named:
    """Return which clients a command is about.

    Raises:
        Usage: neither one client nor a file is named, or both are.
    """
    if bool(client) == bool(from_file):
        raise Usage("it is to be said which clients are meant", "Give one CLIENT, or --from FILE.")
    return selectors.Named(client, from_file, column)
