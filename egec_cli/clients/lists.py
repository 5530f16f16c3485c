"""Which client files are listed or exported, and in what order: selectors, a search, a sort, a page.

Whatever their number, they are read one at a time, and a page is found by where it begins, never by counting what
comes before it.
"""

from collections.abc import Iterator, Sequence
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
    """By what a list may be sorted. Each has an index."""

    IDENTIFIER = "identifier"
    EMAIL = "email"
    REFERENCE = "reference"
    LAST_NAME = "last_name"
    CREATED_AT = "created_at"
    LAST_LOGIN_AT = "last_login_at"


class ListQuery(NamedTuple):
    """Which files, and in what order.

    Attributes:
        selection: the selectors; without any, everybody.
        search: part of the identifier, the e-mail, the reference or the names, in whatever case.
        sort: a `SortField`, after a `-` for the descending order; without it, files come in the order of the list that
            names them, or in which they were made. What has no value comes first, and in the descending order last.
        after: only what comes behind the file of this client, in that order.
    """

    selection: Selection = Selection()
    search: str = ""
    sort: str = ""
    after: Client | None = None


ALL_CLIENTS = ListQuery()


class ExportRecord(NamedTuple):
    """A file as it is moved elsewhere. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits, the client's for ever.
        email: the registered one.
        reference: the number of the client's file elsewhere.
        civility: `M.`, `Mme` and the like; may be empty.
        first_name: may be empty.
        last_name: that of a person or a firm; may be empty.
        language: of the mails, `fr` or `en`; empty for that of EGEC_LANGUAGE.
        disabled_at: since when no password opens the account.
        created_at: when the file was made.
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
    """The same with the bcrypt hash of the password in use, which is a secret. Times are RFC 3339 in UTC.

    Attributes:
        identifier: ten digits, the client's for ever.
        email: the registered one.
        reference: the number of the client's file elsewhere.
        civility: `M.`, `Mme` and the like; may be empty.
        first_name: may be empty.
        last_name: that of a person or a firm; may be empty.
        language: of the mails, `fr` or `en`; empty for that of EGEC_LANGUAGE.
        disabled_at: since when no password opens the account.
        created_at: when the file was made.
        password_hash: the hash; None where no password opens the account.
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
    password_hash: str | None


class HtpasswdRecord(NamedTuple):
    """A line of a file of Apache's `htpasswd`: the identifier and the hash, which is a secret."""

    line: str


def list_clients(context: Context, wanted: ListQuery = ALL_CLIENTS) -> Iterator[ClientRecord]:
    """Yield the files of the clients, one at a time.

    Raises:
        UsageError: the selectors or the sort cannot be.
        InvalidInput: a file that names clients cannot be read.
    """
    for row in _rows(context, wanted, records.record_columns(context.clock())):
        yield records.row_to_record(row)


def export_clients(
    context: Context, wanted: ListQuery = ALL_CLIENTS, *, with_hashes: bool = False
) -> Iterator[ExportRecord | ExportRecordWithHash]:
    """Yield what `client import` takes to make the same files elsewhere, one at a time.

    Args:
        context: where.
        wanted: which files.
        with_hashes: with the hashes of those passwords that open an account at this moment.

    Raises:
        UsageError: the selectors or the sort cannot be.
        InvalidInput: a file that names clients cannot be read.
    """
    columns: tuple[Any, ...] = (
        Client.identifier, Client.email, Client.reference, Client.civility, Client.first_name, Client.last_name,
        Client.language, rfc3339_sql(Client.disabled_at), rfc3339_sql(Client.created_at),
    )  # fmt: skip
    if with_hashes:
        columns += (_hash_in_use(context),)
    make = ExportRecordWithHash._make if with_hashes else ExportRecord._make
    for row in _rows(context, wanted, columns):
        yield make(row)


