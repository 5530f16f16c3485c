"""Create and find clients, and load their records."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli import email_address, identifier
from egec_cli.audit.events import record_event
from egec_cli.clients import fields
from egec_cli.clients.fields import ClientFields
from egec_cli.context import Context
from egec_cli.credentials import shared_emails, states, validity
from egec_cli.credentials.validity import LocalMoment
from egec_cli.errors import AlreadyExists, ClientNotFound, InvalidInput
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, CredentialState
from egec_cli.store.sql import contains_text, rfc3339_sql, stream_rows
from egec_cli.translation import Words

REFERENCE_PREFIX = "ref:"
# Of 9,000,000,000 identifiers most are free, so a second try is rare.
_TRIES_FOR_A_FREE_IDENTIFIER = 20


class ClientStatus(StrEnum):
    """The present status of a client; derived, never stored.

    If several apply: `disabled`, then `inactive`, then `blocked`, then one of the others. `inactive`: the day is
    outside the validity. `expired`: the current password was never used, and its time to do so is over.
    """

    NEW = "new"
    ACTIVE = "active"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    DISABLED = "disabled"
    INACTIVE = "inactive"


class ClientRecord(NamedTuple):
    """A client as shown. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits; never changes.
        email: the registered e-mail; None if the client was erased.
        reference: the number of the client in another system.
        civility: such as `M.` or `Mme`; may be empty.
        first_name: may be empty.
        last_name: of a person or a firm; may be empty.
        language: of the mails, `fr` or `en`; empty for EGEC_LANGUAGE.
        status: the present status.
        last_sequence: how many passwords were created for the client.
        last_login_at: the time of the last accepted login.
        created_at: when the client was created.
        valid_from: the first day of the validity, such as `2026-01-31`; None without a beginning.
        valid_until: the last day of the validity; None without an end.
    """

    identifier: str
    email: str | None
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    status: ClientStatus
    last_sequence: int
    last_login_at: str | None
    created_at: str
    valid_from: str | None
    valid_until: str | None


class FoundClient(NamedTuple):
    """A client found or just created."""

    client: Client
    is_new: bool


# Of several matches, the number that is listed.
MOST_LISTED = 10


class AmbiguousClient(ClientNotFound):
    """Several clients match.

    Attributes:
        clients: the first ones.
    """

    def __init__(self, message: str, hint: str, clients: Sequence[Client]) -> None:
        super().__init__(message, hint, code="ambiguous_client")
        self.clients = clients[:MOST_LISTED]


def create_client(context: Context, given: ClientFields) -> Client:
    """Create a client.

    Raises:
        AlreadyExists: the e-mail, in any case or form, the reference or the identifier is taken.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
    """
    return find_or_create(context, given, if_missing=False).client


def find_or_create(context: Context, given: ClientFields, *, if_missing: bool = True) -> FoundClient:
    """Return the client who has an e-mail, or create one.

    Args:
        given: the fields of a new client; without an identifier, a free one is generated.
        if_missing: return the client who already has this e-mail instead of raising. If EGEC_SHARED_EMAIL allows
            several, it is the one with this reference or identifier, or else the only one.

    Raises:
        AlreadyExists: the e-mail, in any case or form, the reference or the identifier is taken.
        AmbiguousClient: several clients have the e-mail, and no reference or identifier decides.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
    """
    for _ in range(_TRIES_FOR_A_FREE_IDENTIFIER):
        try:
            with context.database.atomic():
                shared_emails.require_allowed(context)
                existing = shared_emails.find_with_email(given.email.key)
                if existing and if_missing:
                    found = _choose_same(existing, given) if context.settings.shared_email else existing[0]
                    if found is not None:
                        return FoundClient(found, is_new=False)
                elif existing and not context.settings.shared_email:
                    or_else = Words(", or add --if-missing to accept it in a script")
                    raise already_taken_error(Words("e-mail"), given.email.given, existing[0], or_else)
                _require_free_reference(given)
                _require_free_identifier(given)
                client = _insert(context, given)
                record_event(context, "client.create", "created", client=client)
                return FoundClient(client, is_new=True)
        except peewee.IntegrityError:
            # Another process has just taken the e-mail, the reference or the identifier: look again.
            continue
    raise AlreadyExists("no free identifier was found", "Try again.")


def _choose_same(existing: Sequence[Client], given: ClientFields) -> Client | None:
    """Return the client among those with the same e-mail who is meant; None if a further one is meant."""
    for field in ("identifier", "reference"):
        for one in existing:
            if getattr(given, field) and getattr(one, field) == getattr(given, field):
                return one
    is_other = given.identifier or (given.reference and existing[0].reference)
    if len(existing) == 1:
        return None if is_other else existing[0]
    if given.identifier or given.reference:
        return None
    raise ambiguous_email_error(given.email.given, existing, Words("Add --reference to tell them apart."))


_COMPARED = (
    "identifier", "reference", "civility", "first_name", "last_name", "language", "valid_from", "valid_until",
)  # fmt: skip


class Difference(NamedTuple):
    """A given field that differs from an existing client's."""

    field: str
    given: str
    stored: str


