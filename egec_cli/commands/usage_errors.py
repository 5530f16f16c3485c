"""What is wrong with a command line, as Typer tells it, in words that can be translated.

Typer has its messages in English only, with the values in them: they are recognised by their forms. One of another form
is told as it is.
"""

import re

from egec_cli.translation import Words

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
# The options of `egec` itself that people also type after a command, and how they are written.
_BEFORE_THE_COMMAND = {"--quiet": "--quiet", "--verbose": "--verbose", "--env-file": "--env-file FILE"}
_KINDS: dict[str, str] = {kind: kind for kind in (Words("int"), Words("int range"))}


def in_words(message: str) -> Words:
    """Return a message of Typer's as words that can be translated, in one line."""
    message = re.sub(r"\s*\n\s*", " ", message.strip())
    for form in _FORMS:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*)", re.escape(form))
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return Words(form.template, **{name: _value(name, text) for name, text in found.groupdict().items()})
    return Words(message)


def hint(message: str, path: str) -> Words:
    """Return what to type after a message of Typer's.

    Args:
        message: the message.
        path: the command as it was typed, such as `egec client list`.
    """
    found = re.match(r"No such option: (--[\w-]+)", message)
    if found and found[1] in _BEFORE_THE_COMMAND and path != "egec":
        return Words(
            "{option} goes before the command: {example}",
            option=found[1],
            example=f"egec {_BEFORE_THE_COMMAND[found[1]]} {path.removeprefix('egec ')}",
        )
    return Words("Type `{path} --help`.", path=path)


def _value(name: str, text: str) -> str:
    return in_words(text) if name == "what" else _KINDS.get(text, text) if name == "kind" else text
