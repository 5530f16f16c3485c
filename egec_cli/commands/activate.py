"""`egec activate`, and what `egec client create --activate` shares with it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import typer

from egec_cli.clients import records
from egec_cli.commands.find import MatchOption, choose_client
from egec_cli.commands.options import CLIENT_HELP, OUTPUT, RecordOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import note_saved_mail, open_context, read_settings
from egec_cli.context import Context
from egec_cli.credentials import issue, mail_route, shared_emails, validity
from egec_cli.credentials.issue import Issued, IssueResult, NewPassword
from egec_cli.errors import AddressRefused, ClientNotFound, EgecError, ExitCode, PermissionDenied, UsageError
from egec_cli.hashing import Hashing, start_hash
from egec_cli.mail.compose import template
from egec_cli.output.formats import (
    OutputFormat,
    is_at_terminal,
    is_for_terminal,
    is_hidden,
    print_line,
    print_unless_quiet,
    render,
    render_all,
    require_open_stdout,
)
from egec_cli.output.messages import note, warn
from egec_cli.requests.texts import Answer, render_answer
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import Words, count_words, format_number, join_words

app = new_app()


class FirstMail(NamedTuple):
    """What `egec client create --activate` adds to the fields of a client.

    Attributes:
        activation: the result of the mail; None if it failed, as the error explains.
    """

    activation: IssueResult | None


class ShownPassword(NamedTuple):
    """What machine formats add to an activation whose password is shown, not mailed.

    Attributes:
        password: in clear; shown only here, and never stored.
    """

    password: str


class ActivationRecord(NamedTuple):
    """The outcome for one of the clients who share the e-mail.

    Attributes:
        identifier: the client's identifier.
        reference: the number of the client in another system.
        email: the address that was mailed.
        sequence: the number of this password among those of the client; None if no mail was accepted.
        state: `accepted`; or `superseded` or `revoked` if a later credential has replaced it already; None likewise.
        message_id: the mail's Message-ID; None likewise.
        server_reply: the mail server's answer or the file that the mail was saved to; None likewise.
        failure: the code of the error; None if the mail was accepted.
        details: the error for people.
    """

    identifier: str
    reference: str | None
    email: str | None
    sequence: int | None
    state: CredentialState | None
    message_id: str | None
    server_reply: str | None
    failure: str | None
    details: str | None


_IN_TABLE = ("identifier", "reference", "email", "state", "failure")


OptionalClient = Annotated[
    str | None,
    typer.Argument(metavar="[CLIENT]", help=CLIENT_HELP, show_default=False),
]


@app.command(
    "activate",
    epilog=(
        "egec activate jeanne@example.org\n"
        "egec activate 5079512743 --revoke\n"
        "egec activate 5079512743 --no-mail --show-password\n"
        "egec activate --stdin < request.txt"
    ),
)
def activate_command(
    ctx: typer.Context,
    client: OptionalClient = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke every earlier password immediately.")] = False,
    no_mail: Annotated[bool, typer.Option("--no-mail", help="Send no mail; needs --show-password.")] = False,
    show_password: Annotated[
        bool, typer.Option("--show-password", help="Print the new password; needs --no-mail.")
    ] = False,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="For a portal: read the e-mail and, if known, the client's IP address from standard input.",
        ),
    ] = False,
    relay: Annotated[
        bool,
        typer.Option(
            "--relay", help="Print the text that the client is to read, as for a script.", rich_help_panel=OUTPUT
        ),
    ] = False,
    match: MatchOption = False,
    output: RecordOption = OutputFormat.TABLE,
) -> None:
    """Create a new password for a client and mail it with the identifier.

    The previous password works until the mail server accepts the mail. Only the password of the latest mail is valid.
    If several clients share the e-mail, each of them gets a mail.
    A terminal shows a report for you; a script gets the text for the client. With --stdin, requests are limited,
    and every outcome prints a text for the client.
    """
    if stdin:
        if client is not None or revoke or no_mail or show_password or relay or match:
            raise UsageError(
                "--stdin cannot be combined with CLIENT or another option",
                "Pass the e-mail on standard input; only --format may be added.",
            )
        # Imported here: only portals need it.
        from egec_cli.commands.activate_request import answer_request

        answer_request(output)
        return
    if client is None:
        raise UsageError("the client is missing", "Type `egec activate CLIENT`, or use --stdin in a portal.")
    if no_mail != show_password:
        raise UsageError("--no-mail and --show-password go together", "Give both, or neither to send the mail.")
    settings = read_settings()
    # The hash takes most of the time, on a thread of its own: what follows is loaded and connected meanwhile. Usually
    # `main` has started it already.
    hashing = ctx.obj or start_hash(settings)
    with open_context(settings) as context:
        shared_emails.require_allowed(context)
        activate = _print_password if no_mail else _mail_password
        activate(context, _Wanted(client, match, relay), hashing, revoke=revoke, output=output)


class _Wanted(NamedTuple):
    """The client to activate.

    Attributes:
        client: as typed.
        match: accept a part of a name or e-mail in a script too.
        relay: print the text for the client, at a terminal too.
    """

    client: str
    match: bool
    relay: bool

    def find(self, output: OutputFormat) -> Client:
        """Return the client."""
        return choose_client(self.client, match=self.match, output=output)

    def prints_text(self, output: OutputFormat) -> bool:
        """Return whether the text for the client is printed."""
        return output is OutputFormat.TABLE and (self.relay or not is_at_terminal())


def _mail_password(context: Context, wanted: _Wanted, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for a client, mail it, and print the memo's text, a report or the result."""
    with _print_refusal(context, wanted, output):
        sharers = records.find_by_email(records.clean_key(wanted.client)) if context.settings.shared_email else ()
        if len(sharers) > 1:
            prints_text = wanted.prints_text(output)
            _mail_to_each(context, sharers, hashing, revoke=revoke, output=output, prints_text=prints_text)
            return
        client = wanted.find(output)
        mail_route.require(context)
        sent_text = load_sent_text(context, client)
        try:
            issued = issue.mail_credential(context, client, hashing=hashing, revoke=revoke)
        except PermissionDenied as error:
            if error.code == issue.TOO_MANY_IN_DOUBT and wanted.prints_text(output):
                language = client.language or context.settings.language
                support = context.settings.support
                print_unless_quiet(template.render_text(context.settings, "not-sent", language, support=support))
            raise
    if output is not OutputFormat.TABLE:
        render(issued, output)
    else:
        report_sent(context, client, sent_text if wanted.prints_text(output) else "", issued)