def list_differences(client: Client, given: ClientFields) -> Sequence[Difference]:
    """Return the given fields that differ from the client's; fields not given are ignored."""
    return [
        Difference(field, value, getattr(client, field) or "")
        for field in _COMPARED
        if (value := getattr(given, field)) and value != getattr(client, field)
    ]


def _insert(context: Context, given: ClientFields) -> Client:
    moment = context.clock()
    client = Client.create(
        identifier=given.identifier or identifier.generate_identifier(),
        email=given.email.given,
        email_key=given.email.key,
        email_share=shared_emails.next_number(given.email.key) if context.settings.shared_email else 0,
        reference=given.reference,
        civility=given.civility,
        first_name=given.first_name,
        last_name=given.last_name,
        language=given.language,
        valid_from=given.valid_from,
        valid_until=given.valid_until,
        created_at=moment,
        updated_at=moment,
    )
    if not client.email_share:
        return client
    shared_emails.copy_marks([client.id])
    return Client.get_by_id(client.id)


def _require_free_reference(given: ClientFields) -> None:
    if given.reference is not None:
        existing = Client.get_or_none(Client.reference == given.reference)
        if existing is not None:
            raise already_taken_error(Words("reference"), given.reference, existing)


def _require_free_identifier(given: ClientFields) -> None:
    existing = given.identifier and Client.get_or_none(Client.identifier == given.identifier)
    if not existing:
        return
    if existing.email is None:
        raise AlreadyExists(
            "the identifier {identifier} is reserved: its client was erased",
            "Omit --identifier to get a free one.",
            code="identifier_reserved",
            identifier=given.identifier,
        )
    raise AlreadyExists(
        "the identifier {identifier} is taken", "Omit --identifier to get a free one.", identifier=given.identifier
    )


def already_taken_error(field: str, value: str, existing: Client, or_else: str = "") -> AlreadyExists:
    """Return the error for a unique value that belongs to another client."""
    return AlreadyExists(
        "the {field} {value} already belongs to client {identifier}",
        "Type `egec client show {identifier}`{or_else}.",
        field=field,
        value=value,
        identifier=existing.identifier,
        or_else=or_else,
    )


def ambiguous_email_error(email: str, clients: Sequence[Client], hint: str = "") -> AmbiguousClient:
    """Return the error for an e-mail that several clients share, where one client is meant."""
    return AmbiguousClient(
        Words("{number} clients have the e-mail {email}", number=len(clients), email=email),
        hint or Words("Type the identifier of one of them, as in `egec client show IDENTIFIER`."),
        clients,
    )


def find_client(text: str) -> Client:
    """Return the client with this identifier, e-mail or reference, tried in this order, or this `ref:REFERENCE`.

    Raises:
        ClientNotFound: no client has it.
        AmbiguousClient: several clients share this e-mail.
    """
    wanted = clean_key(text)
    client = look_up(wanted)
    if client is None:
        raise _unknown_client(wanted)
    return client


def clean_key(text: str) -> str:
    """Return typed text without surrounding white space; bytes that are not UTF-8 match no client."""
    return text.encode(errors="replace").decode().strip()


