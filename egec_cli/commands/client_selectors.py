"""The options that select clients for a bulk command, written once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, BinaryIO, NamedTuple

import typer

from egec_cli.clients.lists import SortField
from egec_cli.clients.named import ClientList
from egec_cli.clients.records import ClientStatus
from egec_cli.clients.select import Selection
from egec_cli.errors import UsageError
from egec_cli.files import standard_input
from egec_cli.translation import Words

AllOption = Annotated[bool, typer.Option("--all", help="Every client who is not disabled.")]
StatusOption = Annotated[ClientStatus | None, typer.Option("--status", help="Only clients of this status.")]
NeverLoggedInOption = Annotated[bool, typer.Option("--never-logged-in", help="Only who never logged in.")]
IssuedBeforeOption = Annotated[
    str, typer.Option("--issued-before", metavar="DATE|AGE", help="Password in use older: 2026-01-31 or 90d.")
]
LastMailFailedOption = Annotated[
    bool, typer.Option("--last-mail-failed", help="Only whose last mail was refused, or came back.")
]
WeakHashOption = Annotated[
    bool, typer.Option("--weak-hash", help="Only whose password in use has a hash of a cost below EGEC_BCRYPT_COST.")
]
FromOption = Annotated[
    str, typer.Option("--from", metavar="FILE|-", help="Only who is named there: e-mail, identifier or reference.")
]
ExcludeOption = Annotated[str, typer.Option("--exclude", metavar="FILE|-", help="Nobody who is named there.")]
ColumnOption = Annotated[str, typer.Option("--column", help="The files are CSV; this column names the clients.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]

# Those of lists, which take all of the above too.
EveryoneOption = Annotated[bool, typer.Option("--all", help="Every client, which is so without selectors too.")]
SearchOption = Annotated[
    str,
    typer.Option("--search", metavar="TEXT", help="Part of e-mail, names, reference or identifier, in any case."),
]
SortOption = Annotated[
    str, typer.Option("--sort", metavar="FIELD", help=f"{', '.join(SortField)}; -FIELD for the descending order.")
]


class Named(NamedTuple):
    """Whom a command is about: one client, or those whom a file names, in one of its columns or one on each line."""

    client: str
    from_file: str
    column: str


@contextmanager
def selection(*, from_file: str, exclude: str, column: str, **selectors: Any) -> Iterator[Selection]:
    """Open the files of the options, for the block, and return the selection that all the options make.

    Raises:
        UsageError: the options do not go together.
        InvalidInput: standard input is closed.
    """
    if from_file == exclude == "-":
        raise UsageError("standard input can be read once only", "Give a file for --from or for --exclude.")
    if column and not (from_file or exclude):
        raise UsageError("--column is about the file of --from or --exclude", "Give one of them too.")
    with ExitStack() as files:
        listed, excluded = (
            ClientList(Words("standard input") if name == "-" else name, _opened(name, files), column) if name else None
            for name in (from_file, exclude)
        )
        yield Selection(listed=listed, excluded=excluded, **selectors)


def _opened(name: str, files: ExitStack) -> BinaryIO:
    if name != "-":
        return files.enter_context(open(name, "rb"))
    return standard_input(Words("Pass the list on standard input, or name a file."))
