"""What `egec client update`, `disable`, `enable`, `unblock` and `erase` do; no other command loads it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import typer

from egec_cli.clients import change
from egec_cli.clients.change import ChangeOutcome, ChangeRecord
from egec_cli.clients.fields import CIVILITIES
from egec_cli.clients.records import find_client, load_record
from egec_cli.commands import client_selectors, options
from egec_cli.commands import options as consent
from egec_cli.commands.client_selectors import Named
from egec_cli.commands.options import ClientArgument, OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened
from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.errors import ExitCode, PermissionDenied, UsageError
from egec_cli.output.formats import OutputFormat, is_hidden, render, render_all
from egec_cli.output.messages import note, warn
from egec_cli.settings.schema import MaildirFolder
from egec_cli.store.models import Client
from egec_cli.translation import Words

_Act = Callable[[Context, Sequence[int]], dict[int, ChangeRecord]]


def update(client: str, given: dict[str, str], output: OutputFormat, *, no_mail: bool) -> None:
    """Change fields of a client's file, show it, and tell a former address of it by mail, unless that is not wanted."""
    with opened() as context:
        if "email" in given and not no_mail:
            mail_route.require(context)
        changed, former_email = change.update_client(context, find_client(client), given)
        render(load_record(changed, context.clock()), output)
        if former_email and not no_mail:
            _tell_former_address(context, changed, former_email, output)


def _tell_former_address(context: Context, client: Client, former_email: str, output: OutputFormat) -> None:
    # Imported here: no other change loads what mails.
    from egec_cli.clients import change
    from egec_cli.mail.transports import choose

    if not change.is_notice_due(client):
        return
    notice = change.send_notice(context, client, former_email, partial(choose.open_transport, context.settings))
    if notice.error is not None:
        warn(
            "egec: the file was changed, but no note may have reached {former_email}: {message}",
            former_email=former_email,
            message=notice.error.message,
        )
        warn("      Tell the client of the change by another way.")
        raise typer.Exit(ExitCode.PARTLY_DONE)
    if isinstance(context.settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the note was laid down in {server_reply}",
            server_reply=notice.server_reply,
        )
    elif output is OutputFormat.TABLE:
        note("egec: {former_email} was told of the change by mail", former_email=former_email)


def disable(named: Named, reason: str, output: OutputFormat) -> None:
    """Disable clients."""
    _change(partial(change.disable_clients, reason=reason), named, output)


def enable(named: Named, output: OutputFormat) -> None:
    """Enable clients."""
    _change(change.enable_clients, named, output)


def unblock(named: Named, output: OutputFormat) -> None:
    """Unblock clients."""
    _change(change.unblock_clients, named, output)


def erase(named: Named, output: OutputFormat, *, yes: bool) -> None:
    """Erase clients, unless the operator does not want it when asked."""
    whom = (
        Words("client {client}", client=named.client)
        if named.client
        else Words("all clients whom {from_file} names", from_file=named.from_file)
    )
    if not (yes or options.is_given(Words("Erase the data of {whom}? Nothing brings it back.", whom=whom))):
        note("egec: nothing was erased")
        raise typer.Exit(ExitCode.REFUSED)
    _change(change.erase_clients, named, output, afterwards=change.require_no_trace)


def _nothing_more(_context: Context, _identifier: str | None) -> None:
    """Do nothing after a change."""


def _change(
    act: _Act, named: Named, output: OutputFormat, *, afterwards: Callable[[Context, str | None], None] = _nothing_more
) -> None:
    """Do something to the clients who are named, show what became of each, and end with the exit code that fits.

    Args:
        act: does it to the clients of some keys.
        named: which clients.
        output: how to show them.
        afterwards: what is done once at the end, also where nothing was left to change: an earlier command may have
            been cut short there. It is called with the identifier of one of the clients, if there is one.
    """
    selection = client_selectors.selection(from_file=named.from_file, exclude="", column=named.column)
    with selection as wanted, opened() as context:
        if wanted.listed is None:
            found = find_client(named.client)
            record = act(context, [found.id])[found.id]
            if record.outcome is ChangeOutcome.FAILED:
                raise change.record_to_error(record)
            render(record, output)
            afterwards(context, record.identifier)
            return
        told = _Told()
        render_all(
            told.counted(change.change_each(context, wanted.listed, partial(act, context)), output),
            ChangeRecord,
            output,
            flush=True,
        )
        tell = warn if told.numbers[ChangeOutcome.FAILED] else note
        summary = ", ".join(f"{number} {outcome}" for outcome, number in told.numbers.items())
        tell("egec: {told}", told=summary or Words("nobody is named"))
        afterwards(context, told.identifier)
    if told.numbers[ChangeOutcome.FAILED]:
        raise typer.Exit(ExitCode.PARTLY_DONE)


