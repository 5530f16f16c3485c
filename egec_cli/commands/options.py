"""The arguments and options that several commands share."""

from typing import Annotated

import typer

from egec_cli.errors import Usage
from egec_cli.show import OutputFormat

ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="E-mail, identifier or ref:REFERENCE.")]
OutputOption = Annotated[OutputFormat, typer.Option("--format", help="How to show the result.")]
FieldsOption = Annotated[str, typer.Option("--fields", help="Which fields to show, such as identifier,email.")]
# The fields of a client's file that a table shows where none are chosen.
CLIENT_IN_TABLE = ("identifier", "email", "civility", "last_name", "first_name", "status")


def names(fields: str) -> list[str]:
    """Return the names of a list such as `identifier,email`.

    Raises:
        Usage: a name is empty.
    """
    if not fields:
        return []
    found = [name.strip() for name in fields.split(",")]
    if "" in found:
        raise Usage("--fields {fields!r} has an empty name", "Write it as in --fields identifier,email.", fields=fields)
    return found
