"""The options that select clients for a bulk command or a list, declared once."""

import inspect
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

import typer

from egec_cli.clients.lists import SortField
from egec_cli.clients.name_files import ClientList
from egec_cli.clients.records import ClientStatus
from egec_cli.clients.select import Selected, Selection
from egec_cli.commands.options import OUTPUT, SELECTION
from egec_cli.commands.session import standard_input
from egec_cli.errors import UsageError
from egec_cli.output.formats import OutputFormat, is_at_terminal
from egec_cli.output.messages import note, warn
from egec_cli.translation import Words

Row = TypeVar("Row")
ColumnOption = Annotated[
    str,
    typer.Option(
        "--column",
        metavar="NAME",
        help="Read the files as CSV; this column identifies the clients.",
        rich_help_panel=SELECTION,
    ),
]
SearchOption = Annotated[
    str,
    typer.Option(
        "--search",
        metavar="TEXT",
        help="Part of e-mail, names, reference or identifier, in any case.",
        rich_help_panel=SELECTION,
    ),
]
SortOption = Annotated[
    str,
    typer.Option(
        "--sort", metavar="FIELD", help=f"{', '.join(SortField)}; -FIELD for descending order.", rich_help_panel=OUTPUT
    ),
]


class Selectors(NamedTuple):
    """The selector options. All given ones must hold for a client to be selected."""

    everyone: Annotated[
        bool,
        typer.Option(
            "--all", help="All clients; a run leaves out disabled and inactive ones.", rich_help_panel=SELECTION
        ),
    ] = False
    status: Annotated[
        ClientStatus | None, typer.Option("--status", help="Only clients with this status.", rich_help_panel=SELECTION)
    ] = None
    never_logged_in: Annotated[
        bool,
        typer.Option("--never-logged-in", help="Only clients who have never logged in.", rich_help_panel=SELECTION),
    ] = False
    last_login_before: Annotated[
        str,
        typer.Option(
            "--last-login-before",
            metavar="DATE|AGE",
            help="Only clients whose last login is older; not those who have never logged in: 2026-01-31, 90d, 6w, 12m,"
            " 2y.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    created_before: Annotated[
        str,
        typer.Option(
            "--created-before",
            metavar="DATE|AGE",
            help="Only clients created before that day or moment: 2026-01-31 or 2y.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    created_after: Annotated[
        str,
        typer.Option(
            "--created-after",
            metavar="DATE|AGE",
            help="Only clients created on that day, at that moment or later: 2026-01-31 or 6w.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    email_domain: Annotated[
        str,
        typer.Option(
            "--email-domain",
            metavar="DOMAIN",
            help="Only clients with an e-mail at exactly this domain, such as example.org.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    issued_before: Annotated[
        str,
        typer.Option(
            "--issued-before",
            metavar="DATE|AGE",
            help="Only clients whose password is older: 2026-01-31 or 90d.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    last_mail_failed: Annotated[
        bool,
        typer.Option(
            "--last-mail-failed", help="Only clients whose last mail was refused or bounced.", rich_help_panel=SELECTION
        ),
    ] = False
    weak_hash: Annotated[
        bool,
        typer.Option(
            "--weak-hash",
            help="Only clients whose password hash costs less than EGEC_BCRYPT_COST.",
            rich_help_panel=SELECTION,
        ),
    ] = False
    from_file: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FILE|-",
            help="Only clients in this list: e-mail, identifier or reference.",
            rich_help_panel=SELECTION,
        ),
    ] = ""
    exclude: Annotated[
        str, typer.Option("--exclude", metavar="FILE|-", help="No clients in this list.", rich_help_panel=SELECTION)
    ] = ""
    column: ColumnOption = ""
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=0, help="Maximum number of clients.", rich_help_panel=SELECTION),
    ] = None


def with_selectors(command: Callable[..., None]) -> Callable[..., None]:
    """Declare the fields of `Selectors` as options of a command, in the place of its parameter `selectors`.

    Typer takes options from a function's signature alone.
    """
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for (name, annotation), default in zip(
            get_type_hints(Selectors, include_extras=True).items(), Selectors._field_defaults.values(), strict=True
        )
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        selectors = Selectors(**{name: given.pop(name) for name in Selectors._fields})
        command(selectors=selectors, **given)

    parameters = []
    for one in inspect.signature(command, eval_str=True).parameters.values():
        parameters += options if one.name == "selectors" else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


@contextmanager
def open_selection(selectors: Selectors) -> Iterator[Selection]:
    """Open the files that the selectors name, for the block, and return the selection.

    Raises:
        UsageError: the options do not go together.
        InvalidInput: standard input is closed.
    """
    if selectors.from_file == selectors.exclude == "-":
        raise UsageError("standard input can be read only once", "Give a file for --from or for --exclude.")
    if selectors.column and not (selectors.from_file or selectors.exclude):
        raise UsageError("--column needs --from or --exclude", "Give one of them too.")
    shared = {name: value for name, value in selectors._asdict().items() if name in Selection._fields}
    with ExitStack() as files:
        listed, excluded = (
            _open_list(name, selectors.column, files) if name else None
            for name in (selectors.from_file, selectors.exclude)
        )
        yield Selection(listed=listed, excluded=excluded, **shared)


def _open_list(name: str, column: str, files: ExitStack) -> ClientList:
    if name != "-":
        return ClientList(name, files.enter_context(open(name, "rb")), column)
    stream = standard_input(Words("Pass the list on standard input, or name a file."))
    return ClientList(Words("standard input"), stream, column)


def note_if_none(records: Iterator[Row], output: str, *, is_selected: bool) -> Iterator[Row]:
    """Yield the records of a list; of an empty list, tell a person at a terminal whose output does not show it.

    Args:
        is_selected: whether clients were selected or searched.
    """
    is_said = output == OutputFormat.TABLE and is_at_terminal()
    try:
        for first in records:
            yield first
            yield from records
            return
    finally:
        # If the output fails at the first record, release its source before the database is closed.
        if isinstance(records, Generator):
            records.close()
    if sys.stderr.isatty() and not is_said:
        note("egec: no client matches" if is_selected else "egec: there are no clients")


def report_unmatched(selected: Selected) -> int:
    """Report each line of the files that matches no client, and return their number."""
    number = 0
    for stranger in selected.unmatched():
        number += 1
        values = {"file": stranger.file, "line": stranger.line, "value": stranger.value}
        if stranger.is_shared:
            warn("egec: {file}:{line}: several clients have the e-mail {value}; name each by its identifier", **values)
        else:
            warn("egec: {file}:{line}: unknown client {value!r}", **values)
    return number
