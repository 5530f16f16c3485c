"""What `egec activate` and `egec client create --activate` show of an activation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import typer

from egec_cli import hashing
from egec_cli.clients import records
from egec_cli.commands.options import ClientArgument, OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import opened, read_settings
from egec_cli.context import Context
from egec_cli.credentials import issue as issuing
from egec_cli.credentials import mail_route
from egec_cli.credentials.issue import IssueResult, NewPassword
from egec_cli.errors import AddressRefused, ClientNotFound, EgecError, PermissionDenied, UsageError
from egec_cli.hashing import Hashing
from egec_cli.mail.compose import template
from egec_cli.mail.transports import choose
from egec_cli.output.formats import OutputFormat, has_reader, print_line, print_unless_quiet, render
from egec_cli.output.messages import note
from egec_cli.settings.schema import MaildirFolder
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import Words, join_words


class FirstMail(NamedTuple):
    """What the file of a client has beside its fields where a first password was to be mailed.

    Attributes:
        activation: what became of it; None where it failed, which the error tells.
    """

    activation: IssueResult | None


class ShownPassword(NamedTuple):
    """What an activation has in machine formats beside the credential where its password is shown, not mailed.

    Attributes:
        password: in clear; it is told once, and stored nowhere.
    """

    password: str


def mail(context: Context, wanted: str, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for the client that is wanted, mail it, and show the memo's words or the result."""
    with _refusal_relayed(context, output):
        client = records.find_client(wanted)
        mail_route.require(context)
        words = words_for(context, client)
        try:
            issued = send(context, client, hashing, revoke=revoke)
        except PermissionDenied as error:
            if error.code == issuing.TOO_MANY_IN_DOUBT and output is OutputFormat.TABLE:
                print_unless_quiet(_words_for_nothing_sent(context, client))
            raise
    if output is OutputFormat.TABLE:
        tell(context, words, issued)
    else:
        render(issued, output)


def words_for(context: Context, client: Client) -> str:
    """Return the memo's words for the client; a fault of their template is found before any mail leaves."""
    return template.render_text(context.settings, "sent", client.language or context.settings.language)


def _words_for_nothing_sent(context: Context, client: Client) -> str:
    """Return what a client reads who gets no further mail, since it is in doubt whether so many before it arrived."""
    language = client.language or context.settings.language
    return template.render_text(context.settings, "not-sent", language, support=context.settings.support)


def send(context: Context, client: Client, hashing: Hashing, *, revoke: bool = False) -> IssueResult:
    """Issue a credential for a client by the transport of the settings."""
    way = choose.open_transport(context.settings)
    try:
        return issuing.issue_by_mail(context, client, way, hashing=hashing, revoke=revoke)
    finally:
        way.close()


def send_first(context: Context, client: Client, hashing: Hashing, *, is_new: bool) -> IssueResult:
    """Issue the first credential of a client, by the transport of the settings.

    Args:
        context: where.
        client: for whom.
        hashing: the new password.
        is_new: this command has just created the client, which an error tells.
    """
    try:
        return send(context, client, hashing)
    except KeyboardInterrupt as interruption:
        if not interruption.args:
            again = Words("Type `egec activate {identifier}` to mail the password later.", identifier=client.identifier)
            interruption.args = (join_words(" ", [Words("The client was created."), again]),)
        raise
    except EgecError as error:
        if is_new:
            state = Words("Client {identifier} was created.", identifier=client.identifier)
        else:
            state = Words("Client {identifier} already existed and was not changed.", identifier=client.identifier)
        cure = [issuing.address_hint(client.identifier)] if isinstance(error, AddressRefused) else []
        mail_it = (
            Words("Then type `egec activate {identifier}` to mail the password.", identifier=client.identifier)
            if cure
            else Words("Type `egec activate {identifier}` to mail the password later.", identifier=client.identifier)
        )
        error.hint = join_words(" ", [state, *cure, mail_it])
        raise


def tell(context: Context, words: str, issued: IssueResult) -> None:
    """Print the memo's words for the client, and for the operator what he alone may know."""
    print_unless_quiet(words)
    if isinstance(context.settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the mail was laid down in {server_reply}",
            server_reply=issued.server_reply,
        )
    if issued.state is not CredentialState.ACCEPTED:
        note("egec: a later issue has replaced this one already ({state})", state=issued.state)


def hand_over(context: Context, wanted: str, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for the client that is wanted and print its password instead of mailing it."""

    def show_it(handed_over: NewPassword) -> None:
        clear = handed_over.password.reveal()
        if output is OutputFormat.TABLE:
            print_line(f"{handed_over.identifier}  {clear}")
        else:
            accepted = IssueResult(
                handed_over.identifier, handed_over.email, handed_over.sequence, CredentialState.ACCEPTED, None, None
            )
            render(accepted._asdict() | ShownPassword(clear)._asdict(), output)
        # What is still in a buffer has been shown to nobody.
        sys.stdout.flush()

    if not has_reader():
        raise UsageError(
            "standard output is closed, so nobody would see the password", "Let it go to a terminal or a file."
        )
    with _refusal_relayed(context, output):
        issuing.issue_to_operator(context, records.find_client(wanted), show_it, hashing=hashing, revoke=revoke)


@contextmanager
def _refusal_relayed(context: Context, output: OutputFormat) -> Iterator[None]:
    """Print the memo's refusal to stdout, for a script to relay, where the client may not be activated."""
    try:
        yield
    except (ClientNotFound, PermissionDenied) as error:
        if output is OutputFormat.TABLE and error.code in {ClientNotFound.code, *issuing.NOT_ACTIVATABLE}:
            print_unless_quiet(template.render_text(context.settings, "refused", context.settings.language))
        raise


app = new_app()


@app.command("activate", epilog="Example: egec activate jeanne@example.org")
def activate_command(
    client: ClientArgument,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Void every former password at once, as after a leak.")
    ] = False,
    no_mail: Annotated[bool, typer.Option("--no-mail", help="Send no mail; needs --show-password.")] = False,
    show_password: Annotated[
        bool, typer.Option("--show-password", help="Print the new password; needs --no-mail.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a new password for a client and mail it with the identifier.

    The former password works until the mail server has accepted the mail; only the last mail counts.
    """
    if no_mail != show_password:
        raise UsageError("--no-mail and --show-password go together", "Give both, or neither to send the mail.")
    found = read_settings()
    # The hash takes most of the time, on a thread of its own: what follows is loaded and connected meanwhile.
    hash_under_way = hashing.start_hash(found)
    with opened(found) as context:
        if no_mail:
            hand_over(context, client, hash_under_way, revoke=revoke, output=output)
        else:
            mail(context, client, hash_under_way, revoke=revoke, output=output)
