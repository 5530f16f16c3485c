"""A file that names clients, as a command is given it."""

import hashlib
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
from egec_cli.output.formula_guard import remove_guard
from egec_cli.store import peewee
from egec_cli.store.models import Client, Table
from egec_cli.store.sql import fetch_tuples, insert_many


class ClientList(NamedTuple):
    """A file that names clients, one on each line, or in one column of a table with a header.

    Attributes:
        name: of the file, for messages.
        stream: its bytes.
        column: the header of the column; empty where the whole line is the name.
    """

    name: str
    stream: BinaryIO
    column: str = ""


_LINES_AT_A_TIME = 5000
# So many that a transaction is soon over, so few that the commits take the smaller part of the time.
_CHANGED_AT_A_TIME = 500
_LONGEST_LINE = 100_000
# No e-mail and no reference is as long, in whatever form.
_LONGEST_NAME = 1000


class _Named(Table):
    """A line of a file that names clients, for as long as the database is open."""

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
    """A line of a file, what it says, and the key of the client whom it names, if it names one."""

    line: int
    value: str
    client: int | None


class ListDigest(NamedTuple):
    """By what a file that names clients is recognised: the digest of its bytes, in memory alone, and the column."""

    sha256: str
    column: str


class NamedClients:
    """The clients whom files name, noted in a table for as long as the database is open.

    Attributes:
        digests: by what each file is recognised, by `listed` and `excluded`.
    """

    def __init__(self, context: Context, files: Mapping[str, ClientList | None], *conditions: Any) -> None:
        """Read files, and find the clients whom they name among those for whom the conditions hold.

        Args:
            context: where.
            files: by `listed` and `excluded`.
            conditions: on the clients.

        Raises:
            InvalidInput: a file is no UTF-8 text, or no CSV, or lacks the column.
        """
        _Named.drop_table()
        _Named.create_table()
        self.digests: dict[str, ListDigest] = {}
        for field, file in files.items():
            if file is not None:
                digest = hashlib.sha256()
                _note(context, file, digest, is_excluded=field == "excluded")
                self.digests[field] = ListDigest(digest.hexdigest(), file.column)
        _resolve(*conditions)

    def listed(self) -> Any:
        """Return the query, for a join, of the clients who are listed, each with the first line that names it."""
        named = _Named.select(_Named.client, peewee.fn.MIN(_Named.line).alias("line")).where(~_Named.is_excluded)
        return named.group_by(_Named.client).alias("listed")

    def excludes(self, client: Any) -> Any:
        """Return the condition that a client is one of those who are excluded."""
        # PostgreSQL would look through the whole of a long list again for each client if this were a NOT IN.
        return peewee.fn.EXISTS(_Named.select(_Named.line).where((_Named.client == client) & _Named.is_excluded))

    def strangers(self) -> Iterator[tuple[bool, int, str]]:
        """Yield whether, where and how a line names no client, those of the list before those of the exceptions."""
        nobody = _Named.select(_Named.is_excluded, _Named.line, _Named.value).where(_Named.client.is_null())
        yield from fetch_tuples(nobody.order_by(_Named.is_excluded, _Named.line))

    def lines(self) -> Iterator[Sequence["NamedLine"]]:
        """Yield the lines of the list, so many at a time, in their order."""
        last = 0
        while lines := self._lines_after(last):
            yield lines
            last = lines[-1].line

    @staticmethod
    def _lines_after(last: int) -> Sequence["NamedLine"]:
        named = _Named.select(_Named.line, _Named.value, _Named.client).where(_Named.line > last)
        return [NamedLine(*row) for row in fetch_tuples(named.order_by(_Named.line).limit(_CHANGED_AT_A_TIME))]


def _note(context: Context, listed: ClientList, digest: Any, *, is_excluded: bool) -> None:
    rows = ((is_excluded, line, value[:_LONGEST_NAME], *_keys(value)) for line, value in _values(listed, digest))
    columns = ("is_excluded", "line", "value", "identifier", "email_key", "reference")
    while chunk := list(islice(rows, _LINES_AT_A_TIME)):
        insert_many(context.database, "named_client", columns, chunk)


def _values(listed: ClientList, digest: Any) -> Iterator[tuple[int, str]]:
    """Yield the names of clients in a file, with the numbers of the lines where they begin; empty ones are left out."""
    lines = _lines(listed, digest)
    if listed.column:
        yield from _cells(listed, lines)
        return
    for number, line in enumerate(lines, 1):
        value = line.strip()
        if "\r" in value:
            raise InvalidInput(
                "{name}:{number}: it has a carriage return within a line",
                "Save it with the line breaks of Unix or Windows.",
                name=listed.name,
                number=number,
            )
        if value:
            yield number, value


def _cells(listed: ClientList, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    # Imported here: most files that name clients are no tables.
    import csv

    first = next(lines, "")
    # What stands in quotes does not tell what parts the cells.
    delimiter = max(";,\t", key=re.sub(r'"[^"]*"', "", first).count)
    # Strict: a quote that nothing closes would else swallow the lines below it.
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        place = _place(listed, next(reader, []))
        number = reader.line_num + 1
        for row in reader:
            # A row that lacks only this cell is told as one that names nobody.
            if any(cell.strip() for cell in row):
                yield number, remove_guard(row[place].strip()) if len(row) > place else ""
            number = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            "{name}:{line}: {error}", "Save it as CSV.", name=listed.name, line=reader.line_num, error=error
        ) from None


def _place(listed: ClientList, header: list[str]) -> int:
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


def _lines(listed: ClientList, digest: Any) -> Iterator[str]:
    number = 0
    while line := listed.stream.readline(_LONGEST_LINE + 1):
        number += 1
        digest.update(line)
        if len(line) > _LONGEST_LINE:
            raise InvalidInput(
                "{name}:{number}: the line is longer than {most} bytes",
                "Name one client on each line.",
                name=listed.name,
                number=number,
                most=_LONGEST_LINE,
            )
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = ""
        # PostgreSQL takes no NUL; a file that has one is UTF-16 or no text at all.
        if not text or "\0" in text:
            raise InvalidInput(
                "{name}:{number}: it is not UTF-8 text", "Save it as UTF-8.", name=listed.name, number=number
            )
        # The mark that spreadsheets begin a file with; where files were joined, it is anywhere.
        yield text.removeprefix("\ufeff")


def _keys(value: str) -> tuple[str | None, str | None, str | None]:
    """Return how a name may be found: as an identifier, else as an e-mail, else as a reference."""
    if len(value) > _LONGEST_NAME:
        return None, None, None
    reference = fields.normalize(value)
    if reference.startswith(REFERENCE_PREFIX):
        return None, None, reference.removeprefix(REFERENCE_PREFIX).strip()
    email_key = None
    if "@" in value:
        # What is no address may be a reference all the same.
        with suppress(InvalidInput):
            email_key = email_address.parse_email(value).key
    return (value if identifier.is_identifier(value) else None), email_key, reference


def _resolve(*conditions: Any) -> None:
    """Find the clients of the names, by the indexes of their files, among those for whom these conditions hold."""
    for field in ("identifier", "email_key", "reference"):
        named, column = getattr(_Named, field), getattr(Client, field)
        found = Client.select(Client.id).where(column == named, *conditions)
        _Named.update(client=found).where(_Named.client.is_null() & named.is_null(False)).execute()
