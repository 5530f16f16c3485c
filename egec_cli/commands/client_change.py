"""`egec client update`, `disable`, `enable`, `unblock` and `erase`; no other command loads this module."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from egec_cli.clients import change, update
from egec_cli.clients.change import ChangeOutcome
from egec_cli.clients.fields import CIVILITIES
from egec_cli.clients.records import describe_client, load_record
from egec_cli.commands.client_bulk import (
    DryRunOption,
    ExpectOption,
    Kind,
    Request,
    YesToAllOption,
    change_many,
    require_one_target,
)
from egec_cli.commands.client_selectors import Selectors, with_selectors
from egec_cli.commands.find import MatchOption, choose_client, find_client, show_named
from egec_cli.commands.options import (
    ClientArgument,
    OutputOption,
    RecordOption,
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
from egec_cli.output.formats import OutputFormat, is_for_terminal, render, require_record_format
from egec_cli.output.messages import note, warn
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
    ChangeOutcome.UNCHANGED: Words("not changed"),
}

OptionalClientArgument = Annotated[
    str, typer.Argument(metavar="[CLIENT]", help="One client, as in `egec client show`; or use --from or a selector.")
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
        changed, previous_email = update.update_client(context, found, given)
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

    if not update.is_notice_due(client):
        return
    notice = update.send_notice(context, client, previous_email, partial(choose.open_transport, context.settings))
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
        "egec client disable --from left.csv --column courriel --reason left\n"
        "egec client disable --last-login-before 2y --reason dormant --dry-run\n"
        "egec client disable --last-login-before 2y --reason dormant --notify 30d --yes"
    ),
)
@with_selectors
def disable_command(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, shown by `egec client show`.")],
    selectors: Selectors,
    client: OptionalClientArgument = "",
    notify: Annotated[
        str,
        typer.Option(
            "--notify",
            metavar="AGE",
            help="Disable only clients who were notified by mail so long ago, such as 30d or 4w; notify the others."
            " Needs --last-login-before, or --never-logged-in with --created-before.",
        ),
    ] = "",
    dry_run: DryRunOption = False,
    expect: ExpectOption = None,
    yes: YesToAllOption = False,
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Disable one client or many. No password is accepted until they are enabled.

    With --notify, run the same command every day: each client gets one mail, and is disabled on the day that it names,
    unless the client signs in before or the selectors no longer match.
    """
    kind = Kind(
        ChangeOutcome.DISABLED,
        partial(change.disable_clients, reason=change.clean_reason(reason)),
        Words("disabling"),
        Words("Disable {clients}?"),
    )
    if notify:
        # Imported here: no other change of many clients loads what sends mail.
        from egec_cli.commands.client_closing import close_accounts

        request = Request(selectors, dry_run, expect, yes)
        close_accounts(kind, client, request, output, notify=notify, reason=change.clean_reason(reason))
        return
    _change(kind, client, Request(selectors, dry_run, expect, yes), output, match=match)


@app.command(
    "enable",
    epilog=(
        "egec client enable 5079512743\n"
        "egec client enable --from back.csv --column courriel\n"
        "egec client enable --email-domain example.org --expect 12"
    ),
)
@with_selectors
def enable_command(
    selectors: Selectors,
    client: OptionalClientArgument = "",
    dry_run: DryRunOption = False,
    expect: ExpectOption = None,
    yes: YesToAllOption = False,
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Enable one disabled client or many. Their passwords work again."""
    kind = Kind(ChangeOutcome.ENABLED, change.enable_clients, Words("enabling"), Words("Enable {clients}?"))
    _change(kind, client, Request(selectors, dry_run, expect, yes), output, match=match)


@app.command("unblock", epilog="egec client unblock 5079512743\negec client unblock --status blocked --yes")
@with_selectors
def unblock_command(
    selectors: Selectors,
    client: OptionalClientArgument = "",
    dry_run: DryRunOption = False,
    expect: ExpectOption = None,
    yes: YesToAllOption = False,
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Lift the login block or wait of one client or many."""
    kind = Kind(
        ChangeOutcome.UNBLOCKED,
        change.unblock_clients,
        Words("unblocking"),
        Words("Lift the login block of {clients}?"),
    )
    _change(kind, client, Request(selectors, dry_run, expect, yes), output, match=match)


@app.command(
    "erase",
    epilog=(
        "egec client erase 5079512743\n"
        "egec client erase --from erase.txt --yes\n"
        "egec client erase --status disabled --last-login-before 3y --expect 12"
    ),
)
@with_selectors
def erase_command(
    selectors: Selectors,
    client: OptionalClientArgument = "",
    dry_run: DryRunOption = False,
    expect: ExpectOption = None,
    yes: YesToAllOption = False,
    match: MatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Permanently erase the personal data of one client or many; identifiers stay reserved."""
    kind = Kind(
        ChangeOutcome.ERASED,
        change.erase_clients,
        Words("erasing"),
        Words("Permanently erase the data of {clients}?"),
        of_list=Words("Permanently erase the data of all clients in {from_file}?"),
        finish=_remove_traces,
    )
    _change(
        kind, client, Request(selectors, dry_run, expect, yes), output, match=match, choose=_choose_to_erase(yes=yes)
    )


def _remove_traces(context: Context, identifier: str | None) -> None:
    if not change.may_have_copies():
        return
    with ProgressLine(Words("removing copies from the database file")):
        change.require_no_trace(context, identifier)


_Choose = Callable[[str, bool, OutputFormat], Client]


def _choose_to_erase(*, yes: bool) -> _Choose:
    """Return a function that finds the client to erase and, unless `yes` is set, asks the operator."""

    def choose(wanted: str, match: bool, output: OutputFormat) -> Client:
        if yes:
            return choose_client(wanted, match=match, exactly=True, output=output)
        client = find_client(wanted, match=match, output=output)
        if not can_ask():
            raise no_terminal()
        show_named(client)
        if not confirm(Words("Permanently erase the data of client {client}?", client=client.identifier)):
            note("egec: nothing was erased")
            raise typer.Exit(ExitCode.REFUSED)
        return client

    return choose


def _choose(wanted: str, match: bool, output: OutputFormat) -> Client:
    return choose_client(wanted, match=match, output=output)


def _change(
    kind: Kind, client: str, request: Request, output: OutputFormat, *, match: bool, choose: _Choose = _choose
) -> None:
    """Change one client or many, show the outcome of each, and end with the right exit code; `choose` finds one."""
    require_one_target(client, request)
    if not client:
        change_many(kind, request, output)
        return
    require_record_format(output)
    with open_context() as context:
        found = choose(client, match, output)
        name = describe_client(found)
        record = kind.change(context, [found.id], change.NO_GUARD)[found.id]
        if record.outcome is ChangeOutcome.FAILED:
            raise change.record_to_error(record)
        if is_for_terminal(output):
            # Imported here: only a terminal needs it.
            from egec_cli.commands.client_card import show_outcome

            show_outcome(name, _OUTCOMES[record.outcome])
        else:
            render(record, output)
        kind.finish(context, record.identifier)
