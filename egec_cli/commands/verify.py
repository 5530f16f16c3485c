"""The command line of `egec verify`; `verify_fast` does the work."""

import sys
from functools import partial
from typing import Annotated

import typer

from egec_cli.clients.records import AmbiguousClient
from egec_cli.commands import verify_fast
from egec_cli.commands.find import MatchOption, is_typed, show_named
from egec_cli.commands.find import find as find_named
from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.verify_fast import Source
from egec_cli.errors import ClientNotFound, UsageError
from egec_cli.identifier import is_identifier
from egec_cli.logins.verify import trim
from egec_cli.output.formats import OutputFormat, require_record_format

app = new_app()


@app.command(
    "verify",
    epilog=(
        "egec verify 1234567890\n"
        "egec verify jeanne@example.org --explain --no-count\n"
        "egec verify 1234567890 --password-stdin < password.txt\n"
        "egec verify --batch logins.jsonl --format jsonl"
    ),
)
def verify_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLIENT]",
            help="The identifier; with --explain or at a terminal, a client as in `egec client show`.",
            show_default=False,
        ),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="Read lines of standard input: the identifier, the password and, if known, the client's IP address.",
        ),
    ] = False,
    pam: Annotated[
        bool,
        typer.Option("--pam", help="For pam_exec: read PAM_USER and PAM_RHOST, and the password from standard input."),
    ] = False,
    checkpassword: Annotated[
        bool, typer.Option("--checkpassword", help="As checkpassword: read descriptor 3, then run the given program.")
    ] = False,
    batch: Annotated[str, typer.Option("--batch", metavar="FILE|-", help="Check all logins in a list.")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain why a login fails; for the help desk only.")
    ] = False,
    no_count: Annotated[
        bool,
        typer.Option("--no-count", help="With --explain: record a test, not a login; use up none of the attempts."),
    ] = False,
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check an identifier and a password: exit code 0 if accepted, 1 if refused.

    Without an option for standard input, the password is asked for and not echoed.
    """
    words = words or []
    if not batch:
        require_record_format(output)
    _require_one_source(words, password_stdin, stdin, pam, checkpassword, batch)
    if explain and (checkpassword or batch):
        raise UsageError("--explain works for a single login", "Omit it, or give one login.")
    if no_count and not explain:
        raise UsageError("--no-count works only with --explain", "Add --explain, or omit --no-count.")
    if checkpassword:
        code = verify_fast.run_checkpassword(words)
    elif batch:
        code = verify_fast.verify_batch(batch, output)
    else:
        source = Source.LINES if stdin else Source.PAM if pam else Source.LINE if password_stdin else Source.TERMINAL
        find = partial(_find_identifier, match=match, output=output) if explain or source is Source.TERMINAL else None
        code = verify_fast.verify(
            source, words[0] if words else "", explain=explain, count=not no_count, output=output, find=find
        )
    if code:
        raise typer.Exit(code)


def _find_identifier(typed: str, *, match: bool, output: OutputFormat) -> str:
    """Return the identifier of the client that an operator names; the text itself for an unknown client.

    Raises:
        ClientNotFound: several clients match.
    """
    trimmed = trim(typed)
    if is_identifier(trimmed):
        return trimmed
    try:
        found = find_named(trimmed, by_part=match or is_typed(), output=output)
    except AmbiguousClient:
        raise
    except ClientNotFound:
        return typed
    if found.by_part:
        show_named(found.client)
    return found.client.identifier


def _require_one_source(
    words: list[str], password_stdin: bool, stdin: bool, pam: bool, checkpassword: bool, batch: str
) -> None:
    if sum([password_stdin, stdin, pam, checkpassword, bool(batch)]) > 1:
        raise UsageError("conflicting options for the source of the login", "Give only one of them.")
    if checkpassword:
        if not words:
            raise UsageError("--checkpassword needs a program to run", "Name the program after --checkpassword.")
        return
    if len(words) > 1:
        raise UsageError("the client is the only argument", "Type the password when asked, or use --password-stdin.")
    if words and (stdin or pam or batch):
        raise UsageError("the client is given twice", "Give it once: as an argument, or by an option.")
    if not (words or stdin or pam or batch):
        raise UsageError("the client is missing", "Type `egec verify CLIENT`, or use --stdin.")
    if words and not (password_stdin or (sys.stdin is not None and sys.stdin.isatty())):
        raise UsageError("asking for the password needs a terminal", "Use --password-stdin.")
