"""Issue a credential for each of several clients who share an e-mail. Each is settled by itself."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.credentials.issue import IssueResult
from egec_cli.errors import EgecError, PermissionDenied
from egec_cli.hashing import Hashing, start_hash
from egec_cli.mail.transports.choose import open_transport
from egec_cli.mail.transports.interface import Transport
from egec_cli.settings.schema import Settings
from egec_cli.store.models import Client


class Issued(NamedTuple):
    """A client with the issued credential, or the error."""

    client: Client
    result: IssueResult | None
    error: EgecError | None


def find_refusal(client: Client) -> PermissionDenied | None:
    """Return why a client, such as a disabled one, may get no mail; None otherwise."""
    try:
        issue.require_email(client.identifier, client.email, client.disabled_at)
    except PermissionDenied as refusal:
        return refusal
    return None


def mail_each(
    context: Context,
    clients: Sequence[Client],
    *,
    hashing: Hashing | None = None,
    revoke: bool = False,
    new_transport: Callable[[Settings], Transport] = open_transport,
) -> Iterator[Issued]:
    """Issue and mail a credential for each client in turn, and yield each outcome; one failure does not stop the rest.

    Args:
        hashing: the first password, if its hash is being computed already.
        new_transport: opens the transport of a mail; each has its own, as a failure may leave it unusable.
    """
    for client in clients:
        # A password is for one client.
        new, hashing = hashing or start_hash(context.settings), None
        try:
            with closing(new_transport(context.settings)) as transport:
                result = issue.issue_by_mail(context, client, transport, hashing=new, revoke=revoke)
        except EgecError as error:
            yield Issued(client, None, error)
        else:
            yield Issued(client, result, None)