class _Told:
    """What a list of changes has come to."""

    def __init__(self) -> None:
        self.numbers = Counter[ChangeOutcome]()
        # One client whose change did not fail.
        self.identifier: str | None = None

    def counted(self, records: Iterator[ChangeRecord], output: OutputFormat) -> Iterator[ChangeRecord]:
        """Pass the records on."""
        for record in records:
            yield record
            self.numbers[record.outcome] += 1
            if record.outcome is not ChangeOutcome.FAILED:
                self.identifier = record.identifier
            elif is_hidden(output):
                warn("egec: line {line}: {details}", line=record.line, details=record.details)


app = new_app()

OneClientArgument = Annotated[
    str, typer.Argument(metavar="[CLIENT]", help="E-mail, identifier or ref:REFERENCE; or give --from.")
]
FromOption = Annotated[
    str, typer.Option("--from", metavar="FILE|-", help="All who are named there: e-mail, identifier or reference.")
]


@app.command("update", epilog="Example: egec client update 5079512743 --email marc.petit@example.org")
def update_command(
    client: ClientArgument,
    email: Annotated[str | None, typer.Option("--email", help="The new registered e-mail.")] = None,
    civility: Annotated[str | None, typer.Option("--civility", help=f"One of {' '.join(CIVILITIES)}.")] = None,
    first_name: Annotated[str | None, typer.Option("--first-name", help="The first name.")] = None,
    last_name: Annotated[str | None, typer.Option("--last-name", help="The last name, or that of the firm.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="The number of the file elsewhere.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="fr or en.")] = None,
    no_mail: Annotated[
        bool, typer.Option("--no-mail", help="With --email: do not tell the former address of the change.")
    ] = False,
    identifier: Annotated[str | None, typer.Option("--identifier", hidden=True)] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Change fields of a client's file; an empty value clears one. The identifier never changes.

    With a new e-mail, the former address of an activated client gets a note, without any password; if that fails, the
    file is changed all the same, and the exit code is 3.
    """
    if identifier is not None:
        raise PermissionDenied(
            "the identifier of a client never changes",
            "Leave --identifier out; for another person, make another file by `egec client create`.",
            code="identifier_fixed",
        )
    options = {
        "email": email,
        "civility": civility,
        "first_name": first_name,
        "last_name": last_name,
        "reference": reference,
        "language": language,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise UsageError("nothing is to be changed", "Give --email, --last-name or another field.")
    update(client, given, output, no_mail=no_mail)


@app.command("disable", epilog="Example: egec client disable 5079512743 --reason 'contract ended'")
def disable_command(
    reason: Annotated[str, typer.Option("--reason", help="Why; `egec client show` tells it.")],
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: client_selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let no password open a client's account, or those of many, until they are enabled."""
    disable(_named(client, from_file, column), reason, output)


@app.command("enable", epilog="Example: egec client enable 5079512743")
def enable_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: client_selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a client who was disabled, or many, log in as before."""
    enable(_named(client, from_file, column), output)


@app.command("unblock", epilog="Example: egec client unblock 5079512743")
def unblock_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: client_selectors.ColumnOption = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a client who is blocked or waits after failed logins, or many, try again at once."""
    unblock(_named(client, from_file, column), output)


@app.command("erase", epilog="Example: egec client erase 5079512743 --yes")
def erase_command(
    client: OneClientArgument = "",
    from_file: FromOption = "",
    column: client_selectors.ColumnOption = "",
    yes: consent.YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Erase a client's personal data for good, or that of many; the identifiers stay reserved for ever."""
    named = _named(client, from_file, column)
    if not yes and (from_file == "-" or not consent.can_be_asked()):
        raise UsageError("there is no terminal to ask whether to erase for good", "Add --yes; nothing was erased.")
    erase(named, output, yes=yes)


def _named(client: str, from_file: str, column: str) -> client_selectors.Named:
    """Return which clients a command is about.

    Raises:
        Usage: neither one client nor a file is named, or both are.
    """
    if bool(client) == bool(from_file):
        raise UsageError("it is to be said which clients are meant", "Give one CLIENT, or --from FILE.")
    return client_selectors.Named(client, from_file, column)
