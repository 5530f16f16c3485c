"""Client files: made, found, shown."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli import email_address, identifier
from egec_cli.accounts import audit, credentials, fields
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.fields import ClientFields
from egec_cli.errors import AlreadyExists, BadInput, NoSuchClient
from egec_cli.store import peewee
from egec_cli.store.database import rfc3339_text, streamed
from egec_cli.store.models import Client, Credential, CredentialState
from egec_cli.translation import Words

REFERENCE_PREFIX = "ref:"
# Ten million times the present number of clients would have to exist before one try in a hundred fails.
_TRIES_FOR_A_FREE_IDENTIFIER = 20


class Status(StrEnum):
    """What a client may do at present; derived, never stored.

    One is expired whose password in use was never used, and does not open the account any more.
    """

    NEW = "new"
    ACTIVE = "active"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    DISABLED = "disabled"


class ClientRecord(NamedTuple):
    """A client's file as it is shown. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits, the client's for ever.
        email: the registered one; None where the file was erased.
        reference: the number of the client's file elsewhere.
        civility: `M.`, `Mme` and the like; may be empty.
        first_name: may be empty.
        last_name: that of a person or a firm; may be empty.
        language: of the mails, `fr` or `en`; empty for that of EGEC_LANGUAGE.
        status: what the client may do at present.
        last_sequence: how many passwords were made for the client.
        last_login_at: when a login was last accepted.
        created_at: when the file was made.
    """

    identifier: str
    email: str | None
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    status: Status
    last_sequence: int
    last_login_at: str | None
    created_at: str


class Found(NamedTuple):
    """A client who was asked for.

    Attributes:
        client: the client.
        is_new: whether the client was created only now.
    """

    client: Client
    is_new: bool


def create(egec: Egec, given: ClientFields) -> Client:
    """Create a client, as `find_or_create` does, unless the e-mail is taken.

    Raises:
        AlreadyExists: the e-mail, in any case or form, the reference or the identifier is taken.
    """
    return find_or_create(egec, given, if_missing=False).client


def find_or_create(egec: Egec, given: ClientFields, *, if_missing: bool = True) -> Found:
    """Return the client who has an e-mail, or create one.

    Args:
        egec: where.
        given: the fields of a new client; without an identifier, a free one is found.
        if_missing: return the client who already has this e-mail rather than raise.

    Raises:
        AlreadyExists: the e-mail, in any case or form, the reference or the identifier is taken.
    """
    for _ in range(_TRIES_FOR_A_FREE_IDENTIFIER):
        try:
            with egec.database.atomic():
                existing = Client.get_or_none(Client.email_key == given.email.key)
                if existing is not None:
                    if if_missing:
                        return Found(existing, is_new=False)
                    raise taken(
                        Words("e-mail"),
                        given.email.given,
                        existing,
                        Words(", or add --if-missing to go on in a script"),
                    )
                _require_free_reference(given)
                _require_free_identifier(given)
                client = _insert(egec, given)
                audit.record(egec, "client.create", "created", client=client)
                return Found(client, is_new=True)
        except peewee.IntegrityError:
            # Another process took the e-mail, the reference or the identifier in this moment: look again.
            continue
    raise AlreadyExists("no free identifier was found", "Run the same again.")


class Difference(NamedTuple):
    """A field for which other data was given than an existing client has."""

    field: str
    given: str
    stored: str


def differences(client: Client, given: ClientFields) -> Sequence[Difference]:
    """Return which of the given fields the client has otherwise; what was not given is no difference."""
    return [
        Difference(field, value, getattr(client, field) or "")
        for field in ("identifier", "reference", "civility", "first_name", "last_name", "language")
        if (value := getattr(given, field)) and value != getattr(client, field)
    ]


def _insert(egec: Egec, given: ClientFields) -> Client:
    moment = egec.clock()
    return Client.create(
        identifier=given.identifier or identifier.generate(),
        email=given.email.given,
        email_key=given.email.key,
        reference=given.reference,
        civility=given.civility,
        first_name=given.first_name,
        last_name=given.last_name,
        language=given.language,
        created_at=moment,
        updated_at=moment,
    )


def _require_free_reference(given: ClientFields) -> None:
    if given.reference is not None:
        existing = Client.get_or_none(Client.reference == given.reference)
        if existing is not None:
            raise taken(Words("reference"), given.reference, existing)


def _require_free_identifier(given: ClientFields) -> None:
    existing = given.identifier and Client.get_or_none(Client.identifier == given.identifier)
    if not existing:
        return
    if existing.email is None:
        raise AlreadyExists(
            "the identifier {identifier} is reserved for ever: its client was erased",
            "Leave --identifier out to get a free one.",
            code="identifier_reserved",
            identifier=given.identifier,
        )
    raise AlreadyExists(
        "the identifier {identifier} is taken", "Leave --identifier out to get a free one.", identifier=given.identifier
    )


def taken(field: str, value: str, existing: Client, or_else: str = "") -> AlreadyExists:
    """Return what to tell of a value that must be unique and is in another client's file."""
    return AlreadyExists(
        "the {field} {value} belongs to client {identifier} already",
        "Type `egec client show {identifier}`{or_else}.",
        field=field,
        value=value,
        identifier=existing.identifier,
        or_else=or_else,
    )


