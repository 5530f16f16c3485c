"""How every application and group of commands is made: with plain help, and imported when a command is to run."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from egec_cli import translation


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
    if not translation.speaks_english():
        # Imported here: English needs none of it.
        from egec_cli.commands import help_texts

        help_texts.translate(command)


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
