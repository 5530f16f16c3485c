"""`egec mail bounces`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from egec_cli.commands.options import FieldsOption, OutputOption, names
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.credentials import bounces
from egec_cli.credentials.bounces import NOT_UNDERSTOOD, BounceOutcome, BounceRecord
from egec_cli.errors import ExitCode, InvalidInput, UsageError
from egec_cli.files import standard_input
from egec_cli.mail.bounces import Incoming, read_file, read_maildir, read_stream
from egec_cli.output.formats import OutputFormat, render_all
from egec_cli.output.messages import warn
from egec_cli.translation import Words

app = new_app()

_IN_TABLE = ("identifier", "outcome", "address", "status", "reason")


@app.command("bounces", epilog="Example: egec mail bounces /var/mail/bounces --format jsonl")
def bounces_command(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|MAILDIR|-", help="A message, an mbox, a Maildir; - for a message piped in."),
    ],
    move: Annotated[
        bool, typer.Option("--move", help="Read what is new in the Maildir alone, and move it to cur when it is read.")
    ] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Read delivery reports, and mark the mails and the addresses from which mails came back.

    Passwords stay as they are. A message piped in ends with 0 whatever it is, so that no mail server returns it.
    """
    is_piped = source == "-"
    if move and not Path(source).is_dir():
        raise UsageError("--move is about a Maildir", "Name its folder, or leave --move out.")
    outcomes: Counter[BounceOutcome] = Counter()
    with opened() as context:
        records = bounces.process_messages(context, _messages(source, move=move))
        render_all(_counted(records, outcomes), BounceRecord, output, names(fields), in_table=_IN_TABLE)
    if is_piped:
        return
    if not outcomes and not Path(source).is_dir():
        raise InvalidInput("{source} holds no message", "Name a message, an mbox or a Maildir.", source=source)
    if any(outcomes[one] for one in NOT_UNDERSTOOD):
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _messages(source: str, *, move: bool) -> Iterator[Incoming]:
    if source != "-":
        path = Path(source)
        return read_maildir(path, move=move) if path.is_dir() else read_file(path)
    stream = standard_input(Words("Pass the message on standard input, or name a file."))
    return read_stream(Words("standard input"), stream)


def _counted(records: Iterable[BounceRecord], outcomes: Counter[BounceOutcome]) -> Iterator[BounceRecord]:
    for record in records:
        outcomes[record.outcome] += 1
        if record.outcome in NOT_UNDERSTOOD:
            warn(
                "egec: {file}:{line}: {outcome}: {reason}",
                file=record.file,
                line=record.line,
                outcome=record.outcome,
                reason=record.reason,
            )
        yield record