def find(text: str) -> Client:
    """Return the client of an e-mail, an identifier or `ref:REFERENCE`.

    Raises:
        NoSuchClient: there is none, or the text is none of the three.
    """
    # What is no text in the terminal's encoding is no client's either.
    wanted = text.encode(errors="replace").decode().strip()
    client = Client.get_or_none(_condition(wanted))
    if client is None:
        raise NoSuchClient(
            "no client has {wanted}",
            "Type `egec client list --search PART` to find a client by a part of the e-mail, name or reference.",
            wanted=_described(wanted),
        )
    return client


def _condition(wanted: str) -> peewee.Expression:
    if wanted.startswith(REFERENCE_PREFIX):
        return Client.reference == fields.composed(wanted.removeprefix(REFERENCE_PREFIX))
    if identifier.is_identifier(wanted):
        return Client.identifier == wanted
    if "@" in wanted:
        try:
            return Client.email_key == email_address.checked(wanted).key
        except BadInput as error:
            raise NoSuchClient(error.message, error.hint) from None
    raise NoSuchClient(
        "{wanted!r} is neither an e-mail nor an identifier of 10 digits",
        "For a reference, type {prefix}{wanted}.",
        wanted=wanted,
        prefix=REFERENCE_PREFIX,
    )


def _described(wanted: str) -> str:
    if wanted.startswith(REFERENCE_PREFIX):
        return Words("the reference {reference!r}", reference=wanted.removeprefix(REFERENCE_PREFIX))
    return Words("the e-mail {wanted!r}" if "@" in wanted else "the identifier {wanted!r}", wanted=wanted)


def shown(client: Client, moment: datetime) -> ClientRecord:
    """Return the file as it is stored, and as it is shown at this moment."""
    [record] = records(Client.select(*columns(moment)).where(Client.id == client.id))
    return record


def columns(moment: datetime) -> Sequence[Any]:
    """Return the columns of a query of what `ClientRecord` holds at this moment, for `records`."""
    by_status = [(has_status(status, moment), status.value) for status in Status if status is not Status.NEW]
    return (
        Client.identifier, Client.email, Client.reference, Client.civility, Client.first_name, Client.last_name,
        Client.language, peewee.Case(None, by_status, Status.NEW.value), Client.last_sequence,
        rfc3339_text(Client.last_login_at), rfc3339_text(Client.created_at),
    )  # fmt: skip


def records(query: Any) -> Iterator[ClientRecord]:
    """Yield the files that a query of `columns` finds, one at a time."""
    for row in streamed(query):
        yield record(row)


_STATUSES: dict[str, Status] = {status.value: status for status in Status}


def record(row: tuple[Any, ...]) -> ClientRecord:
    """Return the file of a row of `columns`."""
    return ClientRecord._make((*row[:7], _STATUSES[row[7]], *row[8:]))


def has_status(status: Status, moment: datetime) -> peewee.Expression:
    """Return the condition that a client has this status at this moment."""
    disabled = Client.disabled_at.is_null(False)
    blocked = Client.blocked_until.is_null(False) & (Client.blocked_until > moment)
    has_password = (Client.active_sequence >= 1) & (Client.active_sequence >= Client.revoked_below)
    expired = _password_in_use(~credentials.is_alive(moment))
    not_blocked = Client.blocked_until.is_null() | (Client.blocked_until <= moment)
    conditions: dict[Status, peewee.Expression] = {
        Status.DISABLED: disabled,
        Status.BLOCKED: ~disabled & blocked,
        Status.ACTIVE: ~disabled & not_blocked & has_password & ~expired,
        Status.EXPIRED: ~disabled & not_blocked & has_password & expired,
        Status.NEW: ~disabled & not_blocked & ~has_password,
    }
    return conditions[status]


def has_weak_hash(cost: int) -> Any:
    """Return the condition that the hash of a client's password in use is of a lower bcrypt cost than this one."""
    # As in $2b$12$…: the cost has two digits.
    weaker = peewee.fn.SUBSTR(Credential.password_hash, 5, 2) < f"{cost:02d}"
    return (Client.active_sequence >= Client.revoked_below) & _password_in_use(weaker)


def _password_in_use(condition: Any) -> Any:
    """Return the condition that a client's accepted credential meets this condition."""
    return peewee.fn.EXISTS(
        Credential.select(Credential.id).where(
            (Credential.client == Client.id)
            & (Credential.sequence == Client.active_sequence)
            & (Credential.state == CredentialState.ACCEPTED)
            & condition
        )
    )
