"""`egec mail bounces`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from egec_cli.commands.options import FieldsOption, OutputOption, split_fields
from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
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


@app.command(
    "bounces", epilog=("egec mail bounces /var/mail/bounces --move\negec mail bounces /var/mail/bounces --format jsonl")
)
def bounces_command(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|MAILDIR|-", help="Message, mbox or Maildir; - for a message on standard input."),
    ],
    move: Annotated[
        bool, typer.Option("--move", help="Read only new messages of the Maildir, and move them to cur.")
    ] = False,
    fields: FieldsOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Read delivery reports, and mark the mails and addresses that bounced.

    Passwords do not change. With a message on standard input the exit code is 0 whatever the message is, so that the
    mail server does not return it.
    """
    is_piped = source == "-"
    if move and not Path(source).is_dir():
        raise UsageError("--move needs a Maildir", "Name a Maildir, or omit --move.")
    outcomes: Counter[BounceOutcome] = Counter()
    with open_context() as context:
        records = bounces.process_messages(context, _read_messages(source, move=move))
        shown = _count_outcomes(records, outcomes)
        render_all(shown, BounceRecord, output, split_fields(fields), in_table=_IN_TABLE)
    if is_piped:
        return
    if not outcomes and not Path(source).is_dir():
        raise InvalidInput("{source} contains no message", "Name a message, an mbox or a Maildir.", source=source)
    if any(outcomes[one] for one in NOT_UNDERSTOOD):
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _read_messages(source: str, *, move: bool) -> Iterator[Incoming]:
    if source != "-":
        path = Path(source)
        return read_maildir(path, move=move) if path.is_dir() else read_file(path)
    stream = standard_input(Words("Pass the message on standard input, or name a file."))
    return read_stream(Words("standard input"), stream)


def _count_outcomes(records: Iterable[BounceRecord], outcomes: Counter[BounceOutcome]) -> Iterator[BounceRecord]:
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
