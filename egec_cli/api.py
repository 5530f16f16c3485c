"""The Python interface of egec: the only module that other programs may import.

    with api.open_context() as context:
        client = api.create_client(context, "jeanne@example.org", last_name="Dupont")
        api.issue_by_mail(context, client.identifier)

A context may be shared by threads: each function uses a connection of the calling thread. Every error is an `EgecError`
with a message, a hint, a stable code and an exit code, as on the command line.

May import: everything but `commands` and `main`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from egec_cli import context as contexts
from egec_cli import hashing
from egec_cli.clients import fields, records
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.context import Context
from egec_cli.credentials import issue, mail_route, validity
from egec_cli.credentials.issue import IssueResult, NewPassword
from egec_cli.errors import (
    AlreadyExists,
    ClientNotFound,
    ConfigError,
    EgecError,
    ExitCode,
    InvalidInput,
    PermissionDenied,
    StorageError,
    TemporaryFailure,
)
from egec_cli.logins import verify
from egec_cli.settings.load import load_settings
from egec_cli.settings.types import Settings

__all__ = [
    "AlreadyExists",
    "ClientNotFound",
    "ClientRecord",
    "ClientStatus",
    "ConfigError",
    "Context",
    "EgecError",
    "ExitCode",
    "InvalidInput",
    "IssueResult",
    "NewPassword",
    "PermissionDenied",
    "Settings",
    "StorageError",
    "TemporaryFailure",
    "create_client",
    "find_client",
    "issue_by_mail",
    "issue_to_operator",
    "load_settings",
    "open_context",
    "verify_login",
]


@contextmanager
def open_context(environ: Mapping[str, str] | None = None, *, create: bool = False) -> Iterator[Context]:
    """Load the settings and open the database for the `with` block.

    Args:
        environ: the variables to read the settings from, instead of the environment; the settings file counts too.
        create: create the database if it is missing.

    Raises:
        ConfigError: a setting is invalid, or the database is missing or has another schema.
        TemporaryFailure, PermissionDenied, StorageError: the database failed, then or within the block.
    """
    settings = load_settings(environ)
    if create:
        contexts.create_database(settings)
    with contexts.open_context(settings) as context:
        yield context


def verify_login(context: Context, identifier: str, password: str, *, origin: str = "") -> bool:
    """Return whether this identifier and password sign in. Failed logins are counted and limited.

    White space around both is ignored; case counts. Every refusal takes the same time, unless the network of the origin
    has too many failures: then its logins are refused unchecked.

    Args:
        context: the open context.
        identifier: as typed.
        password: as typed.
        origin: the IP address of the client; empty if unknown.

    Raises:
        TemporaryFailure: too many logins to this account are in progress. The login is not refused; try again.
    """
    with _connection(context):
        return verify.verify_login(context, identifier, password, origin=origin).accepted


def find_client(context: Context, client: str) -> ClientRecord:
    """Return the record of a client, given the identifier, e-mail or reference.

    Raises:
        ClientNotFound: the client is unknown, or several clients share the e-mail (`ambiguous_client`).
    """
    with _connection(context):
        return records.load_record(records.find_client(client), validity.local_moment(context))


def create_client(
    context: Context,
    email: str,
    *,
    civility: str = "",
    first_name: str = "",
    last_name: str = "",
    language: str = "",
    reference: str = "",
    identifier: str = "",
    valid_from: str = "",
    valid_until: str = "",
    if_missing: bool = False,
) -> ClientRecord:
    """Create a client without a password, and return the record with the new identifier.

    Args:
        context: the open context.
        email: the registered e-mail.
        civility: M., Mme, Mlle, Dr, Pr, Me, Mr, Mrs, Ms or Mx.
        first_name: the first name.
        last_name: the last name, or the name of the firm.
        language: fr or en (default: EGEC_LANGUAGE).
        reference: the number of the client in another system.
        identifier: 10 digits, to keep an identifier given elsewhere (default: a new one).
        valid_from: the first day of the validity, such as 2026-01-31 (default: no beginning).
        valid_until: the last day of the validity (default: no end).
        if_missing: return the client who already has this e-mail, unchanged, instead of raising. If EGEC_SHARED_EMAIL
            allows several, it is the one with this reference or identifier, or else the only one.

    Raises:
        InvalidInput: a value is invalid; the message names it.
        AlreadyExists: the e-mail, the reference or the identifier is taken.
        ClientNotFound: several clients share the e-mail, and none of them is meant for certain (`ambiguous_client`).
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no (`email_shared`), here and below.
    """
    given = fields.parse_fields(
        email,
        given_identifier=identifier,
        reference=reference,
        civility=civility,
        first_name=first_name,
        last_name=last_name,
        language=language,
        valid_from=valid_from,
        valid_until=valid_until,
    )
    with _connection(context):
        return records.load_record(
            records.find_or_create(context, given, if_missing=if_missing).client, validity.local_moment(context)
        )


def issue_by_mail(context: Context, client: str, *, revoke: bool = False) -> IssueResult:
    """Create a new password for a client and mail it; the earlier one works until the server has accepted the mail.

    Args:
        context: the open context.
        client: the e-mail, the identifier or `ref:REFERENCE`.
        revoke: revoke every earlier password immediately.

    Raises:
        ClientNotFound: the client is unknown, or several clients share the e-mail.
        PermissionDenied: the client is disabled or outside the validity, or has too many deliveries in doubt.
        TemporaryFailure: the client is being mailed already, the mail server is unavailable, or its answer was lost.
        EgecError: the mail was refused; nothing has changed for the client.
    """
    with _connection(context):
        found = records.find_client(client)
        mail_route.require(context)
        new_hash = hashing.start_hash(context.settings)
        return issue.mail_credential(context, found, hashing=new_hash, revoke=revoke)


def issue_to_operator(
    context: Context, client: str, show: Callable[[NewPassword], None], *, revoke: bool = False
) -> IssueResult:
    """Create a new password for a client and pass it to `show` instead of mailing it.

    Args:
        context: the open context.
        client: the e-mail, the identifier or `ref:REFERENCE`.
        show: receives the identifier and the password; once it returns, only the new password signs in.
        revoke: revoke every earlier password before it is shown.

    Raises:
        ClientNotFound: the client is unknown, or several clients share the e-mail.
        PermissionDenied: the client is disabled or outside the validity, or has too many deliveries in doubt.
        TemporaryFailure: the client is being mailed.
    """
    with _connection(context):
        found = records.find_client(client)
        new_hash = hashing.start_hash(context.settings)
        return issue.issue_to_operator(context, found, show, hashing=new_hash, revoke=revoke)


def _connection(context: Context) -> Any:
    """Return a `with` block in which the calling thread has a connection: its own, if it has none yet."""
    return nullcontext() if not context.database.is_closed() else context.database.connection_context()
