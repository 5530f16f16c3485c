"""All commands with their options, as the program declares them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from typer.core import TyperGroup
from typer.main import get_command

from egec_cli.commands import root
from egec_cli.commands.root import LazyGroup
from egec_cli.output.formats import OutputFormat


class Parameter(NamedTuple):
    """An option or an argument.

    Attributes:
        names: of an option, such as `--format`; empty for an argument.
        value: the value of an option, in capitals or as `a|b`, empty for a switch; the name of an argument.
        help: its help text.
        default: the default value, or empty.
        is_required: whether it is mandatory.
    """

    names: tuple[str, ...]
    value: str
    help: str
    default: str
    is_required: bool

    @property
    def typed(self) -> str:
        """How to type it: `--status new|active`, `CLIENT`."""
        return " ".join([*self.names[:1], *([self.value] if self.value else [])])


class Described(NamedTuple):
    """A command, or the root.

    Attributes:
        path: the words after `egec`; empty for the root.
        declared_help: its help as declared, which the catalogue translates.
        help: its paragraphs.
        arguments, options: its parameters.
        example: a whole line.
    """

    path: str
    declared_help: str
    help: list[str]
    arguments: list[Parameter]
    options: list[Parameter]
    example: str

    @property
    def with_arguments(self) -> str:
        """The command and its arguments: `egec client show CLIENT`."""
        return " ".join(["egec", self.path, *(one.value for one in self.arguments)])


def describe_root() -> Described:
    """Return the root command."""
    return _described("", get_command(root.app))


def commands() -> Iterator[Described]:
    """Yield every command, in the order of the help."""
    yield from _below(get_command(root.app), "")


def _below(group: Any, path: str) -> Iterator[Described]:
    for name, stand_in in group.commands.items():
        command = group.load_command(name) if isinstance(group, LazyGroup) else stand_in
        inner = f"{path} {name}".strip()
        yield from _below(command, inner) if isinstance(command, TyperGroup) else [_described(inner, command)]


def _described(path: str, command: Any) -> Described:
    shown = [one for one in command.params if not one.hidden]
    example = (command.epilog or "").partition("\n")[0]
    return Described(
        path,
        command.help or "",
        [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")],
        [_argument(one) for one in shown if one.param_type_name == "argument"],
        [_option(one) for one in shown if one.param_type_name == "option"],
        example,
    )


def _argument(parameter: Any) -> Parameter:
    return Parameter((), parameter.metavar, parameter.help or "", "", parameter.required)


def _option(parameter: Any) -> Parameter:
    default = "" if parameter.is_flag or parameter.default in (None, "") else str(parameter.default)
    return Parameter(tuple(parameter.opts), _value(parameter), parameter.help or "", default, parameter.required)


def _value(option: Any) -> str:
    if option.is_flag or option.metavar:
        return option.metavar or ""
    choices = getattr(option.type, "choices", None)
    if choices is not None:
        return "FORMAT" if set(choices) == set(OutputFormat) else "|".join(map(str, choices))
    return "N" if "int" in option.type.name else str(option.opts[0].lstrip("-").rpartition("-")[2].upper())
