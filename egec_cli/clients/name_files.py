"""Find the clients that files name: one on each line, or in one column of a table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

from egec_cli import email_address, identifier
from egec_cli.clients import fields
from egec_cli.clients.records import REFERENCE_PREFIX
from egec_cli.context import Context
from egec_cli.errors import InvalidInput
from egec_cli.output.formats import remove_guard
from egec_cli.store import peewee
from egec_cli.store.models import Client, Table
from egec_cli.store.sql import fetch_tuples, insert_many

_LINES_AT_A_TIME = 5000
# A compromise: short transactions, but not too many commits.
_CHANGED_AT_A_TIME = 500
_LONGEST_LINE = 100_000
# Longer than any e-mail or reference.
_LONGEST_NAME = 1000


class ClientList(NamedTuple):
    """A file that names clients, one per line, or in one column of a CSV table.

    Attributes:
        name: of the file, for messages.
        stream: its bytes.
        column: the header of the column; empty if each whole line is a name.
    """

    name: str
    stream: BinaryIO
    column: str = ""


class _Named(Table):
    """A line of a file, in a temporary table."""

    is_excluded = peewee.BooleanField()
    line = peewee.IntegerField(index=True)
    value = peewee.TextField()
    identifier = peewee.TextField(null=True)
    email_key = peewee.TextField(null=True)
    reference = peewee.TextField(null=True)
    client = peewee.IntegerField(null=True, index=True)

    class Meta:
        table_name = "named_client"
        temporary = True
        primary_key = False


class NamedLine(NamedTuple):
    """A line of a file, its text, the key of the client that it names, if any, or whether it names several."""

    line: int
    value: str
    client: int | None
    is_shared: bool


class ListDigest(NamedTuple):
    """What makes two lists the same: the digest of the bytes, and the column. Kept in memory only."""

    sha256: str
    column: str


class NamedClients:
    """The clients that files name, in a temporary table.

    Attributes:
        digests: the digests of the files, by `listed` and `excluded`.
    """

    def __init__(self, context: Context, files: Mapping[str, ClientList | None], *conditions: Any) -> None:
        """Read the files, and find the clients that they name.

        Args:
            files: the files, by `listed` and `excluded`.
            conditions: on the clients.

        Raises:
            InvalidInput: a file is not UTF-8, is invalid CSV or lacks the column.
        """
        # Imported here: it loads OpenSSL, and few commands read such a file.
        import hashlib

        _Named.drop_table()
        _Named.create_table()
        self.digests: dict[str, ListDigest] = {}
        for field, file in files.items():
            if file is not None:
                digest = hashlib.sha256()
                _store_lines(context, file, digest, is_excluded=field == "excluded")
                self.digests[field] = ListDigest(digest.hexdigest(), file.column)
        _resolve(*conditions)

    def query_listed(self) -> Any:
        """Return a query, for a join, of the listed clients, each with the first line that names it."""
        named = _Named.select(_Named.client, peewee.fn.MIN(_Named.line).alias("line")).where(~_Named.is_excluded)
        return named.group_by(_Named.client).alias("listed")

    def is_excluded(self, client: Any) -> Any:
        """Return the condition that a client is excluded."""
        # With NOT IN, PostgreSQL would scan a long list once per client.
        return peewee.fn.EXISTS(_Named.select(_Named.line).where((_Named.client == client) & _Named.is_excluded))

    def unmatched(self) -> Iterator[tuple[bool, int, str, bool]]:
        """Yield the lines that match no client as (is excluded, line, value, is shared), listed lines first."""
        columns = (_Named.is_excluded, _Named.line, _Named.value, _is_shared())
        lines = _Named.select(*columns).where(_Named.client.is_null())
        yield from fetch_tuples(lines.order_by(_Named.is_excluded, _Named.line))

    def read_lines(self) -> Iterator[Sequence[NamedLine]]:
        """Yield the lines in order, in batches."""
        last = 0
        while lines := self._lines_after(last):
            yield lines
            last = lines[-1].line

    @staticmethod
    def count_lines() -> int:
        """Return the number of lines that `read_lines` yields."""
        return int(_Named.select().count())

    @staticmethod
    def _lines_after(last: int) -> Sequence[NamedLine]:
        named = _Named.select(_Named.line, _Named.value, _Named.client, _is_shared()).where(_Named.line > last)
        return [NamedLine(*row) for row in fetch_tuples(named.order_by(_Named.line).limit(_CHANGED_AT_A_TIME))]


def _store_lines(context: Context, listed: ClientList, digest: Any, *, is_excluded: bool) -> None:
    rows = (
        (is_excluded, line, value[:_LONGEST_NAME], *_parse_keys(value)) for line, value in _read_values(listed, digest)
    )
    columns = ("is_excluded", "line", "value", "identifier", "email_key", "reference")
    while chunk := list(islice(rows, _LINES_AT_A_TIME)):
        insert_many(context.database, "named_client", columns, chunk)


def _read_values(listed: ClientList, digest: Any) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each name, without empty ones."""
    lines = _read_lines(listed, digest)
    if listed.column:
        yield from _read_cells(listed, lines)
        return
    for number, line in enumerate(lines, 1):
        value = line.strip()
        if "\r" in value:
            raise InvalidInput(
                "{name}:{number}: carriage return within a line",
                "Save the file with Unix or Windows line breaks.",
                name=listed.name,
                number=number,
            )
        if value:
            yield number, value


