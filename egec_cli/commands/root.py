"""The root of the command line: it knows its subcommands by name and imports only the one that runs."""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from egec_cli import __version__
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
    "db": "Look after the database: status, upgrade, backup.",
}


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins, with name and help only, until one of them is to run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, help_line in SUBCOMMANDS.items():
            self.add_command(TyperCommand(name, help=help_line))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that is to run."""
        name = args[0]
        if name in SUBCOMMANDS:
            module = import_module(f"egec_cli.commands.{name}")
            self.add_command(get_command(module.app), name)
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)


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
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Administer the accounts of eGEC: client files, passwords by mail, logins."""
    if env_file is not None:
        # So that a program that this one starts finds the same file.
        os.environ[ENV_FILE_VARIABLE] = str(env_file)
