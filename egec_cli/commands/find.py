"""Find the client that an operator names, and ask before a change if only a part of the name or e-mail was typed."""

import sys
from typing import Annotated, NamedTuple

import typer

from egec_cli.clients import records
from egec_cli.commands.options import SELECTION, can_ask, confirm
from egec_cli.errors import ExitCode
from egec_cli.output.formats import OutputFormat, is_at_terminal
from egec_cli.output.messages import note, to_text
from egec_cli.output.screen import wrap_for
from egec_cli.store.models import Client
from egec_cli.translation import Words

MatchOption = Annotated[
    bool,
    typer.Option(
        "--match",
        help="Accept a unique part of a name or e-mail as CLIENT in a script too.",
        rich_help_panel=SELECTION,
    ),
]

# The columns of a list of matches.
_IN_LIST = ("identifier", "email", "reference", "civility", "last_name", "first_name")


class Found(NamedTuple):
    """A client, and whether only a part of the name or e-mail was typed."""

    client: Client
    by_part: bool


def find_client(wanted: str, *, match: bool = False, output: OutputFormat = OutputFormat.TABLE) -> Client:
    """Return the client that an operator names, for a command that changes nothing.

    Raises:
        ClientNotFound: no client or several clients match; several are listed on stderr.
    """
    return find(wanted, by_part=match or is_typed(), output=output).client


def choose_client(
    wanted: str, *, match: bool = False, exactly: bool = False, output: OutputFormat = OutputFormat.TABLE
) -> Client:
    """Return the client that an operator names, for a command that changes it.

    At a terminal, a client found by a part of the name or e-mail is shown, and the operator has to agree.

    Args:
        exactly: accept no part of a name or e-mail, unless `match` is set.

    Raises:
        ClientNotFound: no client or several clients match; several are listed on stderr.
        typer.Exit: the operator did not agree.
    """
    found = find(wanted, by_part=match or (is_typed() and not exactly), output=output)
    if found.by_part:
        show_named(found.client)
        if can_ask() and not exactly and not confirm(Words("Is this the client?")):
            note("egec: nothing was changed")
            raise typer.Exit(ExitCode.REFUSED)
    return found.client


def show_named(client: Client) -> None:
    """Show on stderr the client that the operator has named."""
    for line in wrap_for(sys.stderr, to_text(records.describe_client(client))):
        sys.stderr.write(f"{line}\n")


def is_typed() -> bool:
    """Return whether a person types the command and reads the result; scripts have to name a client exactly."""
    return can_ask() and is_at_terminal()


def find(wanted: str, *, by_part: bool, output: OutputFormat) -> Found:
    """Return the client that has this key or, with `by_part`, the only one with this part of a name or e-mail.

    Raises:
        ClientNotFound: no client or several clients match; several are listed on stderr.
    """
    try:
        if by_part and records.look_up(records.clean_key(wanted)) is None:
            client = records.find_by_part(wanted)
            if client is not None:
                return Found(client, by_part=True)
        return Found(records.find_client(wanted), by_part=False)
    except records.AmbiguousClient as error:
        list_matches(error, output)
        raise


def list_matches(error: records.AmbiguousClient, output: OutputFormat) -> None:
    """List the clients of an error on stderr; in machine formats, in its hint."""
    if output is not OutputFormat.TABLE:
        found = ", ".join(one.identifier for one in error.clients)
        error.hint = Words("Use the identifier of one of them, such as {identifiers}.", identifiers=found)
        return
    # Imported here: only this error has a table.
    from egec_cli.output.terminal import show_table_on_stderr

    rows = [[getattr(one, name) for name in _IN_LIST] for one in error.clients]
    show_table_on_stderr(rows, _IN_LIST, optional=("civility", "reference"))