def _mail_to_each(
    context: Context,
    clients: Sequence[Client],
    hashing: Hashing,
    *,
    revoke: bool,
    output: OutputFormat,
    prints_text: bool,
) -> None:
    """Mail a new password to each of the clients who may get one, and show the outcomes.

    Args:
        prints_text: print the memo's text for the client, once, instead of the outcomes.

    Raises:
        EgecError: no mail was accepted; the error of the first one.
        PermissionDenied: none of the clients may get a mail; the reason for the first one.
        typer.Exit: not every mail was accepted.
    """
    now = validity.local_moment(context)
    refusals = {client.id: refusal for client in clients if (refusal := issue.find_refusal(client, now))}
    mailable = [client for client in clients if client.id not in refusals]
    if not mailable:
        raise refusals[clients[0].id]
    mail_route.require(context)
    # A flaw of the template is found before any mail leaves.
    sent_text = load_sent_text(context, mailable[0])
    for refusal in refusals.values():
        note("egec: no mail: {reason}", reason=refusal.message)
    failed: list[tuple[Client, EgecError]] = []
    issued = _collect_failed(issue.mail_each(context, mailable, hashing=hashing, revoke=revoke), failed)
    if prints_text:
        for _ in issued:
            pass
        if len(failed) < len(mailable):
            print_unless_quiet(sent_text)
    else:
        records = map(_to_record, issued)
        render_all(
            records,
            ActivationRecord,
            output,
            in_table=_IN_TABLE,
            optional=("reference",),
            flush=True,
            are_outcomes=True,
        )
    is_first_raised = len(failed) == len(mailable)
    for client, error in failed[is_first_raised:] if prints_text or is_hidden(output) else ():
        warn("egec: client {identifier}: {message}", identifier=client.identifier, message=error.message)
        if error.hint:
            warn("      {hint}", hint=error.hint)
    accepted = count_words(
        "egec: 0 of {total} mails accepted",
        "egec: 1 of {total} mails accepted",
        "egec: {number} of {total} mails accepted",
        len(mailable) - len(failed),
        total=format_number(len(mailable)),
    )
    note(accepted)
    if is_first_raised:
        raise failed[0][1]
    if failed:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _collect_failed(issued: Iterator[Issued], failed: list[tuple[Client, EgecError]]) -> Iterator[Issued]:
    for one in issued:
        if one.error is not None:
            failed.append((one.client, one.error))
        yield one