def look_up(wanted: str) -> Client | None:
    """Return the client as `find_client` does, or None; `wanted` comes from `clean_key`.

    Raises:
        AmbiguousClient: several clients share this e-mail.
    """
    if "\0" in wanted:
        # PostgreSQL refuses to compare it.
        return None
    if wanted.startswith(REFERENCE_PREFIX):
        return Client.get_or_none(Client.reference == fields.normalize(wanted.removeprefix(REFERENCE_PREFIX)))
    found = None
    if identifier.is_identifier(wanted):
        found = Client.get_or_none(Client.identifier == wanted)
    elif "@" in wanted:
        sharers = find_by_email(wanted)
        if len(sharers) > 1:
            raise ambiguous_email_error(wanted, sharers)
        found = sharers[0] if sharers else None
    reference = fields.normalize(wanted)
    if found is None and reference:
        found = Client.get_or_none(Client.reference == reference)
    return found


def find_by_email(wanted: str) -> Sequence[Client]:
    """Return the clients who have this e-mail, the first one first; none for any other text."""
    # An invalid address may still be a reference.
    with suppress(InvalidInput):
        if "@" in wanted and "\0" not in wanted and not wanted.startswith(REFERENCE_PREFIX):
            return shared_emails.find_with_email(email_address.parse_email(wanted).key)
    return ()


def find_by_part(text: str) -> Client | None:
    """Return the only client whose names and e-mail contain each word of a text, in any case; None without a match.

    A complete key, such as an identifier or an e-mail, is never taken for a part: it may be mistyped.

    Raises:
        AmbiguousClient: several clients match.
    """
    wanted = clean_key(text)
    words = fields.normalize(wanted).split()
    if not words or "\0" in wanted or _is_complete_key(wanted):
        return None
    conditions = [
        contains_text(Client.first_name, word)
        | contains_text(Client.last_name, word)
        | contains_text(Client.email, word)
        for word in words
    ]
    query = Client.select().where(Client.email.is_null(False), *conditions)
    found = list(query.order_by(Client.last_name, Client.first_name, Client.id).limit(MOST_LISTED))
    if len(found) > 1:
        raise AmbiguousClient(
            Words(
                "{wanted!r} matches {number} clients",
                wanted=wanted,
                number=len(found) if len(found) < MOST_LISTED else query.count(),
            ),
            Words("Type the identifier of one of them, or more words."),
            found,
        )
    return found[0] if found else None


def _is_complete_key(wanted: str) -> bool:
    if wanted.startswith(REFERENCE_PREFIX) or identifier.is_identifier(wanted):
        return True
    if "@" not in wanted:
        return False
    try:
        email_address.parse_email(wanted)
    except InvalidInput:
        return False
    return True


def describe_client(client: Client) -> str:
    """Return a client in words: `M. Marc PETIT, marc@example.org, 5079512743`."""
    name = " ".join(filter(None, (client.civility, client.first_name, client.last_name)))
    return ", ".join(filter(None, (name, client.email, client.identifier)))


def _unknown_client(wanted: str) -> ClientNotFound:
    if "@" in wanted and not wanted.startswith(REFERENCE_PREFIX):
        try:
            email_address.parse_email(wanted)
        except InvalidInput as error:
            return ClientNotFound(error.message, error.hint)
    return ClientNotFound(
        "no client has {wanted}",
        "Type `egec client list --search PART` to find a client by part of the e-mail, name or reference.",
        wanted=_describe_key(wanted),
    )


def _describe_key(wanted: str) -> str:
    if wanted.startswith(REFERENCE_PREFIX):
        return Words("the reference {reference!r}", reference=wanted.removeprefix(REFERENCE_PREFIX))
    if "@" in wanted:
        return Words("the e-mail {wanted!r}", wanted=wanted)
    if identifier.is_identifier(wanted):
        return Words("the identifier {wanted!r}", wanted=wanted)
    return Words("the e-mail, identifier or reference {wanted!r}", wanted=wanted)


def load_record(client: Client, now: LocalMoment) -> ClientRecord:
    """Return the stored record of a client, with the present status."""
    [record] = stream_records(Client.select(*record_columns(now)).where(Client.id == client.id), now)
    return record


