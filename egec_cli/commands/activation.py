"""What `egec activate` and `egec client create --activate` show of an activation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from egec_cli.accounts import clients, issuing, mail_route
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.issuing import HandedOver, Issued
from egec_cli.errors import AddressRefused, EgecError, NoSuchClient, NotPermitted, Usage
from egec_cli.hashing import Hashing
from egec_cli.mail import template, transport
from egec_cli.settings import MaildirFolder
from egec_cli.show import OutputFormat, has_reader, note, say, say_unless_quiet, show
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import Words, joined


class FirstMail(NamedTuple):
    """What the file of a client has beside its fields where a first password was to be mailed.

    Attributes:
        activation: what became of it; None where it failed, which the error tells.
    """

    activation: Issued | None


class ShownPassword(NamedTuple):
    """What an activation has in machine formats beside the credential where its password is shown, not mailed.

    Attributes:
        password: in clear; it is told once, and stored nowhere.
    """

    password: str


def mail(egec: Egec, wanted: str, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for the client that is wanted, mail it, and show the memo's words or the result."""
    with _refusal_relayed(egec, output):
        client = clients.find(wanted)
        mail_route.require(egec)
        words = words_for(egec, client)
        try:
            issued = send(egec, client, hashing, revoke=revoke)
        except NotPermitted as error:
            if error.code == issuing.TOO_MANY_OPEN and output is OutputFormat.TABLE:
                say_unless_quiet(_words_for_nothing_sent(egec, client))
            raise
    if output is OutputFormat.TABLE:
        tell(egec, words, issued)
    else:
        show(issued, output)


def words_for(egec: Egec, client: Client) -> str:
    """Return the memo's words for the client; a fault of their template is found before any mail leaves."""
    return template.text(egec.settings, "sent", client.language or egec.settings.language)


def _words_for_nothing_sent(egec: Egec, client: Client) -> str:
    """Return what a client reads who gets no further mail, since it is in doubt whether so many before it arrived."""
    language = client.language or egec.settings.language
    return template.text(egec.settings, "not-sent", language, support=egec.settings.support)


def send(egec: Egec, client: Client, hashing: Hashing, *, revoke: bool = False) -> Issued:
    """Issue a credential for a client by the transport of the settings."""
    way = transport.of(egec.settings)
    try:
        return issuing.issue(egec, client, way, hashing=hashing, revoke=revoke)
    finally:
        way.close()


def send_first(egec: Egec, client: Client, hashing: Hashing, *, is_new: bool) -> Issued:
    """Issue the first credential of a client, by the transport of the settings.

    Args:
        egec: where.
        client: for whom.
        hashing: the new password.
        is_new: this command has just created the client, which an error tells.
    """
    try:
        return send(egec, client, hashing)
    except KeyboardInterrupt as interruption:
        if not interruption.args:
            again = Words("Type `egec activate {identifier}` to mail the password later.", identifier=client.identifier)
            interruption.args = (joined(" ", [Words("The client was created."), again]),)
        raise
    except EgecError as error:
        if is_new:
            state = Words("Client {identifier} was created.", identifier=client.identifier)
        else:
            state = Words("Client {identifier} already existed and was not changed.", identifier=client.identifier)
        cure = [issuing.correct_address(client.identifier)] if isinstance(error, AddressRefused) else []
        mail_it = (
            Words("Then type `egec activate {identifier}` to mail the password.", identifier=client.identifier)
            if cure
            else Words("Type `egec activate {identifier}` to mail the password later.", identifier=client.identifier)
        )
        error.hint = joined(" ", [state, *cure, mail_it])
        raise


def tell(egec: Egec, words: str, issued: Issued) -> None:
    """Print the memo's words for the client, and for the operator what he alone may know."""
    say_unless_quiet(words)
    if isinstance(egec.settings.mail_server, MaildirFolder):
        note(
            "egec: EGEC_MAIL_URL names no mail server, so the mail was laid down in {server_reply}",
            server_reply=issued.server_reply,
        )
    if issued.state is not CredentialState.ACCEPTED:
        note("egec: a later issue has replaced this one already ({state})", state=issued.state)


def hand_over(egec: Egec, wanted: str, hashing: Hashing, *, revoke: bool, output: OutputFormat) -> None:
    """Issue a credential for the client that is wanted and print its password instead of mailing it."""

    def show_it(handed_over: HandedOver) -> None:
        clear = handed_over.password.reveal()
        if output is OutputFormat.TABLE:
            say(f"{handed_over.identifier}  {clear}")
        else:
            accepted = Issued(
                handed_over.identifier, handed_over.email, handed_over.sequence, CredentialState.ACCEPTED, None, None
            )
            show(accepted._asdict() | ShownPassword(clear)._asdict(), output)
        # What is still in a buffer has been shown to nobody.
        sys.stdout.flush()

    if not has_reader():
        raise Usage("standard output is closed, so nobody would see the password", "Let it go to a terminal or a file.")
    with _refusal_relayed(egec, output):
        issuing.hand_over(egec, clients.find(wanted), show_it, hashing=hashing, revoke=revoke)


@contextmanager
def _refusal_relayed(egec: Egec, output: OutputFormat) -> Iterator[None]:
    """Print the memo's refusal to stdout, for a script to relay, where the client may not be activated."""
    try:
        yield
    except (NoSuchClient, NotPermitted) as error:
        if output is OutputFormat.TABLE and error.code in {NoSuchClient.code, *issuing.NOT_TO_BE_ACTIVATED}:
            say_unless_quiet(template.text(egec.settings, "refused", egec.settings.language))
        raise
