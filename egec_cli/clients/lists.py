"""List and export clients: selectors, search, sort order and pages.

Clients are read one at a time, and a page is found by its first key, never by counting the rows before it.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from egec_cli.clients import fields, records
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.errors import UsageError
from egec_cli.store import peewee
from egec_cli.store.models import Client, Credential, CredentialState
from egec_cli.store.sql import contains_text, fetch_tuples, rfc3339_sql, snapshot, stream_rows


class SortField(StrEnum):
    """The fields by which a list may be sorted. Each has an index."""

    IDENTIFIER = "identifier"
    EMAIL = "email"
    REFERENCE = "reference"
    LAST_NAME = "last_name"
    CREATED_AT = "created_at"
    LAST_LOGIN_AT = "last_login_at"


class ListQuery(NamedTuple):
    """Which clients to list, and in what order.

    Attributes:
        selection: the selectors; without any, all clients.
        search: part of the identifier, e-mail, reference or names, in any case.
        sort: a `SortField`, with a `-` before it for descending order; empty for the order of the list that names the
            clients, or of creation. Clients without a value come first; in descending order, last.
        after: list only clients after this one, in that order.
    """

    selection: Selection = Selection()
    search: str = ""
    sort: str = ""
    after: Client | None = None


ALL_CLIENTS = ListQuery()


class ExportRecord(NamedTuple):
    """A client as exported. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits; never changes.
        email: the registered e-mail.
        reference: the number of the client in another system.
        civility: such as `M.` or `Mme`; may be empty.
        first_name: may be empty.
        last_name: of a person or a firm; may be empty.
        language: of the mails, `fr` or `en`; empty for EGEC_LANGUAGE.
        disabled_at: since when the client is disabled.
        created_at: when the client was created.
    """

    identifier: str
    email: str
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: str | None
    created_at: str


class ExportRecordWithHash(NamedTuple):
    """The same with the bcrypt hash of the current password, which is a secret."""

    identifier: str
    email: str
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: str | None
    created_at: str
    password_hash: str | None


# The meanings of the shared fields stand in one place.
ExportRecordWithHash.__doc__ = (
    f"{ExportRecord.__doc__}    password_hash: the bcrypt hash; None if no password is valid.\n"
)


class HtpasswdRecord(NamedTuple):
    """A line of an Apache `htpasswd` file: the identifier and the hash, which is a secret."""

    line: str


def list_clients(
    context: Context, wanted: ListQuery = ALL_CLIENTS, *, selected: Selected | None = None
) -> Iterator[ClientRecord]:
    """Yield the records of the clients, one at a time.

    Args:
        selected: the clients of `wanted.selection`, if the caller has selected them, as for `Selected.unmatched`.

    Raises:
        UsageError: the selectors or the sort order are invalid.
        InvalidInput: a file that names clients is invalid.
    """
    for row in _stream_rows(context, wanted, records.record_columns(context.clock()), selected=selected):
        yield records.row_to_record(row)


def list_page(context: Context, wanted: ListQuery, selected: Selected) -> tuple[int, Iterator[ClientRecord]]:
    """Return the number of all clients of a list, without its limit, and the records as `list_clients` yields them.

    Raises:
        UsageError: the sort order is invalid.
    """
    total: int = _query(selected, wanted, [Client.id])[0].count()
    rows = _stream_selected(selected, wanted, records.record_columns(context.clock()))
    return total, map(records.row_to_record, rows)


def export_clients(
    context: Context,
    wanted: ListQuery = ALL_CLIENTS,
    *,
    with_hashes: bool = False,
    report_total: Callable[[int], None] | None = None,
    selected: Selected | None = None,
) -> Iterator[ExportRecord | ExportRecordWithHash]:
    """Yield records from which `client import` creates the same clients elsewhere, one at a time.

    Args:
        with_hashes: include the hashes of valid passwords.
        report_total: called with the number of records, before the first one; without it, they are not counted.
        selected: as for `list_clients`.

    Raises:
        UsageError: the selectors or the sort order are invalid.
        InvalidInput: a file that names clients is invalid.
    """
    columns: tuple[Any, ...] = (
        Client.identifier, Client.email, Client.reference, Client.civility, Client.first_name, Client.last_name,
        Client.language, rfc3339_sql(Client.disabled_at), rfc3339_sql(Client.created_at),
    )  # fmt: skip
    if with_hashes:
        columns += (_current_hash(context),)
    make = ExportRecordWithHash._make if with_hashes else ExportRecord._make
    selected = selected or Selected(context, wanted.selection, to_mail=False)
    if report_total is not None:
        report_total(_count(selected, wanted))
    for row in _stream_selected(selected, wanted, columns):
        yield make(row)


def list_htpasswd(
    context: Context, wanted: ListQuery = ALL_CLIENTS, *, selected: Selected | None = None
) -> Iterator[HtpasswdRecord]:
    """Yield a line for each client who can log in at this moment, one at a time.

    Args:
        selected: as for `list_clients`.

    Raises:
        UsageError: the selectors or the sort order are invalid.
        InvalidInput: a file that names clients is invalid.
    """
    current_hash = _current_hash(context)
    may_log_in = (
        records.has_status(ClientStatus.ACTIVE, context.clock()),
        peewee.fn.EXISTS(current_hash.where(Credential.password_hash.is_null(False))),
    )
    columns = (Client.identifier, current_hash)
    for identifier, password_hash in _stream_rows(context, wanted, columns, *may_log_in, selected=selected):
        yield HtpasswdRecord(f"{identifier}:{password_hash}")


def _current_hash(context: Context) -> Any:
    return Credential.select(Credential.password_hash).where(
        Credential.client == Client.id,
        Credential.sequence == Client.active_sequence,
        Credential.sequence >= Client.revoked_below,
        Credential.state == CredentialState.ACCEPTED,
        states.is_unexpired(context.clock()),
    )


def _stream_rows(
    context: Context, wanted: ListQuery, columns: Sequence[Any], *conditions: Any, selected: Selected | None
) -> Iterator[tuple[Any, ...]]:
    selected = selected or Selected(context, wanted.selection, to_mail=False)
    yield from _stream_selected(selected, wanted, columns, *conditions)


def _stream_selected(
    selected: Selected, wanted: ListQuery, columns: Sequence[Any], *conditions: Any
) -> Iterator[tuple[Any, ...]]:
    query, place = _query(selected, wanted, columns)
    if conditions:
        query = query.where(*conditions)
    left = wanted.selection.limit
    with snapshot():
        parts = _sorted_parts(wanted) if wanted.sort else [_unsorted_part(selected, place, wanted.after)]
        for condition, order in parts:
            part = query.order_by(*order).limit(left)
            for row in stream_rows(part if condition is None else part.where(condition)):
                left = left and left - 1
                yield row
            if left == 0:
                return


def _count(selected: Selected, wanted: ListQuery) -> int:
    """Return the number of the rows of a list, which its limit bounds."""
    number: int = _query(selected, wanted, [Client.id])[0].count()
    limit = wanted.selection.limit
    return number if limit is None else min(number, limit)


def _query(selected: Selected, wanted: ListQuery, columns: Sequence[Any]) -> tuple[Any, Any]:
    """Return the query of the list without order and limit, and the column to order it by."""
    query, place = selected.query_unordered(*columns)
    if wanted.search.strip():
        query = query.where(contains_text(_searched_text(), _normalize_search(wanted.search)))
    return query, place


def _normalize_search(search: str) -> str:
    # Bytes that are invalid in the terminal's encoding match nothing.
    return fields.normalize(search.encode(errors="replace").decode())


def _searched_text() -> Any:
    """Return the expression to search in. Line breaks separate its parts, as no search contains one."""
    names = Client.first_name.concat(" ").concat(Client.last_name)
    last_name_first = Client.last_name.concat(" ").concat(Client.first_name)
    text: Any = Client.identifier
    for line in (Client.email, peewee.fn.COALESCE(Client.reference, ""), names, last_name_first):
        text = text.concat("\n").concat(line)
    return text


# An optional condition, and an order.
_Part = tuple[Any, Sequence[Any]]


def _unsorted_part(selected: Selected, place: Any, after: Client | None) -> _Part:
    if after is None:
        return None, [place]
    if place is Client.id:
        return place > after.id, [place]
    query, _ = selected.query_unordered(place)
    found = [number for (number,) in fetch_tuples(query.where(Client.id == after.id))]
    if not found:
        raise UsageError(
            "client {identifier} of --after is not in the list",
            "Give the last client of the previous page.",
            identifier=after.identifier,
        )
    return place > found[0], [place]


def _sorted_parts(wanted: ListQuery) -> Iterator[_Part]:
    """Yield the parts of a sorted list in order; each is a range of one index."""
    is_descending = wanted.sort.startswith("-")
    name = wanted.sort.removeprefix("-")
    column, second = _sort_column(name), _second_column(name)

    def ordered(*columns: Any) -> Sequence[Any]:
        return [one.desc() for one in columns] if is_descending else columns

    without_value: _Part = (column.is_null(), ordered(Client.id))
    if wanted.after is None:
        parts = [without_value, (column.is_null(False), ordered(column, second))]
        yield from reversed(parts) if is_descending else parts
        return
    value = getattr(wanted.after, column.name)
    same, order = (column.is_null(), Client.id) if value is None else (column == value, second)
    last = getattr(wanted.after, order.name)
    yield same & (order < last if is_descending else order > last), ordered(order)
    if value is not None:
        yield (column < value if is_descending else column > value), ordered(column, second)
        if is_descending:
            yield without_value
    elif not is_descending:
        yield column.is_null(False), ordered(column, second)


def _second_column(name: str) -> Any:
    """Return the column that orders clients with the same value in the sort column; the index has it too."""
    return Client.email_share if name == SortField.EMAIL else Client.id


def _sort_column(name: str) -> Any:
    if name not in set(SortField):
        raise UsageError(
            "unknown sort field: {name!r}",
            "Use one of: {fields}; with - before it for descending order.",
            name=name,
            fields=", ".join(SortField),
        )
    return Client.email_key if name == SortField.EMAIL else getattr(Client, name)