def record_columns(now: LocalMoment) -> Sequence[Any]:
    """Return the columns of a query for `stream_records`."""
    return (
        Client.identifier, Client.email, Client.reference, Client.civility, Client.first_name, Client.last_name,
        Client.language, status_column(now.at), Client.last_sequence,
        rfc3339_sql(Client.last_login_at), rfc3339_sql(Client.created_at), Client.valid_from, Client.valid_until,
    )  # fmt: skip


def stream_records(query: Any, now: LocalMoment) -> Iterator[ClientRecord]:
    """Yield the records of a query of `record_columns`, one at a time."""
    yield from rows_to_records(stream_rows(query), now)


def rows_to_records(rows: Iterable[tuple[Any, ...]], now: LocalMoment) -> Iterator[ClientRecord]:
    """Yield the records of rows of `record_columns`."""
    for row in rows:
        yield row_to_record(row, now)


_STATUSES: dict[str, ClientStatus] = {status.value: status for status in ClientStatus}


def row_to_record(row: tuple[Any, ...], now: LocalMoment) -> ClientRecord:
    """Return the record of a row of `record_columns`."""
    return ClientRecord._make((*row[:7], present_status(row[7], row[11], row[12], now), *row[8:]))


def status_column(moment: datetime) -> Any:
    """Return the SQL expression of the status apart from the validity, for `present_status`."""
    by_status = (
        (_is_disabled(), ClientStatus.DISABLED),
        (_is_blocked(moment), ClientStatus.BLOCKED),
        (_has_password() & _has_expired(moment), ClientStatus.EXPIRED),
        (_has_password(), ClientStatus.ACTIVE),
    )
    return peewee.Case(None, [(condition, status.value) for condition, status in by_status], ClientStatus.NEW.value)


def present_status(
    apart_from_validity: str, valid_from: str | None, valid_until: str | None, now: LocalMoment
) -> ClientStatus:
    """Return the status of a client, given the value of `status_column`; it seldom needs a time zone."""
    status = _STATUSES[apart_from_validity]
    if (valid_from or valid_until) and status is not ClientStatus.DISABLED:
        return status if now.is_within(valid_from, valid_until) else ClientStatus.INACTIVE
    return status


def has_status(status: ClientStatus, now: LocalMoment) -> peewee.Expression:
    """Return the SQL condition that a client has this status."""
    is_valid = validity.is_valid_at(now)
    may_try = ~_is_disabled() & is_valid & ~_is_blocked(now.at)
    conditions: dict[ClientStatus, peewee.Expression] = {
        ClientStatus.DISABLED: _is_disabled(),
        ClientStatus.INACTIVE: ~_is_disabled() & ~is_valid,
        ClientStatus.BLOCKED: ~_is_disabled() & is_valid & _is_blocked(now.at),
        ClientStatus.ACTIVE: may_try & _has_password() & ~_has_expired(now.at),
        ClientStatus.EXPIRED: may_try & _has_password() & _has_expired(now.at),
        ClientStatus.NEW: may_try & ~_has_password(),
    }
    return conditions[status]


# True or false for every client, never NULL, so that they can be negated.


def _is_disabled() -> Any:
    return Client.disabled_at.is_null(False)


def _is_blocked(moment: datetime) -> Any:
    return Client.blocked_until.is_null(False) & (Client.blocked_until > moment)


def _has_password() -> Any:
    return (Client.active_sequence >= 1) & (Client.active_sequence >= Client.revoked_below)


def _has_expired(moment: datetime) -> Any:
    return _password_in_use(~states.is_unexpired(moment))


def has_weak_hash(cost: int) -> Any:
    """Return the condition that the hash of a client's current password has a lower bcrypt cost than this one."""
    # The cost has two digits, as in $2b$12$….
    weaker = peewee.fn.SUBSTR(Credential.password_hash, 5, 2) < f"{cost:02d}"
    return (Client.active_sequence >= Client.revoked_below) & _password_in_use(weaker)


def _password_in_use(condition: Any) -> Any:
    """Return the condition that the credential of a client's current password meets another condition."""
    return peewee.fn.EXISTS(
        Credential.select(Credential.id).where(
            (Credential.client == Client.id)
            & (Credential.sequence == Client.active_sequence)
            & (Credential.state == CredentialState.ACCEPTED)
            & condition
        )
    )