def list_htpasswd(context: Context, wanted: ListQuery = ALL_CLIENTS) -> Iterator[HtpasswdRecord]:
    """Yield a line for each of the clients who may log in at this moment by a password in use, one at a time.

    Raises:
        UsageError: the selectors or the sort cannot be.
        InvalidInput: a file that names clients cannot be read.
    """
    hash_in_use = _hash_in_use(context)
    may_log_in = (
        records.has_status(ClientStatus.ACTIVE, context.clock()),
        peewee.fn.EXISTS(hash_in_use.where(Credential.password_hash.is_null(False))),
    )
    for identifier, password_hash in _rows(context, wanted, (Client.identifier, hash_in_use), *may_log_in):
        yield HtpasswdRecord(f"{identifier}:{password_hash}")


def _hash_in_use(context: Context) -> Any:
    return Credential.select(Credential.password_hash).where(
        Credential.client == Client.id,
        Credential.sequence == Client.active_sequence,
        Credential.sequence >= Client.revoked_below,
        Credential.state == CredentialState.ACCEPTED,
        states.is_unexpired(context.clock()),
    )


def _rows(context: Context, wanted: ListQuery, columns: Sequence[Any], *conditions: Any) -> Iterator[tuple[Any, ...]]:
    selected = Selected(context, wanted.selection, to_mail=False)
    query, place = selected.unordered(*columns)
    if conditions:
        query = query.where(*conditions)
    if wanted.search.strip():
        query = query.where(contains_text(_searched_text(), _typed(wanted.search)))
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


def _typed(search: str) -> str:
    # What is no text in the terminal's encoding is in no file either.
    return fields.normalize(search.encode(errors="replace").decode())


def _searched_text() -> Any:
    """Return the expression of what is searched: lines, for what is searched for is none."""
    names = Client.first_name.concat(" ").concat(Client.last_name)
    turned = Client.last_name.concat(" ").concat(Client.first_name)
    text: Any = Client.identifier
    for line in (Client.email, peewee.fn.COALESCE(Client.reference, ""), names, turned):
        text = text.concat("\n").concat(line)
    return text


# A condition on what is found, if there is one, and an order.
_Part = tuple[Any, Sequence[Any]]


def _unsorted_part(selected: Selected, place: Any, after: Client | None) -> _Part:
    if after is None:
        return None, [place]
    if place is Client.id:
        return place > after.id, [place]
    query, _ = selected.unordered(place)
    found = [number for (number,) in fetch_tuples(query.where(Client.id == after.id))]
    if not found:
        raise UsageError(
            "client {identifier}, after whom the page is to begin, is not in the list",
            "Give the last client of the page before.",
            identifier=after.identifier,
        )
    return place > found[0], [place]


def _sorted_parts(wanted: ListQuery) -> Iterator[_Part]:
    """Yield the parts that a sorted list is made of, one behind the other: each is a range of one index."""
    is_descending = wanted.sort.startswith("-")
    column = _sort_column(wanted.sort.removeprefix("-"))
    by_key = [Client.id.desc()] if is_descending else [Client.id]
    by_value = [column.desc() if is_descending else column, *by_key]
    without_value: _Part = (column.is_null(), by_key)
    if wanted.after is None:
        parts = [without_value, (column.is_null(False), by_value)]
        yield from reversed(parts) if is_descending else parts
        return
    value = getattr(wanted.after, column.name)
    same = column.is_null() if value is None else column == value
    yield same & (Client.id < wanted.after.id if is_descending else Client.id > wanted.after.id), by_key
    if value is not None:
        yield (column < value if is_descending else column > value), by_value
        if is_descending:
            yield without_value
    elif not is_descending:
        yield column.is_null(False), by_value


def _sort_column(name: str) -> Any:
    if name not in set(SortField):
        raise UsageError(
            "a list is not sorted by {name!r}",
            "Use one of: {fields}; with a - before it for the descending order.",
            name=name,
            fields=", ".join(SortField),
        )
    return Client.email_key if name == SortField.EMAIL else getattr(Client, name)