def _read_cells(listed: ClientList, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    # Imported here: most files that name clients are not tables.
    import csv

    first = next(lines, "")
    # Text in quotes says nothing about the delimiter.
    delimiter = max(";,\t", key=re.sub(r'"[^"]*"', "", first).count)
    # Strict, because otherwise an unclosed quote swallows the lines below it.
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        place = _find_column(listed, next(reader, []))
        number = reader.line_num + 1
        for row in reader:
            # A row that lacks only this cell is reported as unmatched.
            if any(cell.strip() for cell in row):
                yield number, remove_guard(row[place].strip()) if len(row) > place else ""
            number = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            "{name}:{line}: {error}", "Save the file as CSV.", name=listed.name, line=reader.line_num, error=error
        ) from None


def _find_column(listed: ClientList, header: list[str]) -> int:
    try:
        return [fields.normalize(name).casefold() for name in header].index(fields.normalize(listed.column).casefold())
    except ValueError:
        raise InvalidInput(
            "{name} has no column {column!r}",
            "Its columns are: {columns}.",
            name=listed.name,
            column=listed.column,
            columns=", ".join(header) or "none",
        ) from None


def _read_lines(listed: ClientList, digest: Any) -> Iterator[str]:
    number = 0
    while line := listed.stream.readline(_LONGEST_LINE + 1):
        number += 1
        digest.update(line)
        if len(line) > _LONGEST_LINE:
            raise InvalidInput(
                "{name}:{number}: the line is longer than {most} bytes",
                "Name one client per line.",
                name=listed.name,
                number=number,
                most=_LONGEST_LINE,
            )
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = ""
        # PostgreSQL refuses NUL; a file that contains one is UTF-16 or binary.
        if not text or "\0" in text:
            raise InvalidInput(
                "{name}:{number}: not UTF-8 text", "Save the file as UTF-8.", name=listed.name, number=number
            )
        # The byte order mark of spreadsheets, which joined files contain anywhere.
        yield text.removeprefix("\ufeff")


def _parse_keys(value: str) -> tuple[str | None, str | None, str | None]:
    """Return the identifier, the e-mail key and the reference that a name may be, in order of precedence."""
    if len(value) > _LONGEST_NAME:
        return None, None, None
    reference = fields.normalize(value)
    if reference.startswith(REFERENCE_PREFIX):
        return None, None, reference.removeprefix(REFERENCE_PREFIX).strip()
    email_key = None
    if "@" in value:
        # An invalid address may still be a reference.
        with suppress(InvalidInput):
            email_key = email_address.parse_email(value).key
    return (value if identifier.is_identifier(value) else None), email_key, reference


def _is_shared() -> Any:
    # A number: peewee would take a condition for a text.
    return peewee.Case(None, [(_names_several(), 1)], 0)


def _names_several() -> Any:
    """Return the condition that a line names an e-mail that several clients share."""
    return _Named.client.is_null() & peewee.fn.EXISTS(
        Client.select(Client.id).where(Client.email_key == _Named.email_key)
    )


def _resolve(*conditions: Any) -> None:
    """Find the clients that meet these conditions and match the names, by index.

    A line with an e-mail that several clients share selects none of them, but excludes all of them.
    """
    for field in ("identifier", "email_key", "reference"):
        named, column = getattr(_Named, field), getattr(Client, field)
        found = Client.select(peewee.fn.MIN(Client.id)).where(column == named, *conditions)
        only = found.group_by(column).having(peewee.fn.COUNT(Client.id) == 1)
        _Named.update(client=only).where(_Named.client.is_null() & named.is_null(False)).execute()
    shared = _Named.select(_Named.is_excluded, _Named.line, _Named.value, Client.id).join(
        Client, on=(Client.email_key == _Named.email_key)
    )
    columns = [_Named.is_excluded, _Named.line, _Named.value, _Named.client]
    _Named.insert_from(shared.where(_Named.client.is_null() & _Named.is_excluded, *conditions), columns).execute()
    _Named.delete().where(_names_several() & _Named.is_excluded).execute()
