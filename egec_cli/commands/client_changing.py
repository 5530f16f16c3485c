"""What `egec client update`, `disable`, `enable`, `unblock` and `erase` do; no other command loads it."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import typer

from egec_cli.accounts import changing, clients, mail_route
from egec_cli.accounts.changing import ChangeOutcome, ChangeRecord
from egec_cli.accounts.egec import Egec
from egec_cli.commands import consent, selectors
from egec_cli.commands.selectors import Named
from egec_cli.commands.session import opened
from egec_cli.errors import ExitCode
from egec_cli.settings import MaildirFolder
from egec_cli.show import OutputFormat, is_hidden, note, show, show_all, warn
from egec_cli.store.models import Client
from egec_cli.translation import Words

_Act = Callable[[Egec, Sequence[int]], dict[int, ChangeRecord]]


def update(client: str, given: dict[str, str], output: OutputFormat, *, no_mail: bool) -> None:
    """Change fields of a client's file, show it, and tell a former address of it by mail, unless that is not wanted."""
    with opened() as egec:
        if "email" in given and not no_mail:
            mail_route.require(egec)
        changed, former_email = changing.update(egec, clients.find(client), given)
        show(clients.shown(changed, egec.clock()), output)
        if former_email and not no_mail:
            _tell_former_address(egec, changed, former_email, output)


def _tell_former_address(egec: Egec, client: Client, former_email: str, output: OutputFormat) -> None:
    # Imported here: no other change loads what mails.
    from egec_cli.accounts import address_notice
    from egec_cli.mail import transport

    if not address_notice.is_due(client):
        return
    notice = address_notice.send(egec, client, former_email, partial(transport.of, egec.settings))
    if notice.error is not None:
        warn(
            "egec: the file was changed, but no note may have reached {former_email}: {message}",
            former_email=former_email,
            message=notice.error.message,
        )
        warn("      Tell the client of the change by another way.")
        raise typer.Exit(ExitCode.PARTLY_DONE)
    if isinstance(egec.settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the note was laid down in {server_reply}",
            server_reply=notice.server_reply,
        )
    elif output is OutputFormat.TABLE:
        note("egec: {former_email} was told of the change by mail", former_email=former_email)


def disable(named: Named, reason: str, output: OutputFormat) -> None:
    """Disable clients."""
    _change(partial(changing.disable, reason=reason), named, output)


def enable(named: Named, output: OutputFormat) -> None:
    """Enable clients."""
    _change(changing.enable, named, output)


def unblock(named: Named, output: OutputFormat) -> None:
    """Unblock clients."""
    _change(changing.unblock, named, output)


def erase(named: Named, output: OutputFormat, *, yes: bool) -> None:
    """Erase clients, unless the operator does not want it when asked."""
    whom = (
        Words("client {client}", client=named.client)
        if named.client
        else Words("all clients whom {from_file} names", from_file=named.from_file)
    )
    if not (yes or consent.is_given(Words("Erase the data of {whom}? Nothing brings it back.", whom=whom))):
        note("egec: nothing was erased")
        raise typer.Exit(ExitCode.REFUSED)
    _change(changing.erase, named, output, afterwards=_leave_no_trace)


def _leave_no_trace() -> None:
    # Also where all were erased before: an earlier command may have been cut short here.
    if not changing.leave_no_trace():
        warn("egec: another process reads the database; run the same again for what was erased to leave its files")


def _change(act: _Act, named: Named, output: OutputFormat, *, afterwards: Callable[[], None] = lambda: None) -> None:
    """Do something to the clients who are named, tell of each, and end with the exit code that fits.

    Args:
        act: does it to the clients of some keys.
        named: which clients.
        output: how to tell of them.
        afterwards: what is to be done once, when all is told.
    """
    selection = selectors.selection(from_file=named.from_file, exclude="", column=named.column)
    with selection as wanted, opened() as egec:
        if wanted.listed is None:
            found = clients.find(named.client)
            record = act(egec, [found.id])[found.id]
            if record.outcome is ChangeOutcome.FAILED:
                raise changing.failure_of(record)
            show(record, output)
            afterwards()
            return
        counted = Counter[ChangeOutcome]()
        records = changing.for_each(egec, wanted.listed, partial(act, egec))
        show_all(_counted(records, counted, output), ChangeRecord, output)
        afterwards()
    tell = warn if counted[ChangeOutcome.FAILED] else note
    told = ", ".join(f"{number} {outcome}" for outcome, number in counted.items())
    tell("egec: {told}", told=told or Words("nobody is named"))
    if counted[ChangeOutcome.FAILED]:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _counted(
    records: Iterator[ChangeRecord], counted: Counter[ChangeOutcome], output: OutputFormat
) -> Iterator[ChangeRecord]:
    for record in records:
        yield record
        # Whoever reads along learns of each at once.
        sys.stdout.flush()
        counted[record.outcome] += 1
        if record.outcome is ChangeOutcome.FAILED and is_hidden(output):
            warn("egec: line {line}: {details}", line=record.line, details=record.details)