def _to_record(issued: Issued) -> ActivationRecord:
    client, result, error = issued
    return ActivationRecord(
        identifier=client.identifier,
        reference=client.reference,
        email=client.email,
        sequence=result and result.sequence,
        state=result and result.state,
        message_id=result and result.message_id,
        server_reply=result and result.server_reply,
        failure=None if error is None else error.code,
        details=None if error is None else error.message,
    )


def _print_password(context: Context, wanted: _Wanted, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for a client and print its password instead of mailing it."""

    def show(new: NewPassword) -> None:
        clear = new.password.reveal()
        if output is OutputFormat.TABLE:
            print_line(f"{new.identifier}  {clear}")
        else:
            accepted = IssueResult(new.identifier, new.email, new.sequence, CredentialState.ACCEPTED, None, None)
            render(accepted._asdict() | ShownPassword(clear)._asdict(), output)
        # Flush: a password in a buffer has not been shown.
        sys.stdout.flush()

    require_open_stdout()
    with _print_refusal(context, wanted, output):
        issue.issue_to_operator(context, wanted.find(output), show, hashing=hashing, revoke=revoke)


@contextmanager
def _print_refusal(context: Context, wanted: _Wanted, output: OutputFormat) -> Iterator[None]:
    """Print the memo's refusal to stdout, for a script to relay, if the client may not be activated."""
    try:
        yield
    except (ClientNotFound, PermissionDenied) as error:
        if wanted.prints_text(output) and error.code in {ClientNotFound.code, *issue.NOT_ACTIVATABLE}:
            print_unless_quiet(template.render_text(context.settings, "refused", context.settings.language))
        raise


def load_sent_text(context: Context, client: Client) -> str:
    """Return the memo's text after a mail; an error in its template is found before any mail leaves."""
    return render_answer(context.settings, Answer.SENT, client.language)


def send_first(context: Context, client: Client, hashing: Hashing, *, is_new: bool) -> IssueResult:
    """Issue and mail the first credential of a client; an error reports whether the client is new."""
    later = Words("Type `egec activate {identifier}` to mail the password later.", identifier=client.identifier)
    try:
        return issue.mail_credential(context, client, hashing=hashing)
    except KeyboardInterrupt as interruption:
        if not interruption.args:
            interruption.args = (join_words(" ", [Words("The client was created."), later]),)
        raise
    except EgecError as error:
        if is_new:
            state = Words("Client {identifier} was created.", identifier=client.identifier)
        else:
            state = Words("Client {identifier} already existed and was not changed.", identifier=client.identifier)
        if isinstance(error, AddressRefused):
            then = Words("Then type `egec activate {identifier}` to mail the password.", identifier=client.identifier)
            error.hint = join_words(" ", [state, issue.address_hint(client.identifier), then])
        else:
            error.hint = join_words(" ", [state, later])
        raise


def report_sent(context: Context, client: Client, sent_text: str, issued: IssueResult) -> None:
    """Print the memo's text for the client, or a report if `sent_text` is empty, and notes for the operator."""
    if sent_text:
        print_unless_quiet(sent_text)
    elif is_for_terminal(OutputFormat.TABLE):
        # Imported here: only a terminal needs it.
        from egec_cli.commands.client_card import show_activation

        show_activation(context, client, issued)
    note_saved_mail(context.settings, issued.server_reply)
    if issued.state is not CredentialState.ACCEPTED:
        note("egec: a later password has already replaced this one ({state})", state=issued.state)
