"""The root of the command line: it knows its subcommands by name and imports only the one that runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from egec_cli import __version__
from egec_cli.commands.lazy import LazyGroup, Member, new_app
from egec_cli.settings import ENV_FILE_VARIABLE

# Each name is also that of the module in this folder.
SUBCOMMANDS = {
    "init": "Create the database and say where things are.",
    "client": "Create, import, show, list, export, change and erase client files.",
    "activate": "Make a new password for a client and mail it.",
    "verify": "Check an identifier and a password.",
    "reissue": "Mail new passwords to many clients: start, resume, status, retry, cancel.",
    "mail": "Check, preview and test the mails; read bounces.",
    "password": "Print generated passwords.",
    "audit": "List and prune the record of what was done.",
    "db": "Look after the database: status, upgrade, backup, restore.",
    "doctor": "Examine the installation: settings, database, mail, passwords, runs.",
    "completion": "Print the script by which a shell completes commands, options, their values and the names of runs.",
}


class Root(LazyGroup):
    """All commands."""

    members: ClassVar[Mapping[str, Member]] = {name: Member(name, help_line) for name, help_line in SUBCOMMANDS.items()}


app = new_app(group=Root)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"egec {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: egec client create jeanne@example.org --last-name Dupont --activate")
def egec(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help=f"The file of settings; {ENV_FILE_VARIABLE} says the same.", metavar="FILE"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing of a success: no notes, and no results but by --format.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A line on stderr for each act; EGEC_LOG says how it is written.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Administer the accounts of eGEC: client files, passwords by mail, logins."""
    # Imported here: what is answered without a command needs none of it.
    from egec_cli import show

    show.speak(quiet=quiet, verbose=verbose)
    if env_file is not None:
        # So that a program that this one starts finds the same file.
        os.environ[ENV_FILE_VARIABLE] = str(env_file)
