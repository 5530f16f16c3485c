"""The arguments and options that several commands share."""

import sys
from typing import Annotated

import typer

from egec_cli.errors import UsageError
from egec_cli.output.formats import OutputFormat
from egec_cli.translation import Words, translate

ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="E-mail, identifier or ref:REFERENCE.")]
OutputOption = Annotated[OutputFormat, typer.Option("--format", help="How to show the result.")]
FieldsOption = Annotated[str, typer.Option("--fields", help="Which fields to show, such as identifier,email.")]
# The fields of a client's file that a table shows where none are chosen.
CLIENT_IN_TABLE = ("identifier", "email", "civility", "last_name", "first_name", "status")


def names(fields: str) -> list[str]:
    """Return the names of a list such as `identifier,email`.

    Raises:
        UsageError: a name is empty.
    """
    if not fields:
        return []
    found = [name.strip() for name in fields.split(",")]
    if "" in found:
        raise UsageError(
            "--fields {fields!r} has an empty name", "Write it as in --fields identifier,email.", fields=fields
        )
    return found


YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")]


def can_be_asked() -> bool:
    """Tell whether there is a terminal to ask at."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def is_given(question: Words) -> bool:
    """Ask the operator, in the language of both; any answer but yes is no."""
    prompt = f"{translate(question)} {translate(Words('[y/N]'))}"
    answer: str = typer.prompt(prompt, default="", show_default=False, err=True)
    return answer.strip().lower() in {"y", "yes", translate(Words("y")), translate(Words("yes"))}
