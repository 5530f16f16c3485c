"""Issue a credential for each of several clients who share an e-mail. Each is settled by itself."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.credentials.issue import IssueResult
from egec_cli.errors import EgecError, PermissionDenied
from egec_cli.hashing import Hashing, start_hash
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
    context: Context, clients: Sequence[Client], *, hashing: Hashing | None = None, revoke: bool = False
) -> Iterator[Issued]:
    """Issue and mail a credential for each client in turn, and yield each outcome; one failure does not stop the rest.

    Args:
        hashing: the first password, if its hash is being computed already.
    """
    for client in clients:
        try:
            new = hashing or start_hash(context.settings)
            yield Issued(client, issue.mail_credential(context, client, hashing=new, revoke=revoke), None)
        except EgecError as error:
            yield Issued(client, None, error)
        # A password is for one client.
        hashing = None
