"""`egec client update`, `disable`, `enable`, `unblock` and `erase`; no other command loads this module."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import typer

from egec_cli.clients import change
from egec_cli.clients.change import ChangeOutcome, ChangeRecord
from egec_cli.clients.fields import CIVILITIES
from egec_cli.clients.records import load_record
from egec_cli.clients.search import describe_client
from egec_cli.commands.client_selectors import ColumnOption, Selectors, open_selection
from egec_cli.commands.find import MatchOption, choose_client, find_client, show_named
from egec_cli.commands.options import (
    SELECTION,
    ClientArgument,
    OutputOption,
    RecordOption,
    YesOption,
    can_ask,
    confirm,
    no_terminal,
)
from egec_cli.commands.root import new_app
from egec_cli.commands.session import note_saved_mail, open_context
from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.credentials.validity import local_moment
from egec_cli.errors import ExitCode, PermissionDenied, UsageError
from egec_cli.output.formats import OutputFormat, is_for_terminal, is_hidden, render, render_all, require_record_format
from egec_cli.output.messages import note, to_text, warn
from egec_cli.output.progress import ProgressLine
from egec_cli.store.models import Client
from egec_cli.translation import Words

app = new_app()

# What a terminal says of one client.
_OUTCOMES = {
    ChangeOutcome.DISABLED: Words("disabled"),
    ChangeOutcome.ENABLED: Words("enabled"),
    ChangeOutcome.UNBLOCKED: Words("unblocked"),
    ChangeOutcome.ERASED: Words("erased"),
    ChangeOutcome.UNCHANGED: Words("unchanged"),
}

OptionalClientArgument = Annotated[
    str, typer.Argument(metavar="[CLIENT]", help="One client, as in `egec client show`; or use --from.")
]
FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="FILE|-",
        help="All clients in this list: e-mail, identifier or reference.",
        rich_help_panel=SELECTION,
    ),
]


@app.command(
    "update",
    epilog=(
        "egec client update 5079512743 --email marc.petit@example.org\n"
        'egec client update ref:D-2047 --last-name Petit --reference ""\n'
        "egec client update ref:D-2047 --valid-until 2027-06-30"
    ),
)
def update_command(
    client: ClientArgument,
    email: Annotated[
        str | None, typer.Option("--email", metavar="EMAIL", help="New registered e-mail address.")
    ] = None,
    civility: Annotated[
        str | None, typer.Option("--civility", metavar="CIVILITY", help=f"One of {' '.join(CIVILITIES)}.")
    ] = None,
    first_name: Annotated[str | None, typer.Option("--first-name", metavar="NAME", help="First name.")] = None,
    last_name: Annotated[
        str | None, typer.Option("--last-name", metavar="NAME", help="Last name, or name of the firm.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="TEXT", help="Number of the client in another system.")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", metavar="fr|en", help="fr or en.")] = None,
    valid_from: Annotated[
        str | None, typer.Option("--valid-from", metavar="DATE", help="First day of the validity.")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option("--valid-until", metavar="DATE", help="Last day of the validity.")
    ] = None,
    no_mail: Annotated[
        bool, typer.Option("--no-mail", help="With --email: do not notify the previous address.")
    ] = False,
    identifier: Annotated[str | None, typer.Option("--identifier", metavar="DIGITS", hidden=True)] = None,
    match: MatchOption = False,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Change fields of a client; an empty value clears a field. The identifier never changes.

    With --email, an activated client's previous address gets a notice without a password. If the notice fails, the
    client is changed nevertheless and the exit code is 3.
    """
    if identifier is not None:
        raise PermissionDenied(
            "the identifier of a client never changes",
            "Omit --identifier; to add another person, use `egec client create`.",
            code="identifier_immutable",
        )
    options = {
        "email": email,
        "civility": civility,
        "first_name": first_name,
        "last_name": last_name,
        "reference": reference,
        "language": language,
        "valid_from": valid_from,
        "valid_until": valid_until,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise UsageError("no field to change", "Give --email, --last-name or another field.")
    with open_context() as context:
        if "email" in given and not no_mail:
            mail_route.require(context)
        found = choose_client(client, match=match, output=output)
        before = load_record(found, local_moment(context))
        changed, previous_email = change.update_client(context, found, given)
        after = load_record(changed, local_moment(context))
        if is_for_terminal(output):
            # Imported here: only a terminal needs it.
            from egec_cli.commands.client_card import show_difference

            show_difference(before, after)
        else:
            render(after, output)
        if previous_email and not no_mail:
            _notify_previous_address(context, changed, previous_email, output)


def _notify_previous_address(context: Context, client: Client, previous_email: str, output: OutputFormat) -> None:
    # Imported here: no other change loads what sends mail.
    from egec_cli.mail.transports import choose

    if not change.is_notice_due(client):
        return
    notice = change.send_notice(context, client, previous_email, partial(choose.open_transport, context.settings))
    if notice.error is not None:
        warn(
            "egec: the client was changed, but the notice to {previous_email} may not have arrived: {message}",
            previous_email=previous_email,
            message=notice.error.message,
        )
        warn("      Tell the client about the change in another way.")
        raise typer.Exit(ExitCode.PARTLY_DONE)
    if not note_saved_mail(context.settings, notice.server_reply) and output is OutputFormat.TABLE:
        note("egec: notified {previous_email} of the change by mail", previous_email=previous_email)


@app.command(
    "disable",
    epilog=(
        "egec client disable 5079512743 --reason 'contract ended'\n"
        "egec client disable --from left.csv --column courriel --reason left"
    ),
)
def disable_command(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, shown by `egec client show`.")],
    client: OptionalClientArgument = "",
    from_file: FromOption = "",
    column: ColumnOption = "",
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Disable one client or a list of clients. No password is accepted until they are enabled."""
    target = _parse_target(client, from_file, column, match=match)
    _change(partial(change.disable_clients, reason=reason), target, output, name=Words("disabling"))


@app.command("enable", epilog=("egec client enable 5079512743\negec client enable --from back.csv --column courriel"))
def enable_command(
    client: OptionalClientArgument = "",
    from_file: FromOption = "",
    column: ColumnOption = "",
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Enable one disabled client or a list of them. Their passwords work again."""
    target = _parse_target(client, from_file, column, match=match)
    _change(change.enable_clients, target, output, name=Words("enabling"))


@app.command("unblock", epilog="egec client unblock 5079512743")
def unblock_command(
    client: OptionalClientArgument = "",
    from_file: FromOption = "",
    column: ColumnOption = "",
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Lift the login block or wait of one client or a list of clients."""
    target = _parse_target(client, from_file, column, match=match)
    _change(change.unblock_clients, target, output, name=Words("unblocking"))


@app.command("erase", epilog=("egec client erase 5079512743\negec client erase --from erase.txt --yes"))
def erase_command(
    client: OptionalClientArgument = "",
    from_file: FromOption = "",
    column: ColumnOption = "",
    match: MatchOption = False,
    yes: YesOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Permanently erase the personal data of one client or a list; identifiers stay reserved."""
    target = _parse_target(client, from_file, column, match=match)
    if not yes:
        if from_file == "-" or not can_ask():
            raise no_terminal()
        if from_file:
            _confirm_erasure(
                Words("Permanently erase the data of all clients in {from_file}?", from_file=to_text(from_file))
            )
    choose = _choose_to_erase(yes=yes)
    _change(change.erase_clients, target, output, name=Words("erasing"), finish=_remove_traces, choose=choose)


def _remove_traces(context: Context, identifier: str | None) -> None:
    with ProgressLine(Words("removing copies from the database file")):
        change.require_no_trace(context, identifier)


def _choose_to_erase(*, yes: bool) -> "Callable[[_Target, OutputFormat], Client]":
    """Return a function that finds the client to erase and, unless `yes` is set, asks the operator."""

    def choose(target: _Target, output: OutputFormat) -> Client:
        if yes:
            return choose_client(target.client, match=target.match, exactly=True, output=output)
        client = find_client(target.client, match=target.match, output=output)
        show_named(client)
        _confirm_erasure(Words("Permanently erase the data of client {client}?", client=client.identifier))
        return client

    return choose


def _confirm_erasure(question: Words) -> None:
    if not confirm(question):
        note("egec: nothing was erased")
        raise typer.Exit(ExitCode.REFUSED)


class _Target(NamedTuple):
    """The clients to change: one client, or those in a file, in one of its columns or one on each line."""

    client: str
    from_file: str
    column: str
    match: bool


def _parse_target(client: str, from_file: str, column: str, *, match: bool) -> _Target:
    if bool(client) == bool(from_file):
        raise UsageError("give exactly one of CLIENT and --from", "Give one CLIENT, or --from FILE.")
    return _Target(client, from_file, column, match)


def _choose(target: _Target, output: OutputFormat) -> Client:
    return choose_client(target.client, match=target.match, output=output)


def _skip(_context: Context, _identifier: str | None) -> None:
    """Do nothing after a change."""


def _change(
    change_clients: Callable[[Context, Sequence[int]], dict[int, ChangeRecord]],
    target: _Target,
    output: OutputFormat,
    *,
    name: str,
    finish: Callable[[Context, str | None], None] = _skip,
    choose: Callable[[_Target, OutputFormat], Client] = _choose,
) -> None:
    """Change the clients, show the outcome of each, and end with the right exit code.

    `name` says what is being done. `finish` runs once at the end, also if nothing was left to change: an earlier
    command may have been interrupted there. It gets the identifier of one of the clients, if there is one. `choose`
    finds a single client.
    """
    if target.client:
        require_record_format(output)
    selectors = Selectors(from_file=target.from_file, column=target.column)
    with open_selection(selectors) as selection, open_context() as context:
        if selection.listed is None:
            found = choose(target, output)
            name = describe_client(found)
            record = change_clients(context, [found.id])[found.id]
            if record.outcome is ChangeOutcome.FAILED:
                raise change.record_to_error(record)
            if is_for_terminal(output):
                # Imported here: only a terminal needs it.
                from egec_cli.commands.client_card import show_outcome

                show_outcome(name, _OUTCOMES[record.outcome])
            else:
                render(record, output)
            finish(context, record.identifier)
            return
        with ProgressLine(name, Words("clients")) as line:
            summary = _Summary(line)
            records = change.change_each(
                context, selection.listed, partial(change_clients, context), report_total=line.set_total
            )
            render_all(summary.count(records, output), ChangeRecord, output, flush=True)
        report = warn if summary.numbers[ChangeOutcome.FAILED] else note
        counts = ", ".join(f"{number} {outcome}" for outcome, number in summary.numbers.items())
        report("egec: {summary}", summary=counts or Words("the list is empty"))
        finish(context, summary.identifier)
    if summary.numbers[ChangeOutcome.FAILED]:
        raise typer.Exit(ExitCode.PARTLY_DONE)


class _Summary:
    """The outcomes of a list of changes, counted, also on a progress line."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self.numbers = Counter[ChangeOutcome]()
        # One client whose change did not fail.
        self.identifier: str | None = None

    def count(self, records: Iterator[ChangeRecord], output: OutputFormat) -> Iterator[ChangeRecord]:
        """Count the records and pass them on."""
        for record in records:
            yield record
            self.numbers[record.outcome] += 1
            self._line.advance()
            if record.outcome is not ChangeOutcome.FAILED:
                self.identifier = record.identifier
            elif is_hidden(output):
                warn("egec: line {line}: {details}", line=record.line, details=record.details)
