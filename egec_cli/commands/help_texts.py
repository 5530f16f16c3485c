"""The help of commands in the operator's language; loaded for other languages than English alone."""

from typing import Any

import typer

from egec_cli.translation import Words, translated

_EXAMPLE = "Example: "
# What stands for the value of an option that names none itself, by the type.
_VALUES = {"str": Words("<str>"), "int": Words("<int>"), "int range": Words("<int range>")}


class _Formatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]
    """Writes help, with the words that Typer puts into it itself translated."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, translated(Words("Usage: ") if prefix is None else prefix))

    def write_heading(self, heading: str) -> None:
        # A colon follows, which has a space before it in French.
        super().write_heading(translated(Words("{heading}:", heading=heading)).removesuffix(":"))

    def write_dl(self, rows: Any, *arguments: Any, **options: Any) -> None:
        super().write_dl([(name, _in_words(text)) for name, text in rows], *arguments, **options)


class _Context(typer.Context):
    formatter_class = _Formatter


def translate(command: Any) -> None:
    """Put the help of a command, and of those below it that are loaded, into the operator's language."""
    command.context_class = _Context
    for name in ("help", "short_help", "options_metavar", "subcommand_metavar"):
        if text := getattr(command, name, None):
            setattr(command, name, _in_words(text))
    if command.epilog:
        command.epilog = translated(Words("Example: {command}", command=command.epilog.removeprefix(_EXAMPLE)))
    for parameter in command.params:
        parameter.help = _in_words(parameter.help)
        parameter.metavar = _in_words(parameter.metavar or _VALUES.get(parameter.type.name))
    for member in getattr(command, "commands", {}).values():
        translate(member)


def _in_words(text: str | None) -> str | None:
    # Texts that were filled in are in the catalogue as they are.
    return translated(Words(text)) if text else text
