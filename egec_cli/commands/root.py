"""The root command, and groups whose commands are imported only when they run."""

import os
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from egec_cli import __version__, translation
from egec_cli.errors import ExitCode, UsageError
from egec_cli.settings.types import ENV_FILE_VARIABLE

# The help of a command with more options shows them by subject.
_OPTIONS_IN_ONE_LIST = 7
# What is changed or deleted at once without them.
_TIME_LIMITS = {"notify", "older_than"}
_ARGUMENTS, _OPTIONS = translation.Words("Arguments"), translation.Words("Options")


class _Shared:
    """What commands and groups share: an option with a single value is given once, and help has whole examples."""

    epilog: str | None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: an option that takes a single value is given more than once, or has an empty value that would
                change too much.
        """
        given = list(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.TyperException as error:
            # Typer leaves it out for an option without its value.
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise
        if not ctx.resilient_parsing:
            # Parsed again, after --help has had its turn: parsed values do not show how often an option was given.
            values, _, order = self.make_parser(ctx).parse_args(given)  # type: ignore[attr-defined]
            _require_once(order)
            if "" in values.values():
                _require_limits(values, order)
        return rest

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, whole even if they are longer than a line."""
        if self.epilog:
            with formatter.section(translation.Words("Examples")):
                for example in self.epilog.splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{example}\n")


def _require_once(parameters: list[Any]) -> None:
    """Refuse a second value for an option that would silently replace the first one; a repeated flag changes nothing.

    Args:
        parameters: the options and arguments, each as often as it was given.
    """
    for parameter, times in Counter(parameters).items():
        is_option = parameter.param_type_name == "option"
        if times > 1 and is_option and not (parameter.is_flag or parameter.multiple):
            raise UsageError("{option} is given more than once", "Give it once.", option=max(parameter.opts, key=len))


def _require_limits(values: Mapping[str, Any], parameters: list[Any]) -> None:
    """Refuse a selector or a time limit with an empty value, as from an unset variable: too much would be changed."""
    # Imported here: it is rarely needed.
    from egec_cli.commands.options import SELECTION

    for parameter in parameters:
        is_limit = getattr(parameter, "rich_help_panel", None) == SELECTION or parameter.name in _TIME_LIMITS
        if is_limit and values[parameter.name] == "":
            raise UsageError("{option} has an empty value", "Give a value, or omit it.", option=parameter.opts[0])


class Command(_Shared, TyperCommand):
    """A command whose help shows its options by subject (`rich_help_panel`)."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by subject; those without a subject come last."""
        shown = [(one, record) for one in self.get_params(ctx) if (record := one.get_help_record(ctx))]
        is_long = len(shown) > _OPTIONS_IN_ONE_LIST
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter, record in shown:
            subject = getattr(parameter, "rich_help_panel", None) if is_long else None
            if parameter.param_type_name == "argument":
                subject = _ARGUMENTS
            sections.setdefault(subject or _OPTIONS, []).append(record)
        for subject in sorted(sections, key=lambda subject: (subject != _ARGUMENTS, subject == _OPTIONS)):
            with formatter.section(subject):
                formatter.write_dl(sections[subject])


class App(typer.Typer):
    """An application whose commands are of the class `Command`."""

    def command(self, name: str | None = None, **attributes: Any) -> Any:
        """Declare a command, as Typer does."""
        return super().command(name, cls=Command, **attributes)


def new_app(help_line: str = "", *, group: "type[Group] | None" = None) -> typer.Typer:
    """Return an application without commands.

    Its help is plain text: panels load slowly, and do not suit a pipe or a screen reader.

    Args:
        help_line: the help of a group.
        group: the class of a group with something of its own, such as commands that are imported one by one.
    """
    app = App(cls=group or Group, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
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


def apply_verbosity(ctx: Any, parameter: Any, wanted: bool) -> bool:
    """Apply --quiet or --verbose behind a command, together with those before it."""
    if wanted:
        # Imported here: help does not need it.
        from egec_cli.output import messages

        before = ctx.find_root().params
        before[parameter.name] = True
        messages.set_verbosity(quiet=before.get("quiet", False), verbose=before.get("verbose", False))
    return wanted


class Group(_Shared, TyperGroup):
    """A group of commands. It prints its help if no command is named, and its commands take --quiet and --verbose."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before the command.

        Raises:
            typer.Exit: no command is named; the help has been printed to stderr.
        """
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is named, which takes --quiet and --verbose too."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, TyperCommand):
            own = {option for one in command.params for option in one.opts}
            for option in sorted({"--quiet", "--verbose"} - own):
                command.params.append(
                    TyperOption(
                        param_decls=[option], is_flag=True, hidden=True, expose_value=False, callback=apply_verbosity
                    )
                )
        return name, command, rest


class LazyGroup(Group):
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
    "stats": "Count clients, activations, logins, mails, bounces and runs.",
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


@app.callback(
    epilog=(
        "egec client create jeanne@example.org --last-name Dupont --activate\n"
        "egec client show jeanne@example.org\n"
        "egec reissue start spring-2026 --all --dry-run"
    )
)
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
