"""Client files: made, found, listed."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli import clock, email_address, identifier
from egec_cli.accounts import audit
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.fields import ClientFields
from egec_cli.errors import AlreadyExists, BadInput, NoSuchClient
from egec_cli.store import peewee
from egec_cli.store.models import Client

REFERENCE_PREFIX = "ref:"
# Ten million times the present number of clients would have to exist before one try in a hundred fails.
_TRIES_FOR_A_FREE_IDENTIFIER = 20


class Status(StrEnum):
    """What a client may do at present; derived, never stored."""

    NEW = "new"
    ACTIVE = "active"
    BLOCKED = "blocked"
    DISABLED = "disabled"


class ClientRecord(NamedTuple):
    """A client's file as it is shown. Times are RFC 3339 in UTC."""

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


def create(egec: Egec, fields: ClientFields, *, if_missing: bool = False) -> Client:
    """Make a client's file and return it.

    Args:
        egec: where.
        fields: what the file holds; without an identifier, a free one is found.
        if_missing: return the file that already has this e-mail rather than raise.

    Raises:
        AlreadyExists: the e-mail, in any case or form, the reference or the identifier is taken.
    """
    for _ in range(_TRIES_FOR_A_FREE_IDENTIFIER):
        try:
            with egec.database.atomic():
                existing = Client.get_or_none(Client.email_key == fields.email.key)
                if existing is not None:
                    if if_missing:
                        return existing
                    raise _taken("e-mail", fields.email.given, existing)
                _require_free_reference(fields)
                _require_free_identifier(fields)
                client = _insert(egec, fields)
                audit.record(egec, "client.create", "created", client=client)
                return client
        except peewee.IntegrityError:
            # Another process took the e-mail, the reference or the identifier in this moment: look again.
            continue
    raise AlreadyExists("no free identifier was found", "Run the same again.")


def _insert(egec: Egec, fields: ClientFields) -> Client:
    moment = egec.clock()
    return Client.create(
        identifier=fields.identifier or identifier.generate(),
        email=fields.email.given,
        email_key=fields.email.key,
        reference=fields.reference,
        civility=fields.civility,
        first_name=fields.first_name,
        last_name=fields.last_name,
        language=fields.language,
        created_at=moment,
        updated_at=moment,
    )


def _require_free_reference(fields: ClientFields) -> None:
    if fields.reference is not None:
        existing = Client.get_or_none(Client.reference == fields.reference)
        if existing is not None:
            raise _taken("reference", fields.reference, existing)


def _require_free_identifier(fields: ClientFields) -> None:
    if fields.identifier is not None and Client.get_or_none(Client.identifier == fields.identifier):
        raise AlreadyExists(f"the identifier {fields.identifier} is taken", "Leave --identifier out to get a free one.")


def _taken(field: str, value: str, existing: Client) -> AlreadyExists:
    in_a_script = ", or add --if-missing to go on in a script" if field == "e-mail" else ""
    return AlreadyExists(
        f"the {field} {value} belongs to client {existing.identifier} already",
        f"Type `egec client show {existing.identifier}`{in_a_script}.",
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
        raise NoSuchClient(f"no client has {_described(wanted)}", "Type `egec client list` to see all.")
    return client


def _condition(wanted: str) -> peewee.Expression:
    if wanted.startswith(REFERENCE_PREFIX):
        return Client.reference == wanted.removeprefix(REFERENCE_PREFIX).strip()
    if identifier.is_identifier(wanted):
        return Client.identifier == wanted
    if "@" in wanted:
        try:
            return Client.email_key == email_address.checked(wanted).key
        except BadInput as error:
            raise NoSuchClient(error.message, error.hint) from None
    raise NoSuchClient(
        f"{wanted!r} is neither an e-mail nor an identifier of 10 digits",
        f"For the number of a file elsewhere, type {REFERENCE_PREFIX}NUMBER.",
    )


def _described(wanted: str) -> str:
    if wanted.startswith(REFERENCE_PREFIX):
        return f"the reference {wanted.removeprefix(REFERENCE_PREFIX)!r}"
    return f"the {'e-mail' if '@' in wanted else 'identifier'} {wanted!r}"


def shown(client: Client, moment: datetime) -> ClientRecord:
    """Return the file as it is shown at this moment."""
    row = {column.name: getattr(client, column.name) for column in COLUMNS}
    return _record(row, clock.rfc3339(moment))


def listed(egec: Egec, *, status: Status | None = None, limit: int | None = None) -> Iterator[ClientRecord]:
    """Return the files in the order in which they were made, read one at a time.

    Args:
        egec: where.
        status: only clients of this status.
        limit: at most so many.
    """
    query = Client.select(*COLUMNS).order_by(Client.id)
    if status is not None:
        query = query.where(has_status(status, egec.clock()))
    if limit is not None:
        query = query.limit(limit)
    return records(query, egec.clock())


def records(query: Any, moment: datetime) -> Iterator[ClientRecord]:
    """Yield the files that a query of `COLUMNS` finds, as they are shown at this moment, one at a time."""
    now = clock.rfc3339(moment)
    for row in query.dicts().iterator():
        yield _record(row, now)


COLUMNS = (
    Client.identifier, Client.email, Client.reference, Client.civility, Client.first_name, Client.last_name,
    Client.language, Client.last_sequence, Client.last_login_at, Client.created_at, Client.disabled_at,
    Client.blocked_until, Client.active_sequence, Client.revoked_below,
)  # fmt: skip


def _record(row: dict[str, Any], moment: str) -> ClientRecord:
    times = {name: clock.rfc3339_or_none(row[name]) for name in ("last_login_at", "created_at", "blocked_until")}
    if row["disabled_at"] is not None:
        status = Status.DISABLED
    elif times["blocked_until"] is not None and times["blocked_until"] > moment:
        status = Status.BLOCKED
    elif row["active_sequence"] >= max(1, row["revoked_below"]):
        status = Status.ACTIVE
    else:
        status = Status.NEW
    return ClientRecord(
        identifier=row["identifier"],
        email=row["email"],
        reference=row["reference"],
        civility=row["civility"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        language=row["language"],
        status=status,
        last_sequence=row["last_sequence"],
        last_login_at=times["last_login_at"],
        created_at=times["created_at"] or "",
    )


def has_status(status: Status, moment: datetime) -> peewee.Expression:
    """Return the condition that says in SQL what `_record` says of one row."""
    disabled = Client.disabled_at.is_null(False)
    blocked = Client.blocked_until.is_null(False) & (Client.blocked_until > moment)
    active = (Client.active_sequence >= 1) & (Client.active_sequence >= Client.revoked_below)
    not_blocked = Client.blocked_until.is_null() | (Client.blocked_until <= moment)
    conditions: dict[Status, peewee.Expression] = {
        Status.DISABLED: disabled,
        Status.BLOCKED: ~disabled & blocked,
        Status.ACTIVE: ~disabled & not_blocked & active,
        Status.NEW: ~disabled & not_blocked & ~active,
    }
    return conditions[status]
