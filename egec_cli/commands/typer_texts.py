"""Translation of Typer's help and messages into the operator's language."""

import re
from typing import Any

import typer

from egec_cli.translation import Words, add_french_spaces, translate

# Placeholders for option values without a metavar, by type.
_VALUES = {"str": Words("<str>"), "int": Words("<int>"), "int range": Words("<int range>")}


class _Formatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]
    """Writes help, and translates the words that Typer adds."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, translate(Words("Usage: ") if prefix is None else prefix))

    def write_heading(self, heading: str) -> None:
        # A colon follows, which has a space before it in French.
        super().write_heading(translate(Words("{heading}:", heading=heading)).removesuffix(":"))

    def write_dl(self, rows: Any, *arguments: Any, **options: Any) -> None:
        super().write_dl([(name, _translate_row(text)) for name, text in rows], *arguments, **options)


class _Context(typer.Context):
    formatter_class = _Formatter


def translate_help(command: Any) -> None:
    """Translate the help of a command, and of those below it that are loaded."""
    command.context_class = _Context
    for name in ("help", "short_help", "options_metavar", "subcommand_metavar"):
        if text := getattr(command, name, None):
            setattr(command, name, _translate(text))
    for parameter in command.params:
        parameter.help = _translate(parameter.help)
        parameter.metavar = _translate(parameter.metavar or _VALUES.get(parameter.type.name))
    for member in getattr(command, "commands", {}).values():
        translate_help(member)


def _translate(text: str | None) -> str | None:
    # The catalogue contains these texts with their values filled in.
    return translate(Words(text)) if text else text


def _translate_row(text: str) -> str:
    # Typer joins what it adds, such as the default and the range, with a semicolon.
    return add_french_spaces(_translate(text) or "")


_FORMS = (
    Words("No such option: {option} (Possible options: {options})"),
    Words("No such option: {option}"),
    Words("{what}. Did you mean {meant}?"),
    Words("Missing argument {name}. Choose from:{choices}"),
    Words("Missing argument {name}."),
    Words("Missing option {name}. Choose from:{choices}"),
    Words("Missing option {name}."),
    Words("Got unexpected extra argument(s) ({arguments})"),
    Words("Option {name} does not take a value."),
    Words("Option {name} requires an argument."),
    Words("Invalid value for {name}: {what}"),
    Words("{value} is not one of {choices}."),
    Words("{value} is not in the range {range}."),
    Words("{value} is not a valid {kind}."),
)
_KINDS: dict[str, str] = {kind: kind for kind in (Words("int"), Words("int range"))}


def parse_message(message: str) -> Words:
    """Return a message of Typer as translatable words in one line."""
    message = re.sub(r"\s*\n\s*", " ", message.strip())
    for form in _FORMS:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*)", re.escape(form))
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return Words(form.template, **{name: _parse_value(name, text) for name, text in found.groupdict().items()})
    return Words(message)


def make_hint(message: str, path: str) -> Words:
    """Return what to type after a message of Typer, for a command such as `egec client list`."""
    if message.startswith("No such option: --env-file") and path != "egec":
        example = f"egec --env-file FILE {path.removeprefix('egec ')}"
        return Words("--env-file goes before the command: {example}", example=example)
    return Words("Type `{path} --help`.", path=path)


def _parse_value(name: str, text: str) -> str:
    return parse_message(text) if name == "what" else _KINDS.get(text, text) if name == "kind" else text
