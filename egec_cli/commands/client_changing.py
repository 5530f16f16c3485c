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
    _change(changing.erase, named, output, afterwards=changing.require_no_trace)


def _nothing_more(_egec: Egec, _identifier: str | None) -> None:
    """Do nothing after a change."""


def _change(
    act: _Act, named: Named, output: OutputFormat, *, afterwards: Callable[[Egec, str | None], None] = _nothing_more
) -> None:
    """Do something to the clients who are named, show what became of each, and end with the exit code that fits.

    Args:
        act: does it to the clients of some keys.
        named: which clients.
        output: how to show them.
        afterwards: what is done once at the end, also where nothing was left to change: an earlier command may have
            been cut short there. It is called with the identifier of one of the clients, if there is one.
    """
    selection = selectors.selection(from_file=named.from_file, exclude="", column=named.column)
    with selection as wanted, opened() as egec:
        if wanted.listed is None:
            found = clients.find(named.client)
            record = act(egec, [found.id])[found.id]
            if record.outcome is ChangeOutcome.FAILED:
                raise changing.failure_of(record)
            show(record, output)
            afterwards(egec, record.identifier)
            return
        told = _Told()
        show_all(told.counted(changing.for_each(egec, wanted.listed, partial(act, egec)), output), ChangeRecord, output)
        tell = warn if told.numbers[ChangeOutcome.FAILED] else note
        summary = ", ".join(f"{number} {outcome}" for outcome, number in told.numbers.items())
        tell("egec: {told}", told=summary or Words("nobody is named"))
        afterwards(egec, told.identifier)
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
            # Flush, so that a pipe sees each record immediately.
            sys.stdout.flush()
            self.numbers[record.outcome] += 1
            if record.outcome is not ChangeOutcome.FAILED:
                self.identifier = record.identifier
            elif is_hidden(output):
                warn("egec: line {line}: {details}", line=record.line, details=record.details)
