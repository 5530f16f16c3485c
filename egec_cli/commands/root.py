"""The root command, and groups whose commands are imported only when they run."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from egec_cli import __version__, translation
from egec_cli.settings.schema import ENV_FILE_VARIABLE


def new_app(help_line: str = "", *, group: "type[LazyGroup] | None" = None) -> typer.Typer:
    """Return an application without commands.

    Its help is plain text: panels load slowly, and do not suit a pipe or a screen reader.

    Args:
        help_line: the help of a group.
        group: the class of a group whose commands are imported one by one.
    """
    app = typer.Typer(cls=group, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    if help_line:
        app.info.help = help_line
    return app


def translate_command(command: Any) -> None:
    """Translate the help of a command, and of those below it, into the operator's language."""
    if not translation.is_english():
        # Imported here: English does not need it.
        from egec_cli.commands import typer_texts

        typer_texts.translate_help(command)


class Member(NamedTuple):
    """A command of a group: the module in this folder whose `app` holds it, and the first sentence of its help."""

    module: str
    help: str


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins, with name and help only, until one of them runs."""

    members: ClassVar[Mapping[str, Member]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, member in self.members.items():
            self.add_command(TyperCommand(name, help=member.help, short_help=member.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that runs."""
        name = args[0]
        if name in self.members:
            self.add_command(self.load_command(name), name)
        return super().resolve_command(ctx, args)

    def load_command(self, name: str) -> Any:
        """Import a command of the group and return it."""
        command = get_command(import_module(f"egec_cli.commands.{self.members[name].module}").app)
        # A module may hold several commands of the group.
        command = getattr(command, "commands", {}).get(name, command)
        translate_command(command)
        for member in getattr(command, "commands", {}).values():
            # Typer cuts the first sentence of a command short in the help of its group.
            member.short_help = member.help.split("\n")[0].split(". ")[0].rstrip(".") + "."
        return command


# Each command or group is in the module of the same name in this folder.
SUBCOMMANDS = {
    "init": "Create the database and show the locations in use.",
    "client": "Create, import, show, list, export, change and erase clients.",
    "activate": "Create a new password for a client and mail it.",
    "verify": "Check an identifier and a password.",
    "reissue": "Mail new passwords to many clients: start, resume, status, retry, cancel.",
    "mail": "Check, preview and test mails; read bounces.",
    "password": "Print generated passwords without changing any account.",
    "audit": "List and prune the audit log.",
    "db": "Maintain the database: status, upgrade, backup, restore.",
    "doctor": "Check the installation: settings, database, mail, passwords, runs.",
    "completion": "Print the shell script that completes commands, options, values and run names.",
    "help": "Show the guide about a topic or a command; without one, list all guides.",
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
        typer.Option("--env-file", help=f"Settings file; takes precedence over {ENV_FILE_VARIABLE}.", metavar="FILE"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print errors only, plus data requested with --format.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log each act as a line on stderr; EGEC_LOG sets the format.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Administer the accounts of eGEC: clients, passwords by mail, logins.

    Type `egec help` for the guides: what to do when, step by step.
    """
    # Imported here: help and version do not need it.
    from egec_cli.output import messages

    messages.set_verbosity(quiet=quiet, verbose=verbose)
    if env_file is not None:
        # So that programs started by this one find the same file.
        os.environ[ENV_FILE_VARIABLE] = str(env_file)
