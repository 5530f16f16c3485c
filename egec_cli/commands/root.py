"""How every application and group of commands is made: with plain help, and imported when a command is to run."""

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

    Its help is plain text: panels would take longer to load than all the rest, and are no use in a pipe or read aloud.

    Args:
        help_line: what its commands are about, where it is a group.
        group: the class of the group, where its commands are imported one by one.
    """
    app = typer.Typer(cls=group, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    if help_line:
        app.info.help = help_line
    return app


def in_operators_language(command: Any) -> None:
    """Put the help of a command, and of those below it, into the operator's language where that is not English."""
    if not translation.is_english():
        # Imported here: English needs none of it.
        from egec_cli.commands import typer_texts

        typer_texts.translate_help(command)


class Member(NamedTuple):
    """A command of a group: the module in this folder that has it in its `app`, and the first sentence of its help."""

    module: str
    help: str


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins, with name and help only, until one of them is to run."""

    members: ClassVar[Mapping[str, Member]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, member in self.members.items():
            self.add_command(TyperCommand(name, help=member.help, short_help=member.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that is to run."""
        name = args[0]
        if name in self.members:
            self.add_command(self.loaded(name), name)
        return super().resolve_command(ctx, args)

    def loaded(self, name: str) -> Any:
        """Import a command of the group and return it."""
        command = get_command(import_module(f"egec_cli.commands.{self.members[name].module}").app)
        # A module may hold several commands of the group.
        command = getattr(command, "commands", {}).get(name, command)
        in_operators_language(command)
        return command


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
    from egec_cli.output import messages

    messages.set_verbosity(quiet=quiet, verbose=verbose)
    if env_file is not None:
        # So that a program that this one starts finds the same file.
        os.environ[ENV_FILE_VARIABLE] = str(env_file)
