"""The arguments, options and questions that several commands share."""

import sys
from typing import Annotated

import typer

from egec_cli.errors import AT_A_PROMPT, UsageError
from egec_cli.output.formats import OutputFormat, require_record_format
from egec_cli.output.messages import note
from egec_cli.translation import Words, count_words, format_number, translate

# The subjects under which the help of a command shows its options.
SELECTION, OUTPUT = Words("Selection"), Words("Output")

CLIENT_HELP = "E-mail, identifier, reference, or at a terminal a unique part of a name or e-mail."
ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help=CLIENT_HELP)]
OutputOption = Annotated[OutputFormat, typer.Option("--format", help="Output format.", rich_help_panel=OUTPUT)]
# For commands that show a single result.
RecordOption = Annotated[
    OutputFormat,
    typer.Option("--format", help="Output format.", rich_help_panel=OUTPUT, callback=require_record_format),
]
FieldsOption = Annotated[
    str,
    typer.Option(
        "--fields", metavar="FIELDS", help="Fields to show, such as identifier,email.", rich_help_panel=OUTPUT
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation (required without a terminal).")]

# The fields of a client that a table shows by default.
CLIENT_IN_TABLE = ("identifier", "email", "civility", "last_name", "first_name", "status")
# Those of them that a narrow terminal leaves out.
CLIENT_OPTIONAL = ("civility", "first_name")
# The clients or events that a list shows at a terminal if --limit is not given.
ROWS_AT_TERMINAL = 30


def split_fields(fields: str) -> list[str]:
    """Return the names of a list such as `identifier,email`.

    Raises:
        UsageError: a name is empty.
    """
    if not fields:
        return []
    found = [name.strip() for name in fields.split(",")]
    if "" in found:
        raise UsageError(
            "--fields {fields!r} contains an empty name", "Write it as in --fields identifier,email.", fields=fields
        )
    return found


def show_total(total: int, limit: int | None) -> None:
    """Report below a table how many rows there are, and how to see those that a limit hides."""
    if limit is not None and limit < total:
        note("{shown} of {total}; --limit 0 for all", shown=format_number(limit), total=format_number(total))
    else:
        note("{total} in all", total=format_number(total))


def count_clients(number: int) -> Words:
    """Return a number of clients in words."""
    return count_words("0 clients", "1 client", "{number} clients", number)


def can_ask() -> bool:
    """Tell whether there is a terminal for a question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def no_terminal() -> UsageError:
    """Return the error for a question without a terminal."""
    return UsageError("confirmation needs a terminal", "Add --yes to skip it; nothing was changed.")


def confirm(question: Words) -> bool:
    """Ask the operator in the operator's language; any answer but yes, in that language or English, means no."""
    # `typer.prompt` and `input` would write the blank after the question to stdout, in front of the data.
    # Imported here: few commands ask.
    from egec_cli.output.screen import wrap_for

    prompt = f"{translate(question)} {translate(Words('[y/N]'))}:"
    sys.stderr.write("\n".join(wrap_for(sys.stderr, prompt)) + " ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt as interruption:
        interruption.args = (AT_A_PROMPT,)
        raise
    if not answer:
        raise typer.Abort
    return answer.strip().lower() in {"y", "yes", translate(Words("y")), translate(Words("yes"))}
